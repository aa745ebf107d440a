"""A plan as JSON-able data: what `lorasweep plan --json` prints, and what its tables show. No torch.

    subject, arms with their plans  ->  plan_json, captions_json

Caption files are only read.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from lorasweep.config import Arm, Search, SweepSpec, places
from lorasweep.core import registry
from lorasweep.core.records import CaptionOptions, MemoryOptions, Plan, PlannedImage, Recipe, to_dict
from lorasweep.core.seeds import derive
from lorasweep.data import captions, order
from lorasweep.plan import budget, compute, masks, memory
from lorasweep.plan.cost import caches, sweep_seconds, trial_disk, trial_seconds
from lorasweep.plan.dataset import written_captions
from lorasweep.plan.learning_rate import curves
from lorasweep.plan.reach import shared_tags
from lorasweep.plan.trainable import trainable
from lorasweep.sweep import beforehand, comparable

SHARES = (0.25, 0.5)  # of captions.decouple, to show what it would change
_OF_AN_ARM = ("name", "note", "overrides", "differs", "estimated_seconds", "estimated_gpu_gib", "memory", "compute")


def plan_json(
    name: str,
    subject: SweepSpec | Recipe,
    arms: Sequence[tuple[Arm, Plan]],
    *,
    trials: int,
    workers: int,
    pack: tuple[int, str] | None,
    taken: Mapping[str, dict[str, Any]],
    warnings: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Describe a plan, but for its time; the arguments are what a `Planned` has.

    Returns:
        At the top level the first arm's plan, and: `name`, `trials`, `estimated_bytes`
        (of run folders, of MLflow's copy; absent where a base does not tell), of every arm `compute` (switches),
        `estimated_gpu_gib` (the recipe's as "", and by choices of group memory) and `memory` (what a worker has of its
        device's, what the recipe takes, what is turned on for that; {} where it is not known), `caches` (encoded once),
        `pack` (trials that a worker trains at a time, and why),
        `left_out` (symptoms that trials are compared without, with the reason), `duplicates` and `asked_otherwise`
        (sentences),
        `arms` (the same keys for every arm, with its `overrides` and what `differs` from the first one in
        plain words); with a space also `space`, and the recipes at its corners among the arms.
    """
    plans, by_name = [plan for _, plan in arms], {arm.name: plan for arm, plan in arms}
    question = ""
    of_sweep: dict[str, Any] = {}
    if isinstance(subject, SweepSpec):
        question = subject.question
        of_sweep["left_out"] = comparable.left_out(subject, by_name)
        of_sweep["duplicates"] = beforehand.duplicates(subject, by_name)
        of_sweep["asked_otherwise"] = comparable.asked_otherwise(subject, by_name)
        if subject.search is not None:
            of_sweep["space"] = _space_json(subject, subject.search, plans, workers=workers)
    if pack is not None:
        of_sweep["pack"] = dict(zip(("trials", "why"), pack, strict=True))
    described = [
        _arm_json(arm, plan, plans[0]) | {"warnings": list(warnings[arm.name]), "memory": taken[arm.name]}
        for arm, plan in arms
    ]
    pairs = [(plan, arm.recipe) for arm, plan in arms]
    if hasattr(launcher := registry.load("launcher", subject.launcher.name), "where"):
        of_sweep["where"] = launcher.where(subject.launcher)
    return {
        "name": name,
        "question": question,
        "trials": trials,
        "caches": caches(pairs),
        **_disk_json(pairs, trials=trials),
        **of_sweep,
        **{key: value for key, value in described[0].items() if key not in _OF_AN_ARM},
        "arms": described,
    }


def rounded(seconds: float | None) -> float | None:
    """Return seconds with a decimal; None where they are not known."""
    return None if seconds is None else round(seconds, 1)


def _disk_json(planned: Sequence[tuple[Plan, Recipe]], *, trials: int) -> dict[str, Any]:
    """Return what the known recipes take, the others taken to be like them."""
    each = [trial_disk(plan, recipe) for plan, recipe in planned]
    known = [disk for disk in each if disk is not None]
    if len(known) < len(each):
        return {}
    folders, mirror = (fmean(sizes) * trials for sizes in zip(*((d.run_folder, d.mirror) for d in known), strict=True))
    return {"estimated_bytes": {"run_folders": round(folders), "mlflow": round(mirror)}}


