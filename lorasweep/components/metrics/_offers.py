"""What a recipe lets metrics measure, known before anything is trained; ranges of knobs that several have. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, TypeVar

from pydantic import Field

from lorasweep.core.judging import EncoderName, PriorTier
from lorasweep.core.records import EncoderOptions, Plan, PlannedImage, PromptTier, Recipe
from lorasweep.data.captions import are_plain, without_trigger

T = TypeVar("T")
Tiers = Annotated[
    tuple[PromptTier, ...],
    Field(min_length=1, title="name a prompt tier", description="e.g. [in_distribution,recombined]"),
]
OtherWeight = Annotated[float, Field(ge=0.01, le=2, description="e.g. [0.4,1.0]")]  # a LoRA weight besides 0


def num_pictures(recipe: Recipe, plan: Plan, tiers: Iterable[PromptTier]) -> int:
    """Count the pictures of these tiers that there are in the end at the judged weight."""
    options = recipe.sample
    return sum(len(plan.prompts.get(tier, ())) * len(options.seeds_of(tier, options.seeds)) for tier in tiers)


def by_suffix(judged: float, others: Iterable[float]) -> dict[str, float]:
    """Map the endings of a number's name to weights: none at the judged one, `_w1`, say, at others."""
    return {"": judged} | {f"_w{weight:g}": weight for weight in others if weight != judged}


def by_ending(encoder: T, also: Iterable[T]) -> dict[str, T]:
    """Map the endings of a number's name to encoders: none for the one that counts, `_clip`, say, for others."""
    return {"": encoder} | {f"_{other}": other for other in also}


def is_plain_class(recipe: Recipe, plan: Plan) -> bool:
    """Tell whether the class prompts are captions without the trigger, which leave open who comes."""
    texts = [image.caption for image in plan.train_images()]
    return are_plain(plan.prompts.get("class", ()), texts, plan.trigger, recipe.captions)


def prior_prompts(recipe: Recipe, plan: Plan, train: Sequence[PlannedImage]) -> dict[PriorTier, tuple[str, ...]]:
    """List prompts that have nothing to do with the subject by tier; tiers without any are absent.

    "plain" are the captions of `train` without the trigger, unless the class prompts are just that.
    """
    stripped = [without_trigger(i.caption, plan.trigger, recipe.captions) for i in train]
    plain = tuple(dict.fromkeys(text for text in stripped if text)) if plan.trigger else ()
    found: dict[PriorTier, tuple[str, ...]] = {
        "plain": () if is_plain_class(recipe, plan) else plain,
        "class": tuple(plan.prompts.get("class", ())),
        "neighbour": tuple(recipe.base.neighbour_prompts),
        "unrelated": tuple(plan.prompts.get("unrelated", ())),
    }
    return {tier: prompts for tier, prompts in found.items() if prompts}


def first_configured(preferred: Sequence[EncoderName], paths: EncoderOptions) -> EncoderName:
    """Choose the first encoder that has a path; the frozen base needs none and is always there."""
    return next((name for name in preferred if is_here(name, paths)), "base")


def is_here(name: EncoderName, paths: EncoderOptions) -> bool:
    """Tell whether there is such an encoder."""
    return name == "base" or getattr(paths, name) is not None


def not_here(name: EncoderName) -> str:
    """Say why there is no such encoder."""
    return f"no local copy of {name} is configured (encoders.{name}=some/path)"
