"""C: does the prompt still decide? And does the subject stay away where it was not called?

**Control**, on prompts that combine the trigger with what the dataset never showed. On the dollhouse the
reader says which of the asked attributes appear. On any other base a picture obeys when it fits its own
prompt better than every other recombined prompt and every training caption, the trigger left out of all of
them: an adapter that falls back to its training scenes fits a training caption instead. CLIP says what fits
when a copy is configured, else the base itself as a classifier. `prompt_control/score` is that accuracy over
the base's for the same prompts and seeds, so that what the base cannot draw is not held against the adapter.

**Bleed** says how much more of the subject shows without the trigger than in the base's own pictures: by the
reader, or by the likeness to the training images on the scale of F. `bleed_class` is about somebody else of
the subject's kind. Where the class prompts are captions with the trigger left out, as they are when nobody
wrote others, they leave open who comes, and it is called `bleed_plain`. That and `bleed_unrelated` rise
first and far, in any recipe without regularisation images: the subject becomes the default person.

Source: the compositional accuracy of Okawa et al. (arXiv 2310.09336) as a ratio to the base; the diffusion
classifier of Li et al. (arXiv 2303.16203); bleed is DreamBooth's prior-preservation idea (arXiv 2208.12242).
Departure: the base is shown the prompt with the trigger, which to it is a meaningless word, so that both
start from the very same picture.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from lorasweep.components.metrics import _reader_scores as reader_scores
from lorasweep.components.metrics import _resemblance as resemblance
from lorasweep.components.metrics._offers import (
    by_ending,
    first_configured,
    is_here,
    is_plain_class,
    not_here,
    num_pictures,
)
from lorasweep.core.judging import EncoderName, Picture, Symptom
from lorasweep.core.protocols import Encoder as PictureEncoder
from lorasweep.core.protocols import JudgeContext
from lorasweep.core.records import PROMPT_TIERS, Measurement, Plan, PromptTier, Recipe
from lorasweep.data.captions import without_trigger

if TYPE_CHECKING:
    from PIL import Image

    from lorasweep.dollhouse.world.subjects import Subject

NAME = "prompt_control"
NEEDS_PICTURES = True
PROBES = ()
SYMPTOMS = (
    # A quarter of the prompts that the base obeys, 15 % of the subject on others.
    Symptom(
        name="control",
        letter="C",
        rank=3,
        metric="prompt_control/score",
        says="prompts are no longer obeyed",
        inverted=True,
        definite=0.25,
    ),
    Symptom(
        name="bleed_class",
        letter="C",
        rank=5,
        metric="prompt_control/bleed_class",
        says="strangers look like the subject",
        definite=0.15,
    ),
    # Without regularisation images every recipe turns the default person into the subject, so by themselves
    # these two are blemishes, not failures.
    Symptom(
        name="bleed_plain",
        letter="C",
        rank=6,
        metric="prompt_control/bleed_plain",
        says="captions call the subject without its trigger",
        severity=0.25,
    ),
    Symptom(
        name="bleed_unrelated",
        letter="C",
        rank=7,
        metric="prompt_control/bleed_unrelated",
        says="the subject appears uncalled",
        severity=0.25,
    ),
)
Encoder = Literal["auto", "reader", "clip", "base"]
WHY_NO_STRANGERS = (
    "the class prompts are captions without the trigger, which leave open who comes: "
    "name several others in dataset.prompts.class"
)
NO_RIVAL = "needs a second recombined prompt or a training caption to tell a prompt from"
CAPTIONS = 3  # training captions that a picture may fall back to
Pictures = Sequence[Picture]


@dataclass(frozen=True, kw_only=True)
class PromptControl:
    """See the module."""

    min_base_accuracy: Annotated[float, Field(gt=0, le=1)]
    encoder: Encoder
    also: tuple[Encoder, ...]

    def measure(self, context: JudgeContext) -> Measurement:
        """Measure both by the encoder that counts, and by others under names ending in theirs."""
        return resemblance.ask_encoders(functools.partial(self._by, context), self.encoder, self.also)

    def _by(self, context: JudgeContext, encoder: Encoder) -> Measurement:
        subject = reader_scores.subject_of(context)
        if encoder == "reader" or (encoder == "auto" and subject is not None):
            if subject is None:
                names = (f"{NAME}/score", *_uncalled(context))
                return Measurement(missing=dict.fromkeys(names, reader_scores.UNREADABLE))
            control = self._control(*(accuracy(context, both) for both in _recombined(context)))
            bleed = _bleed_by_reader(context, subject)
        else:
            name = first_configured(("clip",), context.recipe.encoders) if encoder == "auto" else encoder
            control = self._control_by_fit(context, name)
            bleed = _bleed_by_resemblance(context)
        return Measurement(values=control.values | bleed.values, missing=control.missing | bleed.missing)

    def _control(self, adapted: float | None, base: float | None) -> Measurement:
        """Return the score, from the two accuracies."""
        if adapted is None or base is None:
            reason = "no pictures of recombined prompts, or none by the base"
            return Measurement(missing={f"{NAME}/score": reason})
        found = Measurement(values={f"{NAME}/accuracy": adapted, f"{NAME}/base_accuracy": base})
        if base < self.min_base_accuracy:
            found.missing[f"{NAME}/score"] = f"the base obeys too little to compare with: {base:.2f}"
        else:
            found.values[f"{NAME}/score"] = adapted / base
        return found

    def _control_by_fit(self, context: JudgeContext, encoder: EncoderName) -> Measurement:
        captions = context.gallery.train_captions if context.gallery is not None else ()
        prompts, rivals = _candidates(context.recipe, context.plan, captions)
        if len(prompts) + len(rivals) < 2:
            return Measurement(missing={f"{NAME}/score": NO_RIVAL})
        fit = context.prompt_fit(encoder, (*prompts, *rivals))
        if fit is None:
            return Measurement(missing={f"{NAME}/score": not_here("clip")})
        drawn, base = _recombined(context)
        return self._control(
            fitting(context, fit, prompts, drawn, keep=False), fitting(context, fit, prompts, base, keep=True)
        )


build = PromptControl


def names(recipe: Recipe, plan: Plan) -> dict[str, str]:
    """Return the numbers that `measure` gives for a recipe, and why it cannot; empty when it can."""
    knobs, subject = recipe.metrics[NAME], reader_scores.subject_in(recipe)
    none = "" if plan.prompts.get("recombined") else "no pictures of recombined prompts"
    prompts, rivals = _candidates(recipe, plan, [image.caption for image in plan.train_images()])
    alone = "" if len(prompts) + len(rivals) > 1 else NO_RIVAL
    few = resemblance.too_few(plan, num_pictures(recipe, plan, PROMPT_TIERS))
    found: dict[str, str] = {}
    for ending, encoder in by_ending(knobs["encoder"], knobs["also"]).items():
        unreadable = reader_scores.UNREADABLE if encoder == "reader" and not subject else ""
        by_reader = encoder == "reader" or (encoder == "auto" and subject is not None)
        no_clip = "" if encoder != "clip" or is_here("clip", recipe.encoders) else not_here("clip")
        fits = unreadable or none or ("" if by_reader else no_clip or alone)
        why = dict.fromkeys(("score", "accuracy", "base_accuracy"), fits)
        for name, tier in uncalled(recipe, plan).items():
            drawn = "" if plan.prompts.get(tier) else f"no pictures of {tier} prompts"
            why[name] = unreadable or drawn or ("" if by_reader else few)
        why.setdefault("bleed_class", WHY_NO_STRANGERS)
        why.setdefault("bleed_plain", "the class prompts name others: bleed_class says how they are")
        found |= {f"{NAME}/{name}{ending}": reason for name, reason in why.items()}
    return found


def accuracy(context: JudgeContext, pictures: Pictures) -> float | None:
    """Share of asked attributes that the reader sees, the subject's own traits left out; None without any."""
    from lorasweep.dollhouse.world.attributes import INTRINSIC  # here, since it costs numpy

    if not pictures:
        return None
    reading = reader_scores.reading_of(context, _images(pictures))
    hits = []
    for place, picture in enumerate(pictures):
        asked = reader_scores.asked_for(picture.prompt, context.recipe.captions)
        hits += [
            reading.values(attribute)[place] == value
            for attribute, value in asked.items()
            if attribute not in INTRINSIC
        ]
    return sum(hits) / len(hits) if hits else None


