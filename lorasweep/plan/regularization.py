"""Images that are trained on so that something is not forgotten: found in a folder, or the base's to draw.

    the recipe's regularizers + its dataset  ->  PlannedImages of split "regularization"

Every source's images are repeated until they keep up with the training images, as kohya's trainers do. What
the base is to draw is only named here: prompt, seed, size, and the file that it will be in. No torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lorasweep.core import paths, registry, seeds
from lorasweep.core.errors import DatasetError, InputError, Problem
from lorasweep.core.printable import some
from lorasweep.core.protocols import RegularizationImages
from lorasweep.core.records import Bucket, GeneratedImage, PlannedImage, Recipe, digest
from lorasweep.data import captions
from lorasweep.data.assign import Row
from lorasweep.data.folder import FoundImage
from lorasweep.plan.dataset import Dataset, find_readable, make_rows, unused_parts


@dataclass(frozen=True, kw_only=True)
class ImagePlanner:
    """What a source plans its images with."""

    recipe: Recipe  # whose images they are
    dataset: Dataset | None  # what is trained on; None when it could not be read
    base_fingerprint: str  # of the base that draws
    name: str  # of the regularizer, for its problems
    notes: list[str]  # what is worth knowing; sources append

    @property
    def train(self) -> tuple[PlannedImage, ...]:
        """The dataset's training images."""
        images = self.dataset.images if self.dataset else ()
        return tuple(image for image in images if image.split == "train")

    @property
    def trigger(self) -> str | None:
        """The word that calls the subject."""
        return self.dataset.trigger if self.dataset else None

    def wrong(self, knob: str, message: str, hint: str = "") -> InputError:
        """Return the error of one knob."""
        return DatasetError(Problem(f"regularization.{self.name}.{knob}", message, hint))

    def found(self, root: Path) -> list[PlannedImage]:
        """Plan the images of a folder: captions cleaned as the dataset's, nothing pruned, no trigger added.

        Raises DatasetError with every problem of the folder, its captions and images.
        """
        key = f"regularization.{self.name}.path"
        folder = find_readable(self.recipe, root, key)
        rows, problems = make_rows(self.recipe, folder.images)
        problems += self._uncaptioned(folder.images, key)
        problems += self._not_of_their_own(rows, len(folder.images), key)
        if problems:
            raise DatasetError(problems, subject=f"the regularization images {root}")
        nested = [f"{inner} in it is left out: {key}={inner}" for inner in folder.regularization]
        unused = unused_parts(rows, self.recipe.captions.extension)
        self.notes.extend(f"{self.name}: {said}" for said in (*folder.warnings, *unused, *nested))
        options = dataclasses.replace(self.recipe.captions, prune=())
        return [
            row.planned(
                concept=self.name,
                caption=captions.planned(row.found.text, None, options),
                split="regularization",
                repeats=row.found.repeats,
            )
            for row in rows
        ]

    def drawn(self, prompts: Sequence[str], *, each: int) -> list[PlannedImage]:
        """Plan pictures that the base draws, captioned with the prompts themselves.

        They take turns by prompt, so that whatever number is used is of all prompts alike, and have the sizes
        of the training images in turn. Their seeds do not depend on the recipe's: trials share them.
        """
        sizes = [image.bucket for image in self.train]
        wanted = [(prompt, number) for number in range(each) for prompt in prompts]
        return [self._drawn(prompt, number, sizes[place % len(sizes)]) for place, (prompt, number) in enumerate(wanted)]

    def strangers(self, count: int) -> list[PlannedImage]:
        """Plan pictures of others of the subject's class, which the dollhouse's world draws."""
        from lorasweep.plan.dollhouse_dataset import draw_strangers

        return self.found(draw_strangers(count))

    def _drawn(self, prompt: str, number: int, bucket: Bucket) -> PlannedImage:
        seed = seeds.derive(self.recipe.dataset.holdout_seed, "class image", prompt, number) % 2**32
        drawing = GeneratedImage(prompt=prompt, seed=seed)
        return PlannedImage(
            file=str(self._file_of(drawing, bucket)),
            sha256="",
            concept=self.name,
            caption=prompt,
            split="regularization",
            repeats=1,
            width_px=bucket.width_px,
            height_px=bucket.height_px,
            bucket=bucket,
            resize_px=(bucket.width_px, bucket.height_px),
            crop_px=(0, 0),
            drawing=drawing,
        )

    def _file_of(self, drawing: GeneratedImage, bucket: Bucket) -> Path:
        """Return where the picture is, or will be: by everything that it depends on."""
        base, sample = self.recipe.base, self.recipe.sample
        by_base = [self.base_fingerprint, base.clip_skip, base.negative_prompt, self.recipe.train.precision]
        how = [*by_base, sample.sampler, sample.steps, sample.guidance]
        how += [] if sample.guidance_rescale is None else [sample.guidance_rescale]  # as when there was none
        key = digest([how, drawing, bucket])[:32]
        return paths.cache("class_images") / key[:2] / f"{key}.png"

    def _uncaptioned(self, files: Sequence[FoundImage], key: str) -> list[Problem]:
        without = [image for image in files if image.caption is None and not image.class_tokens]
        if not without:
            return []
        message = (
            f"{len(without)} of {len(files)} images have neither a caption file nor a folder name that says "
            f"what they show, e.g. {without[0].short}"
        )
        return [Problem(key, message, "add .txt files, or name their folder like `1_girl`")]

    def _not_of_their_own(self, rows: Sequence[Row], count: int, key: str) -> list[Problem]:
        """Refuse the dataset's own images: they would hold the subject back, or show what is held out."""
        ours = {image.sha256 for image in self.dataset.images} if self.dataset else set()
        same = [row.found for row in rows if row.facts.sha256 in ours]
        if not same:
            return []
        names = some([image.short for image in same])
        message = f"{len(same)} of {count} images are also in the dataset, e.g. {names}"
        hint = "give images of the class; regularization=prior_prediction uses the dataset's own"
        root = self.recipe.dataset.path
        if root is not None and same[0].path.is_relative_to(Path(root).expanduser().absolute()):
            hint = f"dataset.path={root} holds this folder too: give the subject's own, or move it out"
        return [Problem(key, message, hint)]


