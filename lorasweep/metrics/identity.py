"""F: is it the subject? Never part of the overcooking score, because burned adapters show the subject too.

On the dollhouse the reader says how many of the subject's features (traits and marks) show in the pictures of
prompts with the trigger. With a the mean over features and pictures at the weight that counts,

    F = max(0, (a - a_base) / (1 - a_base))

so that the base, which shows some features by chance or because the prompt asks for them, has F = 0.
Elsewhere F is missing, and `score` falls back.

Source: identity on plain prompts as in DreamBooth (arXiv 2208.12242), with a classifier of known accuracy in
the place of DINO.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorasweep.metrics import dolls
from lorasweep.records import Measurement

if TYPE_CHECKING:
    from lorasweep.metrics.context import JudgeContext
    from lorasweep.records import PromptTier


@dataclass(frozen=True, kw_only=True)
class Identity:
    """See the module."""

    tiers: tuple[PromptTier, ...]
    needs_samples = True

    def measure(self, context: JudgeContext) -> Measurement:
        """Read the pictures of the tiers; besides F, the probability that every feature shows at once."""
        subject = dolls.subject_of(context)
        if subject is None:
            return Measurement(missing={"identity/score": dolls.UNREADABLE})
        pictures = [image for tier in self.tiers for _, image in context.pictures(tier)]
        base = [image for tier in self.tiers for _, image in context.base_pictures(tier)]
        if not pictures or not base:
            where = f"{' or '.join(self.tiers)} prompts"
            return Measurement(missing={"identity/score": f"no pictures of {where}, or none by the base"})
        reading = dolls.read(context.reader, pictures)
        shown = dolls.likeness(reading, subject)
        by_chance = dolls.likeness(dolls.read(context.reader, base), subject)
        values = {
            "identity/score": max(0.0, (shown - by_chance) / (1.0 - by_chance)),
            "identity/likeness": shown,
            "identity/base_likeness": by_chance,
            "identity/all_features": float(reading.identity(subject).mean()),
        }
        return Measurement(values=values)


def build(*, tiers: Sequence[PromptTier]) -> Identity:
    """Build the metric.

    Args:
        tiers: prompt tiers whose pictures must show the subject.
    """
    return Identity(tiers=tuple(tiers))
