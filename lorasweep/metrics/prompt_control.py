"""C: does the prompt still decide? And does the subject stay away where it was not called?

On prompts that combine the trigger with attributes the dataset never showed, the reader says which of the
asked attributes appear. `prompt_control/score` is that accuracy over the base's on the same prompts and
seeds, so that what the base cannot draw is not held against the adapter.

`prompt_control/bleed_class` and `bleed_unrelated` say how much more of the subject's features show without
the trigger than in the base's own pictures: on strangers whose every trait the prompt names, and where the
prompt leaves the person open. The second rises first and far, in any recipe without regularisation images:
the subject becomes the default person.

Source: the compositional accuracy of Okawa et al. (arXiv 2310.09336) as a ratio to the base; bleed is
DreamBooth's prior-preservation idea (arXiv 2208.12242). Departure: the base is shown the prompt with the
trigger, which to it is a meaningless word, so that both start from the very same picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorasweep.dollhouse.world.attributes import INTRINSIC
from lorasweep.metrics import dolls
from lorasweep.records import Measurement

if TYPE_CHECKING:
    from PIL import Image

    from lorasweep.dollhouse.world.subjects import Subject
    from lorasweep.metrics.context import JudgeContext
    from lorasweep.sample import Sample

NAME = "prompt_control"


@dataclass(frozen=True, kw_only=True)
class PromptControl:
    """See the module."""

    min_base_accuracy: float
    needs_samples = True

    def measure(self, context: JudgeContext) -> Measurement:
        """Measure both on this step's pictures at the weight that counts."""
        subject = dolls.subject_of(context)
        if subject is None:
            reason = dolls.UNREADABLE
            names = ("score", "bleed_class", "bleed_unrelated")
            return Measurement(missing={f"{NAME}/{name}": reason for name in names})
        found = Measurement()
        self._control(context, found)
        self._bleed(context, subject, found)
        return found

    def _control(self, context: JudgeContext, found: Measurement) -> None:
        adapted = accuracy(context, context.pictures("recombined"))
        base = accuracy(context, context.base_pictures("recombined"))
        if adapted is None or base is None:
            found.missing[f"{NAME}/score"] = "no pictures of recombined prompts, or none by the base"
            return
        found.values[f"{NAME}/accuracy"] = adapted
        found.values[f"{NAME}/base_accuracy"] = base
        if base < self.min_base_accuracy:
            found.missing[f"{NAME}/score"] = f"the base obeys too little to compare with: {base:.2f}"
        else:
            found.values[f"{NAME}/score"] = adapted / base

    def _bleed(self, context: JudgeContext, subject: Subject, found: Measurement) -> None:
        for tier in ("class", "unrelated"):
            pictures, base = context.pictures(tier), context.base_pictures(tier)
            if pictures and base:
                shown = dolls.likeness(dolls.read(context.reader, _images(pictures)), subject)
                by_chance = dolls.likeness(dolls.read(context.reader, _images(base)), subject)
                found.values[f"{NAME}/bleed_{tier}"] = shown - by_chance
            else:
                found.missing[f"{NAME}/bleed_{tier}"] = f"no pictures of {tier} prompts, or none by the base"


def build(*, min_base_accuracy: float) -> PromptControl:
    """Build the metric.

    Args:
        min_base_accuracy: share of asked attributes that the base must show for the ratio to mean anything,
            (0, 1].
    """
    return PromptControl(min_base_accuracy=min_base_accuracy)


def accuracy(context: JudgeContext, pictures: Sequence[tuple[Sample, Image.Image]]) -> float | None:
    """Share of asked attributes that show, the subject's own traits left out; None without pictures."""
    if not pictures:
        return None
    reading = dolls.read(context.reader, _images(pictures))
    hits = []
    for place, (sample, _) in enumerate(pictures):
        asked = dolls.asked_for(sample.request.prompt, context.recipe.captions)
        hits += [
            reading.values(attribute)[place] == value
            for attribute, value in asked.items()
            if attribute not in INTRINSIC
        ]
    return sum(hits) / len(hits) if hits else None


def _images(pictures: Sequence[tuple[Sample, Image.Image]]) -> list[Image.Image]:
    return [image for _, image in pictures]