def _arm_json(arm: Arm, plan: Plan, first: Plan) -> dict[str, Any]:
    return {
        "name": arm.name,
        "note": arm.note,
        "overrides": list(arm.overrides),
        "differs": _differences(plan, first),
        "trainable": to_dict(trainable(arm.recipe)),
        "steps_per_trial": plan.steps,
        "steps_per_epoch": plan.steps_per_epoch,
        "exposures": plan.exposures,
        "exposures_per_image": plan.exposures_per_image,
        "tag_exposures": plan.tag_exposures,
        "budget": _exposures_json(plan, arm.recipe),
        "buckets": _buckets_json(plan, arm.recipe),
        "bucket_set": _bucket_set_json(plan, arm.recipe),
        "images": [_image_json(image) for image in plan.images],
        "masks": masks.told(plan.images, arm.recipe.dataset),
        "trigger": plan.trigger,
        "rungs": list(plan.rungs),
        "learning_rate": {
            curve.part: {"peak": curve.highest, "last": curve.last, "shape": list(curve.shape)}
            for curve in curves(arm.recipe, plan.steps)
        },
        "regularization": _regularization_json(arm.recipe, plan),
        "prompts": {tier: list(prompts) for tier, prompts in plan.prompts.items()},
        "fingerprint": plan.fingerprint,
        "estimated_seconds": rounded(trial_seconds(plan, arm.recipe)),
        "estimated_gpu_gib": _gpu_json(arm.recipe),
        "compute": compute.told(arm.recipe),
    }


def _gpu_json(recipe: Recipe) -> dict[str, float]:
    """Return a GPU's peak memory: of the recipe, as "", and by the files of conf/memory/; nothing where not known."""
    kinds = {"": recipe.memory} | {
        name: MemoryOptions(**places.read_choice("memory", name)) for name in places.choices("memory") if name != "auto"
    }
    return {name: round(peak, 1) for name, peak in memory.peaks_gib(recipe, kinds).items()}


def _image_json(image: PlannedImage) -> dict[str, Any]:
    left, top = image.crop_px
    return {
        "file": image.file,
        "split": image.split,
        "size": [image.width_px, image.height_px],
        "bucket": [image.bucket.width_px, image.bucket.height_px],
        "resize": list(image.resize_px),
        "crop": [left, top, left + image.bucket.width_px, top + image.bucket.height_px],
        "repeats": image.repeats,
        "caption": image.caption,
        "concept": image.concept,
    }


def _differences(plan: Plan, first: Plan) -> list[str]:
    found = []
    if plan.steps != first.steps:
        found.append(f"{plan.steps} steps instead of {first.steps}")
    if plan.exposures != first.exposures:
        found.append(f"{_short(plan)} exposures per image instead of {_short(first)}")
    sizes, first_sizes = ({image.bucket for image in p.images} for p in (plan, first))
    if sizes != first_sizes:
        found.append(f"{len(sizes)} bucket(s) instead of {len(first_sizes)}")
    if {i.sha256 for i in plan.images} != {i.sha256 for i in first.images}:
        found.append("other images")
    return found


def _short(plan: Plan) -> str:
    return f"{round(plan.exposures_per_image, 1):g}"


