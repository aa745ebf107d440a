"""What is drawn to judge a recipe: prompts by tier, and pictures at the rungs, in the end and by the base.

    in_distribution  the trigger as the captions have it: is the subject there?
    recombined       the trigger with what no caption joins to it: does the prompt still steer?
    class            the same without the trigger: did the class turn into the subject?
    unrelated        what has nothing to do with it: is the base still whole?

A tier that the dataset config gives is taken as it is, the drawn dataset brings its own, and what is missing is derived
from the captions. Prompts that it gives for any tier come on top of these. Knows nothing about drawing.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lorasweep.core.records import ANY_TIER, PROMPT_TIERS, CaptionOptions, Plan, PromptTier, Recipe
from lorasweep.core.seeds import derive
from lorasweep.data import captions
from lorasweep.plan.dataset import Dataset

PER_TIER = 2  # prompts; each is drawn at every weight and seed, so they are what sampling costs
STRANGERS = 8  # of a drawn dataset: some resemble the subject sooner than others, whatever the recipe
_FURTHER = 50_000  # added to the seed for those beyond PER_TIER (docs/decisions/2026-11-23-strangers.md)
_MOST_PAIRED = 200  # captions whose tags are joined pair by pair; of more, so many by chance
_COMMON = 0.6  # a tag in at least this share of captions belongs to the subject, not to one picture
_SCENES = ("standing on a beach at sunset", "sitting in a library", "riding a bicycle in the rain")


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

    @classmethod
    def of(cls, recipe: Recipe, tier: PromptTier, prompt: str, *, seed: int, weight: float) -> ImageRequest:
        """Ask for a picture in the recipe's size, with its negative prompt."""
        negative, (width_px, height_px) = recipe.base.negative_prompt, recipe.picture_px
        return cls(
            tier=tier,
            prompt=prompt,
            negative_prompt=negative,
            seed=seed,
            weight=weight,
            width_px=width_px,
            height_px=height_px,
        )


def requests(recipe: Recipe, plan: Plan, *, weights: Sequence[float], seeds: tuple[int, ...]) -> list[ImageRequest]:
    """List every prompt of the plan at every weight and seed: weights outermost, then tiers, prompts, seeds.

    Args:
        recipe: gives size and negative prompt, and how many of the seeds class prompts take.
        plan: gives the prompts by tier.
        weights: LoRA weights; (0.0,) for the base's own pictures.
        seeds: starting noises, the same for every prompt and weight.
    """
    return [
        ImageRequest.of(recipe, tier, prompt, seed=seed, weight=weight)
        for weight in weights
        for tier in PROMPT_TIERS
        for prompt in plan.prompts.get(tier, ())
        for seed in recipe.sample.seeds_of(tier, seeds)
    ]


def at_rung(recipe: Recipe, plan: Plan) -> list[ImageRequest]:
    """Tell what is drawn at every rung."""
    return requests(recipe, plan, weights=(recipe.sample.weight,), seeds=recipe.sample.rung_seeds)


def in_full(recipe: Recipe, plan: Plan) -> list[ImageRequest]:
    """List what there is in the end of the kept checkpoint, on top of its rung's: the ladder as rungs are drawn."""
    options = recipe.sample
    others = tuple(weight for weight in dict.fromkeys(options.weights) if weight != options.weight)
    at_weight = requests(recipe, plan, weights=(options.weight,), seeds=options.seeds)
    return [*at_weight, *requests(recipe, plan, weights=others, seeds=options.rung_seeds)]


def by_base(recipe: Recipe, plan: Plan) -> list[ImageRequest]:
    """Return the base's own pictures that any of these is compared with."""
    options = recipe.sample
    both = (requests(recipe, plan, weights=(0.0,), seeds=s) for s in (options.rung_seeds, options.seeds))
    return list(dict.fromkeys(itertools.chain(*both)))


def write_prompts(recipe: Recipe, dataset: Dataset) -> dict[str, tuple[str, ...]]:
    """Write the prompts of every tier, none twice; a tier that nothing can be written for is left out."""
    given = recipe.dataset.prompts or {}
    written = {**_derived(recipe, dataset), **_drawn(recipe), **given}
    for prompt in given.get(ANY_TIER, ()):
        tier = _tier(prompt, dataset)
        written[tier] = (*written.get(tier, ()), prompt)
    return {tier: tuple(dict.fromkeys(written[tier])) for tier in PROMPT_TIERS if written.get(tier)}


def _tier(prompt: str, dataset: Dataset) -> PromptTier:
    if prompt in {image.caption for image in dataset.images if image.split == "train"}:
        return "in_distribution"
    calls = not dataset.triggers or any(captions.has_trigger(prompt, each) for each in dataset.triggers)
    return "recombined" if calls else "class"