def plan_images(
    recipe: Recipe, dataset: Dataset | None, base_fingerprint: str
) -> tuple[tuple[PlannedImage, ...], list[str]]:
    """Plan the images that the recipe's regularizers add, each with its repeats, loss weight and target; and warnings.

    Args:
        recipe: its `regularization` names the sources.
        dataset: None when it could not be read: then only what does not depend on it is looked at.
        base_fingerprint: "" when the base could not be found.

    Raises:
        DatasetError: with every problem of every source.
    """
    sources = _sources(recipe)
    problems: list[Problem] = []
    notes: list[str] = []
    planned: list[PlannedImage] = []
    by_base = any(source.target == "base" for source in sources.values())
    target: Literal["noise", "base"] = "base" if by_base else "noise"
    for name, source in sources.items():
        alone = len(sources) == 1
        if (source.only_alone and not alone) or (source.needs_dataset and dataset is None):
            continue
        planner = ImagePlanner(
            recipe=recipe, dataset=dataset, base_fingerprint=base_fingerprint, name=name, notes=notes
        )
        try:
            images = _repeated(source.plan(planner), source, planner)
        except InputError as error:
            problems += error.problems
        else:
            planned += [dataclasses.replace(image, target=target) for image in images]
    if problems:
        raise DatasetError(problems, subject="the regularization")
    return tuple(planned), notes


def _sources(recipe: Recipe) -> dict[str, RegularizationImages]:
    built = {
        name: registry.load("regularization", name).build(**knobs) for name, knobs in recipe.regularization.items()
    }
    return {name: source for name, source in built.items() if isinstance(source, RegularizationImages)}


def _repeated(found: Sequence[PlannedImage], source: RegularizationImages, planner: ImagePlanner) -> list[PlannedImage]:
    """Repeat a source's images until they keep up with the dataset's; those beyond that are left out."""
    wanted = round(source.share * sum(image.repeats for image in planner.train))
    counts = balance_repeats([image.repeats for image in found], wanted)
    used = [
        dataclasses.replace(image, repeats=count, loss_weight=source.prior_loss_weight)
        for image, count in zip(found, counts, strict=True)
        if count > 0
    ]
    if len(used) < len(found) and planner.dataset is not None:
        planner.notes.append(
            f"{planner.name}: {len(found) - len(used)} of {len(found)} images are left out: "
            f"{wanted} exposures an epoch are enough, {source.share:g} for each of the dataset's"
        )
    return used


def balance_repeats(repeats: Sequence[int], wanted: int) -> list[int]:
    """Raise the repeats of images, one image at a time and round after round, until they reach a number.

    The first round takes images at the repeats they come with, and ends as soon as that is enough: the images
    after it are not used at all. Every further round adds 1 to each.

    Args:
        repeats: of each image as its folder says; >= 1.
        wanted: exposures in an epoch; >= 0.

    Returns:
        Repeats, 0 for an image that is not used. Their sum is `wanted`, or more when the repeats of the first
        round overshoot it.

    Source: kohya-ss/sd-scripts, library/train_util.py, DreamBoothDataset, at 48d368fa.
    """
    counts = [0] * len(repeats)
    dealt = 0
    for index, times in enumerate(repeats):
        if dealt >= wanted:
            return counts
        counts[index] = times
        dealt += times
    rounds, rest = divmod(max(0, wanted - dealt), max(1, len(repeats)))
    return [count + rounds + (index < rest) for index, count in enumerate(counts)]
