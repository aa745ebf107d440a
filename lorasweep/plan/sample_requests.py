"""Which pictures are drawn: at the rungs, in the end, and by the base, for comparison.

    Recipe + Plan  ->  [ImageRequest, ...]

Knows nothing about drawing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from lorasweep.core.records import PROMPT_TIERS, Plan, PromptTier, Recipe


@dataclass(frozen=True, kw_only=True)
class ImageRequest:
    """One picture to draw."""

    tier: PromptTier  # what the prompt is for
    prompt: str  # prompt, negative_prompt: as typed
    negative_prompt: str
    seed: int  # of the starting noise; 0 is a seed
    weight: float  # LoRA weight; 0 is the base
    width_px: int  # width_px, height_px: multiples of the VAE's factor
    height_px: int


def requests(recipe: Recipe, plan: Plan, *, weights: Sequence[float], seeds: tuple[int, ...]) -> list[ImageRequest]:
    """List every prompt of the plan at every weight and seed: weights outermost, then tiers, prompts, seeds.

    Args:
        recipe: gives the picture's size (the base's resolution unless `sample.width`/`.height` say
            otherwise), the negative prompt, and how many of the seeds class prompts take.
        plan: gives the prompts by tier.
        weights: LoRA weights; (0.0,) for the base's own pictures.
        seeds: starting noises, the same for every prompt and weight.
    """
    return [
        ImageRequest(
            tier=tier,
            prompt=prompt,
            negative_prompt=recipe.base.negative_prompt,
            seed=seed,
            weight=weight,
            width_px=recipe.sample.width or recipe.base.resolution,
            height_px=recipe.sample.height or recipe.base.resolution,
        )
        for weight in weights
        for tier in PROMPT_TIERS
        for prompt in plan.prompts.get(tier, ())
        for seed in recipe.sample.seeds_of(tier, seeds)
    ]


def at_rung(recipe: Recipe, plan: Plan) -> list[ImageRequest]:
    """What is drawn at every rung."""
    return requests(recipe, plan, weights=(recipe.sample.weight,), seeds=recipe.sample.rung_seeds)


def in_full(recipe: Recipe, plan: Plan) -> list[ImageRequest]:
    """What there is in the end of the checkpoint that is kept, on top of its rung's: the ladder as rungs are drawn."""
    options = recipe.sample
    others = tuple(weight for weight in dict.fromkeys(options.weights) if weight != options.weight)
    at_weight = requests(recipe, plan, weights=(options.weight,), seeds=options.seeds)
    return [*at_weight, *requests(recipe, plan, weights=others, seeds=options.rung_seeds)]


def by_base(recipe: Recipe, plan: Plan) -> list[ImageRequest]:
    """The base's own pictures that any of these is compared with."""
    options = recipe.sample
    both = (requests(recipe, plan, weights=(0.0,), seeds=s) for s in (options.rung_seeds, options.seeds))
    return list(dict.fromkeys(itertools.chain(*both)))
