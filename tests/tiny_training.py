"""A recipe, a plan and a few images for the base of `tiny_sd`: enough to train for a handful of steps."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import shipped
from PIL import Image

from lorasweep.config.places import LIST_GROUPS
from lorasweep.core.records import (
    BaseOptions,
    Bucket,
    CaptionOptions,
    Component,
    DatasetOptions,
    Plan,
    PlannedImage,
    Recipe,
    SampleOptions,
    TrainOptions,
)
from lorasweep.data.order import batches_per_epoch

COMPONENTS = ("buckets", "adapter", "optimizer", "scheduler")
# A run of three rungs that takes a second, with what is judged by forward passes alone.
THREE_RUNGS = (
    "train.max_steps=6",
    "train.rungs=3",
    "train.batch_size=2",
    "train.log_every=1",
    "train.device=cpu",
    "dataset.dollhouse.images=8",
    "sample.steps=2",
    "sample.weights=[0.4,0.7]",
    "metrics=[generalisation,prior_drift]",
    "tracking=none",
)
# Words of a recipe that draws a picture of three prompts each, where the pictures are not the point.
FEW_PICTURES = ["dataset.prompts={in_distribution: [zkw], class: [1girl], unrelated: [hat]}", "sample.guidance=1"]
CAPTIONS = ("zkw, 1girl, red hair, blue dress", "zkw, 1girl, red hair, smile", "zkw, 1girl, red hair")


def make_recipe(base: Path, **changes: Any) -> Recipe:
    """A LoRA of dim 2 trained with AdamW; `changes` replace fields of the recipe.

    Knobs that a part lacks are as `conf/` ships them.
    """
    recipe = Recipe(
        seed=0,
        base=BaseOptions(name="stable_diffusion", path=str(base), resolution=32, bucket_step=8),
        dataset=DatasetOptions(),
        captions=CaptionOptions(),
        buckets=Component(name="single"),
        adapter=Component(name="lora", options={"dim": 2, "alpha": 1.0}),
        optimizer=Component(name="adamw", options={"lr": 1e-2}),
        scheduler=Component(name="cosine_with_restarts", options={"num_cycles": 2, "warmup": 1}),
        regularization={},
        train=TrainOptions(max_steps=8, batch_size=2, device="cpu"),
        sample=SampleOptions(),
        metrics={},
    )
    recipe = dataclasses.replace(recipe, **changes)
    parts: dict[str, Any] = {group: _whole(recipe, group) for group in COMPONENTS}
    for group in LIST_GROUPS:
        named = getattr(recipe, group).items()
        parts[group] = {name: {**shipped.knobs(group, name), **knobs} for name, knobs in named}
    return dataclasses.replace(recipe, **parts)


def _whole(recipe: Recipe, group: str) -> Component:
    part: Component = getattr(recipe, group)
    return dataclasses.replace(part, options={**shipped.knobs(group, part.name), **part.options})


def make_plan(recipe: Recipe, folder: Path, *, images: int = 5) -> Plan:
    """Random images in two buckets, the last one held out; 8 steps."""
    planned = tuple(_draw(folder, number, held_out=number == images - 1) for number in range(images))
    train = [image for image in planned if image.split == "train"]
    batches = batches_per_epoch(train, recipe.train.batch_size)
    return Plan(
        fingerprint=recipe.fingerprint(),
        images=planned,
        trigger="zkw",
        batches_per_epoch=batches,
        steps_per_epoch=-(-batches // recipe.train.gradient_accumulation),
        steps=8,
        exposures={},
        tag_exposures={},
        exposures_per_image=1.0,
        rungs=(4, 8),
        prompts={},
    )


def _draw(folder: Path, number: int, *, held_out: bool) -> PlannedImage:
    bucket = Bucket(width_px=32, height_px=32 if number % 2 == 0 else 48)
    pixels = np.random.default_rng(number).integers(0, 256, (bucket.height_px, bucket.width_px, 3), np.uint8)
    file = folder / f"{number:04d}.png"
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    return PlannedImage(
        file=str(file),
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        concept="1_zkw",
        caption=CAPTIONS[number % len(CAPTIONS)],
        split="held_out" if held_out else "train",
        repeats=1 + number % 2,
        width_px=bucket.width_px,
        height_px=bucket.height_px,
        bucket=bucket,
        resize_px=(bucket.width_px, bucket.height_px),
        crop_px=(0, 0),
    )


def train(slot: Any, base: Any, steps: int) -> list[dict[str, float]]:
    """Advance one slot; what each step logged."""
    from lorasweep.trial.train.loop import advance

    rows: list[dict[str, float]] = []
    advance([slot], base, steps=steps, on_step=lambda _, metrics: rows.append(metrics))
    return rows
