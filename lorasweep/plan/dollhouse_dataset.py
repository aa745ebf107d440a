"""The dollhouse dataset on disk: drawn once per set of options and per version of the world, then reused."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from lorasweep.core import files, paths
from lorasweep.core.errors import DatasetError, Problem
from lorasweep.core.records import DollhouseOptions, digest
from lorasweep.data.tree import mask_beside
from lorasweep.dollhouse import world

# Width, height of `shapes: photos`: a square and the ratios of cameras and screens, none a bucket's own size.
_PHOTOS_PX = (
    *((64, 64), (60, 80), (80, 60), (54, 81), (81, 54), (52, 92)),
    *((92, 52), (46, 96), (96, 46), (42, 105), (105, 42), (72, 90)),
)


def draw_dataset(options: DollhouseOptions, *, masked: bool = False) -> Path:
    """Return the folder of the dataset under `cache/dollhouse/`, drawing it first when it is not there.

    Where it is `masked`, the figure's mask lies beside each image.

    Raises:
        DatasetError: there is no such subject, its outfits or images are too few, or it cannot be written there.
    """
    wrong = world.undrawable(options.subject, images=options.images, outfits=options.outfits)
    if wrong:
        problems = [Problem(f"dataset.dollhouse.{key}", message) for key, message in wrong.items()]
        raise DatasetError(problems, subject="the dollhouse dataset")
    drawn = [options, _world_version(), *(["masks"] if masked else [])]
    folder = paths.cache("dollhouse") / digest(drawn)[:16]

    def fill(draft: Path) -> None:
        _write_dataset(options, draft)
        if masked:
            _write_masks(draft)

    return _once(folder, fill)


def draw_strangers(count: int) -> Path:
    """Return a folder of dolls that are not any subject, with full captions, drawing it first when needed.

    They have no marks, and take the sizes of the datasets in turn. The same whatever the recipe's seeds are.
    """
    folder = paths.cache("dollhouse") / digest(["strangers", count, _world_version()])[:16]
    return _once(folder, lambda draft: _write_strangers(draft / "1_1girl", count))


def _once(folder: Path, fill: Callable[[Path], object]) -> Path:
    """Fill a folder that is not there yet; of several processes, the first one wins."""
    try:
        if not folder.is_dir():
            files.write_folder_once(folder, fill)
    except OSError as error:
        raise DatasetError(paths.unwritable(folder.parent, error, what="the dollhouse dataset")) from error
    return folder


def _write_strangers(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        spec = world.sample_spec(np.random.default_rng([number]))
        width_px, height_px = world.SIZES_PX[number % len(world.SIZES_PX)]
        path = folder / f"{number + 1:04d}.png"
        world.render(spec, width_px, height_px).save(path)
        files.write_text(path.with_suffix(".txt"), ", ".join(world.tags(spec)) + "\n")


def _write_dataset(options: DollhouseOptions, folder: Path) -> None:
    world.write_dataset(
        folder,
        subject=options.subject,
        images=options.images,
        outfits=options.outfits,
        confound=options.confound,
        seed=options.seed,
        captions=options.captions,
        sizes=world.SIZES_PX if options.shapes == "five" else _PHOTOS_PX,
    )


def _write_masks(folder: Path) -> None:
    """Write each image's mask beside it, from what the world said it drew."""
    for name, truth in files.read_object(folder / "world.json")["images"].items():
        with Image.open(folder / name) as image:
            size_px = image.size
        _figure(world.Spec.from_dict(truth), size_px).save(mask_beside(folder / name))


def _figure(spec: world.Spec, size_px: tuple[int, int]) -> Image.Image:
    """Return a mask of the doll: white where nothing of what is behind it is seen."""
    backgrounds = ("night sky", "snow")  # nowhere alike
    dark, bright = (
        np.asarray(world.render(dataclasses.replace(spec, background=each), *size_px)) for each in backgrounds
    )
    return Image.fromarray(np.where((dark == bright).all(2), 255, 0).astype(np.uint8))


def _world_version() -> str:
    """Digest of the world's own code: another way of drawing is another dataset."""
    content = hashlib.sha256()
    for file in sorted(Path(world.__file__).parent.glob("*.py")):
        content.update(file.read_bytes())
    return content.hexdigest()