def _drawn(recipe: Recipe) -> dict[str, tuple[str, ...]]:
    if recipe.dataset.drawn is None:
        return {}
    subject = recipe.dataset.drawn.subject
    found = _of_the_world(subject, recipe.dataset.holdout_seed)
    return {
        tier: tuple(_called(prompt, subject, recipe.captions) for prompt in prompts) for tier, prompts in found.items()
    }


@functools.cache
def _of_the_world(subject: str, seed: int) -> Mapping[str, Sequence[str]]:
    """Return what the dollhouse's world is asked to draw, by tier: the same for every recipe of a sweep."""
    from lorasweep.dollhouse import world

    found = world.prompts(subject, count=PER_TIER, seed=seed)
    further = world.prompts(subject, count=STRANGERS, seed=seed + _FURTHER)
    return {**found, "class": list(dict.fromkeys([*found["class"], *further["class"]]))[:STRANGERS]}


def _called(prompt: str, word: str, options: CaptionOptions) -> str:
    """Return a drawn subject's prompt, with the recipe's trigger in the place of the word it was drawn under."""
    if options.trigger is None or not captions.has_trigger(prompt, word):
        return prompt
    return captions.with_trigger(captions.without_trigger(prompt, word, options), options.trigger, options)


def _derived(recipe: Recipe, dataset: Dataset) -> dict[str, tuple[str, ...]]:
    options, trigger = recipe.captions, dataset.trigger
    if recipe.dataset.is_empty:
        return _without_images(recipe, trigger)
    texts = sorted({image.caption for image in dataset.images if image.split == "train" and image.caption})
    seen = _spread(texts, PER_TIER)
    without = list(seen)
    for each in dataset.triggers:  # another concept's trigger calls its subject just as well
        without = [captions.without_trigger(text, each, options) for text in without]
    return {
        "in_distribution": seen,
        "recombined": _recombined(texts, dataset.triggers, options, seed=recipe.dataset.holdout_seed),
        "class": tuple(dict.fromkeys(text for text in without if text)) if trigger else (),
        "unrelated": recipe.base.unrelated_prompts[:PER_TIER],
    }


def _without_images(recipe: Recipe, trigger: str | None) -> dict[str, tuple[str, ...]]:
    """Ask what needs no caption: the trigger alone and in scenes, the base's other subjects, the unrelated.

    A base that names no other subjects draws one kind alone: its unrelated prompts are these, but for the last.
    """
    base = recipe.base
    called = (
        [] if trigger is None else [trigger, *(recipe.captions.separator.join([trigger, each]) for each in _SCENES)]
    )
    unrelated = base.unrelated_prompts[-PER_TIER:]
    others = base.neighbour_prompts[:PER_TIER] or base.unrelated_prompts[:-PER_TIER][:STRANGERS]
    return {
        "in_distribution": tuple(called[:1]),
        "recombined": tuple(called[1 : 1 + PER_TIER]),
        "class": others,
        "unrelated": unrelated,
    }


def _recombined(
    texts: Sequence[str], triggers: Sequence[str], options: CaptionOptions, *, seed: int
) -> tuple[str, ...]:
    """Join the subject's own tags with tags that no caption has together; else, with a new scene."""
    tagged = [captions.tags(text, options) for text in texts]
    counts = Counter(tag for found in tagged for tag in set(found))
    common = [tag for tag in (tagged[0] if tagged else []) if counts[tag] >= _COMMON * len(tagged)]
    if triggers and not any(captions.has_trigger(tag, triggers[0]) for tag in common):
        common.insert(0, triggers[0])
    called = [tag for tag in counts if any(captions.has_trigger(tag, other) for other in triggers[1:])]
    others = {*common, *called}
    rng = random.Random(derive(seed, "recombined prompts"))
    paired = tagged if len(tagged) <= _MOST_PAIRED else rng.sample(tagged, _MOST_PAIRED)
    rare = [[tag for tag in found if tag not in others] for found in paired]
    pairs = [(a, b) for i, a in enumerate(rare) for b in rare[:i] if a and b]
    rng.shuffle(pairs)
    having: dict[str, set[int]] = {}
    for index, found in enumerate(tagged):
        for tag in found:
            having.setdefault(tag, set()).add(index)
    prompts: dict[str, None] = {}
    for first, second in pairs:
        extra = dict.fromkeys([*first[: (len(first) + 1) // 2], *second[len(second) // 2 :]])
        if len(extra) >= 2 and not set.intersection(*sorted((having[tag] for tag in extra), key=len)):
            prompts[options.separator.join([*common, *extra])] = None
        if len(prompts) == PER_TIER:
            break
    scenes = [options.separator.join([*common, scene]) for scene in _SCENES] if common else []
    return tuple(dict.fromkeys([*prompts, *scenes]))[:PER_TIER]


def _spread(items: Sequence[str], count: int) -> tuple[str, ...]:
    """Pick `count` items at even distances, or all of them."""
    if len(items) <= count:
        return tuple(items)
    return tuple(items[index * len(items) // count] for index in range(count))
