"""F: is it the subject? Never part of the overcooking score, because burned adapters show the subject too.

On the dollhouse the reader says how many of the subject's features (traits and marks) show in the pictures of
prompts with the trigger. With a the mean over features and pictures at the judged weight,

    F = max(0, (a - a_base) / (1 - a_base))

so that the base, which shows some features by chance or because the prompt asks for them, has F = 0.

On any other base F is the pictures' likeness to the training pictures (`_resemblance`), cut to [0, 1]:
0 as the base's own pictures of the same prompts, 1 as other pictures of the subject.

Source: identity on plain prompts as in DreamBooth (arXiv 2208.12242), on the dollhouse with a classifier of
known accuracy in the place of DINO.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lorasweep.components.metrics import _reader_scores as reader_scores
from lorasweep.components.metrics import _resemblance as resemblance
from lorasweep.components.metrics._offers import Tiers, by_ending, first_configured, is_here, not_here, num_pictures
from lorasweep.core.protocols import JudgeContext
from lorasweep.core.records import Measurement, Plan, Recipe

if TYPE_CHECKING:
    from PIL import Image

    from lorasweep.dollhouse.world.subjects import Subject

NAME = "identity"
NEEDS_PICTURES = True
PROBES = ()
Encoder = Literal["auto", "reader", "dino", "clip", "base"]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """See the module."""

    tiers: Tiers
    encoder: Encoder
    also: tuple[Encoder, ...]

    def measure(self, context: JudgeContext) -> Measurement:
        """Measure by the encoder that counts, and by others under names ending in theirs."""
        pictures = [picture.image for picture in context.pictures(*self.tiers)]
        base = [picture.image for picture in context.base_pictures(*self.tiers)]
        if not pictures or not base:
            where = f"{' or '.join(self.tiers)} prompts"
            return Measurement(missing={f"{NAME}/score": f"no pictures of {where}, or none by the base"})
        ask = functools.partial(by, context, pictures=pictures, base=base)
        return resemblance.ask_encoders(ask, self.encoder, self.also)


build = Identity


def names(recipe: Recipe, plan: Plan) -> dict[str, str]:
    """Return the numbers that `measure` gives for a recipe, and why it cannot; empty when it can."""
    knobs = recipe.metrics[NAME]
    tiers = knobs["tiers"]
    drawn = num_pictures(recipe, plan, tiers)
    none = "" if drawn else f"no pictures of {' or '.join(tiers)} prompts"
    found: dict[str, str] = {}
    for ending, encoder in by_ending(knobs["encoder"], knobs["also"]).items():
        details, why = _details(recipe, encoder, resemblance.too_few(plan, drawn))
        found |= {f"{NAME}/{name}{ending}": none or why for name in ("score", *details)}
    return found


def _details(recipe: Recipe, encoder: Encoder, too_few: str) -> tuple[tuple[str, ...], str]:
    """Return the numbers that an encoder gives beside the score, and why it cannot; `too_few` is not the reader's."""
    subject = reader_scores.subject_in(recipe)
    if encoder == "reader" or (encoder == "auto" and subject is not None):
        return ("likeness", "base_likeness", "all_features"), "" if subject else reader_scores.UNREADABLE
    name = first_configured(("dino", "clip"), recipe.encoders) if encoder == "auto" else encoder
    if not is_here(name, recipe.encoders):
        return (), not_here(name)
    return resemblance.DETAILS["base" if name == "base" else "published"], too_few


def by(
    context: JudgeContext, encoder: Encoder, pictures: Sequence[Image.Image], base: Sequence[Image.Image]
) -> Measurement:
    """Return F by one encoder, of pictures that must show the subject and the base's for the same prompts."""
    subject = reader_scores.subject_of(context)
    if encoder == "reader" or (encoder == "auto" and subject is not None):
        if subject is None:
            return Measurement(missing={f"{NAME}/score": reader_scores.UNREADABLE})
        return _by_reader(context, subject, pictures, base)
    name = first_configured(("dino", "clip"), context.recipe.encoders) if encoder == "auto" else encoder
    try:
        scale = resemblance.make_scale(context, name, base)
    except resemblance.CannotTell as reason:
        return Measurement(missing={f"{NAME}/score": str(reason)})
    if len(pictures) < resemblance.FEWEST:
        return Measurement(missing={f"{NAME}/score": resemblance.TOO_FEW_DRAWN})
    likeness, details = scale.likeness(pictures)
    values = {f"{NAME}/{key}": value for key, value in details.items()}
    # Python's min and max keep a NaN only in the first place
    return Measurement(values={f"{NAME}/score": max(min(likeness, 1.0), 0.0)} | values)


def _by_reader(
    context: JudgeContext, subject: Subject, pictures: Sequence[Image.Image], base: Sequence[Image.Image]
) -> Measurement:
    """Return what the reader sees; besides F, the probability that every feature shows at once."""
    reading = reader_scores.reading_of(context, pictures)
    shown = reader_scores.likeness(reading, subject)
    by_chance = reader_scores.likeness(reader_scores.reading_of(context, base), subject)
    values = {
        f"{NAME}/score": max((shown - by_chance) / (1.0 - by_chance), 0.0),
        f"{NAME}/likeness": shown,
        f"{NAME}/base_likeness": by_chance,
        f"{NAME}/all_features": float(reading.identity(subject).mean()),
    }
    return Measurement(values=values)