def fitting(
    context: JudgeContext, fit: PictureEncoder, prompts: Sequence[str], pictures: Pictures, *, keep: bool
) -> float | None:
    """Share of pictures that fit their own prompt best; None without pictures.

    They were drawn for `prompts`, which lack the trigger here, and are the first candidates of `fit`; with `keep` other
    trials will ask for the same pictures.
    """
    if not pictures:
        return None
    fit_NK = context.features(_images(pictures), encoder=fit, keep=keep)["fit"]
    if fit_NK.isnan().any():
        return math.nan
    best = fit_NK.argmax(1).tolist()
    asked = [prompts.index(_plain(context.recipe, context.plan, picture.prompt)) for picture in pictures]
    return sum(a == b for a, b in zip(asked, best, strict=True)) / len(asked)


def _candidates(recipe: Recipe, plan: Plan, captions: Iterable[str]) -> tuple[list[str], list[str]]:
    """List recombined prompts, and training captions that are none of them; all without the trigger."""
    prompts = list(dict.fromkeys(_plain(recipe, plan, text) for text in plan.prompts.get("recombined", ())))
    plain = dict.fromkeys(_plain(recipe, plan, caption) for caption in captions)
    return prompts, [text for text in plain if text and text not in prompts][:CAPTIONS]


def _plain(recipe: Recipe, plan: Plan, prompt: str) -> str:
    return without_trigger(prompt, plan.trigger, recipe.captions)


