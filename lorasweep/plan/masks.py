"""The masks of the images that are trained on: found, and checked against their images.

Takes planned images, gives them back with their masks, or raises with every problem. Images that only judge need none.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lorasweep.core import paths
from lorasweep.core.errors import DatasetError, Problem
from lorasweep.core.printable import some
from lorasweep.core.records import DatasetOptions, Mask, PlannedImage
from lorasweep.data.images import plan_mask
from lorasweep.data.tree import OWN_MASKS, is_image, mask_beside, walk


def put(
    options: DatasetOptions, root: Path, images: Sequence[PlannedImage]
) -> tuple[tuple[PlannedImage, ...], list[str]]:
    """Give each training image its mask; and say what is odd about them.

    Raises:
        DatasetError: masks are missing, cannot be read, have other sizes than their images, or leave nothing.
    """
    if options.masks is None:
        return tuple(images), []
    trained = [image for image in images if image.split == "train"]
    channel: Literal["alpha", "gray"] = "alpha" if options.masks == "alpha" else "gray"
    files, notes = _find(options.masks, root.absolute(), images)
    problems: list[Problem] = []
    found: dict[str, Mask | None] = {}
    if missing := [image.short for image in trained if image.path not in files]:
        message = f"has no mask for {len(missing)} of {len(trained)} images: {some(missing)}"
        hint = "NAME-masklabel.png beside each" if options.masks == "beside" else "a mask is named as its image is"
        problems.append(Problem("dataset.masks", message, f"{hint}; one that is all white trains the whole picture"))
    for image in trained:
        if image.path not in files:
            continue
        try:
            found[image.file] = mask = plan_mask(image, files[image.path], channel)
        except DatasetError as error:
            problems += error.problems
            continue
        if mask and mask.share == 0 and options.unmasked_weight == 0:
            message = "is black all over the crop that is trained on, so that nothing of the image is"
            problems.append(Problem(paths.short(Path(mask.file)), message, "mend it, or dataset.unmasked_weight=0.1"))
    masked = [mask for mask in found.values() if mask]
    whole = [image.short for image in trained if image.file in found and found[image.file] is None]
    if whole and not masked and not problems:
        message = "is alpha, and no image is transparent anywhere"
        problems.append(Problem("dataset.masks", message, "dataset.masks=beside, or a folder of masks"))
    if problems:
        raise DatasetError(problems, subject=f"the masks of {root}")
    if whole:
        notes.append(f"no transparency, so the whole picture is trained: {some(whole)}")
    return tuple(dataclasses.replace(image, mask=found.get(image.file)) for image in images), notes


def told(images: Sequence[PlannedImage], options: DatasetOptions) -> dict[str, float]:
    """Return the shares of pictures that masks let count, and what the rest counts; nothing without masks."""
    if not (shares := [image.mask.share for image in images if image.mask]):
        return {}
    found = {"mean": sum(shares) / len(shares), "least": min(shares), "most": max(shares)}
    return {key: round(share, 4) for key, share in found.items()} | {"rest": options.unmasked_weight}


def _find(masks: str, root: Path, images: Sequence[PlannedImage]) -> tuple[dict[Path, Path], list[str]]:
    """Return masks by their images, as far as they are there; and what lies in the folder in vain."""
    if masks == "alpha":
        return {image.path: image.path for image in images}, []
    if masks == "beside":
        places = {image.path: mask_beside(image.path) for image in images}
        return {image: mask for image, mask in places.items() if mask.is_file()}, []
    folder = Path(masks).expanduser().absolute()
    if not folder.is_dir():
        hint = f"looked at {folder}; or one of {', '.join(OWN_MASKS)}"
        raise DatasetError(Problem("dataset.masks", f"no such folder: {masks!r}", hint))
    files = [file.path for part in walk(folder).folders for file in part.files if is_image(file.path)]
    named = {paths.whole(file.relative_to(folder).with_suffix("")): file for file in files}
    names = Counter(paths.whole(Path(image.path.stem)) for image in images)
    found: dict[Path, Path] = {}
    for image in images:
        inside = image.path.relative_to(root) if image.path.is_relative_to(root) else Path(image.path.name)
        name = paths.whole(Path(image.path.stem))
        # By the name alone only where it is one image's: `1_a/0.png` and `1_b/0.png` have two masks.
        file = named.get(paths.whole(inside.with_suffix(""))) or (named.get(name) if names[name] == 1 else None)
        if file is not None:
            found[image.path] = file
    unused = [paths.short(file) for file in sorted({*files} - {*found.values()})]
    return found, [f"masks of no image: {some(unused)}"] if unused else []