def _space_json(spec: SweepSpec, search: Search, plans: Sequence[Plan], *, workers: int) -> dict[str, Any]:
    """Describe the search of a sweep; the plans are of `spec.known`, in that order."""
    first, last = _share_of_first_rung(spec, plans), 1.0
    steps = [plan.steps for plan in plans]
    found = [trial_seconds(plan, arm.recipe) for plan, arm in zip(plans, spec.known, strict=True)]
    seconds = [each for each in found if each is not None]
    ends = [(min(seconds), first), (max(seconds), last)] if len(seconds) == len(found) else []
    wall_s = [sweep_seconds([end * share], workers=workers, trials=spec.total) for end, share in ends]
    return {
        "axes": search.space.describe(),
        "sampler": to_dict(search.sampler),
        "pruner": to_dict(spec.pruner),
        "constraints": [str(each) for each in spec.constraints],
        "known_recipes": {
            "arms": len(spec.arms),
            "in_the_space": sum(arm.params is not None for arm in spec.arms),
        },
        "seeds": list(spec.seeds),
        "points": -(-(spec.total - len(spec.arms) * len(spec.seeds)) // len(spec.seeds)),
        "recipes_checked": len(search.corners),
        "steps": {
            "per_trial": [min(steps), max(steps)],
            "total": [round(min(steps) * first) * spec.total, max(steps) * spec.total],
        },
        "estimated_seconds_range": list(map(rounded, wall_s)),
        "warnings": list(search.warnings),
        "caches": caches(zip(plans, (arm.recipe for arm in spec.known), strict=True)),
    }


def _share_of_first_rung(spec: SweepSpec, plans: Sequence[Plan]) -> float:
    """Return what the shortest trial trains of its budget: up to its first rung where a pruner may stop it."""
    if not spec.pruner.active:
        return 1.0
    return min(plan.rungs[0] / plan.steps for plan in plans)


def _buckets_json(plan: Plan, recipe: Recipe) -> list[dict[str, Any]]:
    """List every bucket that training images fall into, and what becomes of them there."""
    train = plan.train_images()
    rows = []
    for bucket, members in order.buckets_of(train).items():
        images = [train[index] for index in members]
        rows.append(
            {
                "size": [bucket.width_px, bucket.height_px],
                "images": len(images),
                "batches_per_epoch": order.batches_per_epoch(images, recipe.train.batch_size),
                "aspect_error": round(fmean(image.aspect_error for image in images), 4),
                "cropped_share": round(fmean(image.cropped_share for image in images), 4),
                "largest_enlargement": round(max(image.enlargement for image in images), 3),
            }
        )
    return rows


def _bucket_set_json(plan: Plan, recipe: Recipe) -> dict[str, Any]:
    """Return the whole set in a few numbers.

    Returns:
        `offered`: sizes to choose from, None where they are made on demand; `used`: sizes with images;
        `aspect_error`, `cropped_share`: mean and max over the training images; `enlargement`: least, mean and
        most, 1 being the file's own size; `enlarged`: images that are; `epoch`: batches, batches if images of
        all shapes could share one, images in a batch on average, steps, and steps if they could share.
    """
    train = plan.train_images()
    errors = [image.aspect_error for image in train]
    cropped = [image.cropped_share for image in train]
    factors = [image.enlargement for image in train]
    return {
        "offered": _offered(recipe),
        "used": len({image.bucket for image in train}),
        "aspect_error": {"mean": round(fmean(errors), 4), "max": round(max(errors), 4)},
        "cropped_share": {"mean": round(fmean(cropped), 4), "max": round(max(cropped), 4)},
        "enlargement": {
            "least": round(min(factors), 3),
            "mean": round(fmean(factors), 3),
            "most": round(max(factors), 3),
        },
        "enlarged": sum(factor > 1 for factor in factors),
        "epoch": _epoch_json(train, recipe),
    }


def _epoch_json(train: Sequence[PlannedImage], recipe: Recipe) -> dict[str, Any]:
    """Return epochs: batches never mix buckets, so each bucket may leave one short, and an epoch takes longer."""
    options = recipe.train
    seen = sum(image.repeats for image in train)
    batches = order.batches_per_epoch(train, options.batch_size)
    shared = math.ceil(seen / options.batch_size)
    return {
        "batches": batches,
        "batches_if_shared": shared,
        "images_per_batch": round(seen / batches, 3),
        "steps": math.ceil(batches / options.gradient_accumulation),
        "steps_if_shared": math.ceil(shared / options.gradient_accumulation),
    }


def _offered(recipe: Recipe) -> int | None:
    options = recipe.buckets.options
    if not options["upscale"]:
        return None
    built = registry.load("buckets", recipe.buckets.name).build(recipe.base, **options)
    return len(built)


def _exposures_json(plan: Plan, recipe: Recipe) -> dict[str, Any]:
    """Tell what is seen how often, in the whole training and in an epoch.

    Returns:
        `concepts`: name -> its images, exposures, exposures per image and steps of an epoch that are its own;
        `shared_tags`: tags of several concepts that are trained more than any of them, with how many times as
        much, and about how often by share of captions.decouple, unless that is in force already.
    """
    train = plan.train_images()
    counted = budget.count(train, recipe.train, seed=recipe.seed, regularization=plan.reg_images).by_image
    concepts: dict[str, dict[str, Any]] = {}
    for image, times in zip(train, counted, strict=True):
        row = concepts.setdefault(image.concept, {"images": 0, "exposures": 0, "per_epoch": 0})
        row["images"] += 1
        row["exposures"] += times
        row["per_epoch"] += image.repeats
    batch = recipe.train.batch_size * recipe.train.gradient_accumulation
    for row in concepts.values():
        row["per_image"] = round(row["exposures"] / row["images"], 2)
        row["steps_per_epoch"] = round(row["per_epoch"] / batch, 2)
    shares = SHARES if recipe.captions.decouple == 0 else ()
    shared = [
        {
            **dataclasses.asdict(tag),
            "ratio": round(tag.ratio, 3),
            "decoupled": {str(share): tag.decoupled(share) for share in shares},
        }
        for tag in shared_tags(plan, recipe.captions)
    ]
    return {"concepts": concepts, "shared_tags": shared}


def _regularization_json(recipe: Recipe, plan: Plan) -> dict[str, Any]:
    """Describe the regularization of one recipe.

    Returns:
        `regularizers`: one entry per name, with its `knobs` and, of a source of images, what `_source_json` says.
        `without`: steps, steps per epoch and exposures per image if there were no such images.
    """
    alone = budget.count(plan.train_images(), recipe.train, seed=recipe.seed)
    regularizers = []
    for name, knobs in recipe.regularization.items():
        images = [image for image in plan.reg_images if image.concept == name]
        source = _source_json(images, plan.reg_exposures.get(name, 0)) if images else {}
        regularizers.append({"name": name, "knobs": knobs, **source})
    return {
        "regularizers": regularizers,
        "without": {
            "steps": alone.steps,
            "steps_per_epoch": alone.steps_per_epoch,
            "exposures_per_image": sum(alone.by_image) / len(alone.by_image),
        },
    }


def _source_json(images: Sequence[PlannedImage], exposures: int) -> dict[str, Any]:
    drawn = [image for image in images if image.drawing is not None]
    return {
        "images": len(images),
        "drawn_by_base": len(drawn),
        "to_draw": sum(not image.path.exists() for image in drawn),
        "captions": dict(Counter(image.caption for image in images).most_common()),
        "repeats": [min(i.repeats for i in images), max(i.repeats for i in images)],
        "exposures": exposures,
        "loss_weight": images[0].loss_weight,
        "target": images[0].target,
    }


def captions_json(arms: Sequence[tuple[Arm, Plan]]) -> dict[str, Any]:
    """Describe what every arm's captions become, as JSON-able data.

    Returns:
        `policies`, one per different outcome, with the `arms` that share it, the `trigger`, `images` (`file`,
        `split`, `before`, `after` and, where captions vary, `exposure`: one example of what a step sees) and
        `tags` (`tag`, the training images that have it `before` and `after`, how often training sees it).
    """
    policies: list[dict[str, Any]] = []
    for arm, plan in arms:
        found = _policy(arm.recipe, plan)
        same = next((p for p in policies if all(p[key] == value for key, value in found.items())), None)
        if same is None:
            policies.append({"arms": [arm.name], **found})
        else:
            same["arms"].append(arm.name)
    return {"policies": policies}


def _policy(recipe: Recipe, plan: Plan) -> dict[str, Any]:
    options = recipe.captions
    before = written_captions(recipe)
    images = []
    for number, image in enumerate(plan.images):
        row = {"file": image.file, "split": image.split, "before": before[image.file], "after": image.caption}
        if captions.rearranges(options) or options.dropout > 0:
            rng = random.Random(derive(recipe.seed, "caption preview", number))
            row["exposure"] = captions.vary(image.caption, options, rng)
        images.append(row)
    return {"trigger": plan.trigger, "images": images, "tags": _tags(images, plan, options)}


def _tags(images: list[dict[str, Any]], plan: Plan, options: CaptionOptions) -> list[dict[str, Any]]:
    train = [image for image in images if image["split"] == "train"]
    before, after = (
        Counter(tag for image in train for tag in set(captions.tags(image[when] or "", options)))
        for when in ("before", "after")
    )
    rows = [
        {"tag": tag, "before": before[tag], "after": after[tag], "seen": plan.tag_exposures.get(tag, 0)}
        for tag in sorted({*before, *after})
    ]
    return sorted(rows, key=lambda row: -max(row["before"], row["after"]))
