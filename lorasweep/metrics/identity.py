"""F: is it the subject? Never part of the overcooking score, because burned adapters show the subject too.

On the dollhouse the reader gives the probability that a picture shows the subject's marks and traits
together, averaged over in-distribution prompts at the weight that counts. Elsewhere it is missing, and
`score` falls back.

Source: identity on plain prompts as in DreamBooth (arXiv 2208.12242), with a classifier of known accuracy in
the place of DINO.
"""

from __future__ import annotations

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
        """Read the pictures of the tiers: marks and traits together, and each apart."""
        subject = dolls.subject_of(context)
        if subject is None:
            return Measurement(missing={"identity/score": dolls.UNREADABLE})
        pictures = [image for tier in self.tiers for _, image in context.pictures(tier)]
        if not pictures:
            return Measurement(missing={"identity/score": f"no pictures of {', '.join(self.tiers)} prompts"})
        reading = dolls.read(context.reader, pictures)
        values = {
            "identity/score": float(reading.identity(subject).mean()),
            "identity/marks": float(reading.marks(subject).mean()),
            "identity/traits": float(reading.traits(subject).mean()),
        }
        return Measurement(values=values)


def build(*, tiers: tuple[PromptTier, ...] | list[PromptTier]) -> Identity:
    """Build the metric.

    Args:
        tiers: prompt tiers whose pictures must show the subject.
    """
    return Identity(tiers=tuple(tiers))
