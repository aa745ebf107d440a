"""Keys that do nothing, or undo the training, as they stand together. Sentences, not errors."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator

from lorasweep.core.records import DollhouseOptions, Plan, Recipe, TrainOptions
from lorasweep.data import captions


def find(recipe: Recipe, plan: Plan) -> Iterator[str]:
    """Find what a person would not have typed had they known."""
    yield from _budget(recipe)
    yield from _dollhouse(recipe)
    yield from _text_encoder(recipe)
    yield from _captions(recipe, plan)
    if recipe.base.negative_prompt and recipe.sample.guidance <= 1:
        yield f"base.negative_prompt is not used: sample.guidance={recipe.sample.guidance:g} guides nothing"
    yield from _rank(recipe)
    floor, lr = recipe.scheduler.options.get("min_lr"), recipe.optimizer.options["lr"]
    if floor and floor >= lr:
        yield f"scheduler.min_lr={floor:g} is no floor under optimizer.lr={lr:g}: 0 is taken"


def _budget(recipe: Recipe) -> Iterator[str]:
    train = recipe.train
    if train.max_steps is None:
        return
    for knob in ("epochs", "steps_per_epoch"):
        value = getattr(train, knob)
        if value not in (None, getattr(TrainOptions(), knob)):
            yield (
                f"train.max_steps={train.max_steps} decides: train.{knob} is not read, got {value} "
                "(train.max_steps=null for epochs)"
            )


def _dollhouse(recipe: Recipe) -> Iterator[str]:
    given, default = recipe.dataset.dollhouse, DollhouseOptions()
    changed = [
        f"dataset.dollhouse.{field.name}={getattr(given, field.name)}"
        for field in dataclasses.fields(given)
        if getattr(given, field.name) != getattr(default, field.name)
    ]
    if recipe.dataset.drawn is None and changed:
        are = "is" if len(changed) == 1 else "are"
        yield f"{', '.join(changed)} {are} not read: dataset.path gives the images"


def _text_encoder(recipe: Recipe) -> Iterator[str]:
    rate = recipe.optimizer.options.get("text_encoder_lr")
    trains = recipe.adapter.options.get("text_encoder")
    if rate is not None and not trains:
        yield f"optimizer.text_encoder_lr={rate:g} is not used: adapter.text_encoder is false"
    if rate == 0 and trains:
        yield "optimizer.text_encoder_lr=0 never moves it: adapter.text_encoder=false costs less"


def _captions(recipe: Recipe, plan: Plan) -> Iterator[str]:
    options = recipe.captions
    if options.dropout == 1:
        yield "captions.dropout=1 trains on empty captions only: no word, and no trigger, is learned"
    if options.tag_dropout == 1:
        kept = "no tag is" if options.keep_tokens == 0 else f"only the first {options.keep_tokens} tags are"
        yield f"captions.tag_dropout=1: {kept} ever seen"
    if options.keep_tokens > 1 and not options.shuffle and not options.tag_dropout:
        yield (
            f"captions.keep_tokens={options.keep_tokens} does nothing without captions.shuffle or captions.tag_dropout"
        )
    if options.shuffle or options.tag_dropout > 0:
        longest = max(len(captions.tags(image.caption, options)) for image in plan.train_images())
        behind = f"behind the first {options.keep_tokens} (captions.keep_tokens), separated by {options.separator!r}"
        if options.shuffle and longest < options.keep_tokens + 2:
            yield f"captions.shuffle does nothing: no caption has two tags {behind}"
        if options.tag_dropout > 0 and longest < options.keep_tokens + 1:
            yield f"captions.tag_dropout does nothing: no caption has a tag {behind}"
    trigger = plan.trigger
    if trigger and not any(captions.has_trigger(i.caption, trigger) for i in plan.train_images()):
        yield f"no caption that is trained on has the trigger {trigger}, so it learns nothing"


def _rank(recipe: Recipe) -> Iterator[str]:
    """A rank beyond the layers' sizes adds numbers and no freedom."""
    base = importlib.import_module(f"lorasweep.components.bases.{recipe.base.name}")
    largest = base.largest_rank(recipe.base)
    for knob in ("dim", "conv_dim"):
        rank = recipe.adapter.options.get(knob, 0)
        if rank > largest:
            yield (
                f"adapter.{knob}={rank} is beyond the rank of any layer of the base, {largest} at most: what "
                "is over it only costs memory"
            )
