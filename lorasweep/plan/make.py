"""Make the plan of a recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from lorasweep.components import bases
from lorasweep.core import registry
from lorasweep.core.errors import ConfigError, DatasetError, InputError, Problem
from lorasweep.core.records import Plan, PlannedImage, Recipe, digest
from lorasweep.plan import budget, compute, learning_rate, lora_files, memory, noise, reach, regularization, warnings
from lorasweep.plan.dataset import Dataset, read_dataset
from lorasweep.plan.sample_requests import write_prompts


def make_plan(recipe: Recipe) -> Plan:
    """Work out what a recipe means: images, steps, exposures, rungs, prompts.

    An epoch is what kohya's trainers call one: per bucket, ceil(images x repeats / batch size) batches, and
    `gradient_accumulation` batches per optimizer step, rounded up. With `train.steps_per_epoch`, an epoch
    counts as that many optimizer steps instead; the order of images just goes on.

    Raises:
        ConfigError, DatasetError: with all problems of the base, the folder, the captions and the images.
    """
    problems: list[Problem] = []
    base_fingerprint, noise_notes = _base(recipe, problems)
    wrong_base = bool(problems)
    problems += [] if wrong_base else list(lora_files.problems(recipe))
    dataset: Dataset | None = None
    extra: tuple[PlannedImage, ...] = ()
    notes: list[str] = []
    try:
        dataset = read_dataset(recipe)
    except InputError as error:
        problems += error.problems
    try:
        extra, notes = regularization.plan_images(recipe, dataset, base_fingerprint)
    except InputError as error:
        problems += error.problems
    if problems or dataset is None:
        raise (ConfigError if wrong_base else DatasetError)(problems, subject="what the recipe names")
    dataset = dataclasses.replace(dataset, warnings=(*dataset.warnings, *noise_notes, *notes))
    return _plan(recipe, dataset, extra, base_fingerprint)


def for_seed(recipe: Recipe, plan: Plan, seed: int) -> tuple[Recipe, Plan]:
    """Make the recipe and the plan of another seed: the same images and warnings; a last epoch sees others of them."""
    if seed == recipe.seed:
        return recipe, plan
    recipe = dataclasses.replace(recipe, seed=seed)
    counted = budget.count(plan.train_images(), recipe.train, seed=seed, regularization=plan.reg_images)
    return recipe, dataclasses.replace(plan, **_by_seed(recipe, plan.material, counted, plan.train_images()))


def _plan(recipe: Recipe, dataset: Dataset, extra: tuple[PlannedImage, ...], base_fingerprint: str) -> Plan:
    train = tuple(image for image in dataset.images if image.split == "train")
    if problems := list(budget.epoch_problems(train)):
        raise DatasetError(problems, subject="the dataset")
    counted = budget.count(train, recipe.train, seed=recipe.seed, regularization=extra) if train else budget.NOTHING
    judged = lora_files.has_files(recipe)
    if problems := [] if judged else list(budget.problems(recipe, counted.steps)):
        raise ConfigError(problems, subject="the recipe")
    steps, rungs = counted.steps, budget.rungs(counted.steps, recipe.train.rungs)
    if judged:
        rungs = tuple(recipe.adapter.options["steps"])
        steps = rungs[-1]
    decides = [base_fingerprint, [_identity(image) for image in (*dataset.images, *extra)]]
    given = lora_files.digests(recipe)
    material = digest([*decides, given] if given else decides)
    plan = Plan(
        material=material,
        images=dataset.images,
        trigger=dataset.trigger,
        batches_per_epoch=counted.batches_per_epoch,
        steps_per_epoch=counted.steps_per_epoch,
        steps=steps,
        rungs=rungs,
        prompts=write_prompts(recipe, dataset),
        reg_images=extra,
        **_by_seed(recipe, material, counted, train),
    )
    window = registry.load("base", recipe.base.name).text_window(recipe.base)
    found = [*dataset.warnings, *reach.long_captions(plan, window)]
    found += lora_files.notes(recipe, plan.trigger) if judged else warnings.find(recipe, plan, counted)
    return dataclasses.replace(plan, warnings=tuple(found))


def _by_seed(recipe: Recipe, material: str, counted: budget.Budget, train: Sequence[PlannedImage]) -> dict[str, Any]:
    """Return what of a plan depends on the recipe's seed."""
    return {
        "fingerprint": digest([recipe.fingerprint(), material, *(each.digest() for each in registry.used(recipe))]),
        "exposures": counted.by_concept,
        "tag_exposures": reach.tag_exposures(train, counted.by_image, recipe.captions),
        "exposures_per_image": sum(counted.by_image) / max(1, len(counted.by_image)),
        "reg_exposures": counted.by_source,
    }


def _base(recipe: Recipe, problems: list[Problem]) -> tuple[str, list[str]]:
    """Digest the base's files and say what is worth a warning, or append what is wrong with them."""
    base, drawing = registry.load("base", recipe.base.name), recipe.sample.base
    found = [Problem(f"base.{key}", message, hint) for key, message, hint in base.problems(recipe.base)]
    if drawing and not found:
        wrong = base.sibling_problems(recipe.base, drawing)
        found = [Problem("sample.base", message, hint) for _, message, hint in wrong]
    problems += found
    if found:
        return "", []
    noised = base.noise(recipe.base)
    problems += [*noise.problems(recipe, noised), *memory.problems(recipe), *compute.problems(recipe)]
    problems += learning_rate.problems(recipe)
    return bases.fingerprint(recipe), list(noise.warnings(recipe, noised))


def _identity(image: PlannedImage) -> dict[str, object]:
    """Return what decides the result, without where the file happens to lie.

    A profile or a mask counts once there is one: what was cooked from images without is what it was.
    """
    ignored = ("file", "mask") if image.profile else ("file", "mask", "profile")
    kept = {key: value for key, value in vars(image).items() if key not in ignored}
    return kept if image.mask is None else {**kept, "mask": [image.mask.channel, image.mask.sha256]}