def _recombined(context: JudgeContext) -> tuple[Pictures, Pictures]:
    return context.pictures("recombined"), context.base_pictures("recombined")


def uncalled(recipe: Recipe, plan: Plan) -> dict[str, PromptTier]:
    """Name of each bleeding, and the tier that it is read on."""
    return {"bleed_plain" if is_plain_class(recipe, plan) else "bleed_class": "class", "bleed_unrelated": "unrelated"}


def _uncalled(context: JudgeContext) -> dict[str, PromptTier]:
    found: dict[str, PromptTier] = context.memoized("uncalled", lambda: uncalled(context.recipe, context.plan))
    return {f"{NAME}/{name}": tier for name, tier in found.items()}


def _bleed(context: JudgeContext, gain: Callable[[Pictures, Pictures], float]) -> Measurement:
    """Ask, tier by tier, how much of the subject pictures gained over the base's for the same prompts."""
    found = Measurement()
    for name, tier in _uncalled(context).items():
        pictures, base = context.pictures(tier), context.base_pictures(tier)
        if pictures and base:
            found.values[name] = gain(pictures, base)
        else:
            found.missing[name] = f"no pictures of {tier} prompts, or none by the base"
    if f"{NAME}/bleed_class" not in found.values | found.missing:
        found.missing[f"{NAME}/bleed_class"] = WHY_NO_STRANGERS
    return found


def _bleed_by_reader(context: JudgeContext, subject: Subject) -> Measurement:
    def shown(pictures: Pictures) -> float:
        return reader_scores.likeness(reader_scores.reading_of(context, _images(pictures)), subject)

    return _bleed(context, lambda pictures, base: shown(pictures) - shown(base))


def _bleed_by_resemblance(context: JudgeContext) -> Measurement:
    """Return bleed on the scale of F: 0 as the base draws them, 1 as pictures of the subject."""
    name = first_configured(("dino", "clip"), context.recipe.encoders)
    everything = _images(context.base_pictures(*PROMPT_TIERS))
    try:
        scale = resemblance.make_scale(context, name, everything)
    except resemblance.CannotTell as reason:
        return Measurement(missing=dict.fromkeys(_uncalled(context), str(reason)))
    return _bleed(context, lambda pictures, base: scale.gain(_images(pictures), _images(base)))


def _images(pictures: Pictures) -> list[Image.Image]:
    return [picture.image for picture in pictures]
