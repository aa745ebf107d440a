"""What `protocols.RegularizationImages` have in common: ranges of knobs, and how they are used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from lorasweep.core.protocols import ImagePlanner
from lorasweep.data.captions import has_trigger

LossWeight = Annotated[float, Field(gt=0, le=100, description="1 counts in full")]
ExposureShare = Annotated[float, Field(gt=0, le=10, description="1 doubles an epoch, as kohya does")]
Images = Annotated[int, Field(ge=1, le=10_000, description="e.g. 16")]


def _with_words(given: tuple[str, ...]) -> tuple[str, ...]:
    if not given or any(not word.strip() for word in given):
        raise ValueError("must be null, which works them out, or have words in it")
    return given


Words = Annotated[tuple[str, ...], AfterValidator(_with_words)] | None  # prompts for the base to draw


class Source:
    """What most `protocols.RegularizationImages` are; a knob each, `prior_loss_weight` and `share` are their own."""

    target: Literal["noise", "base"] = "noise"
    only_alone = False
    needs_dataset = True


def refuse_trigger(planner: ImagePlanner, key: str, words: Sequence[str], hint: str) -> None:
    """Refuse words that call the subject, however they spell its trigger: the base's pictures would unteach it."""
    called = [each for each in words if planner.trigger and has_trigger(each, planner.trigger)]
    if called:
        message = f"{called[0]!r} has the trigger: to keep what it means would unteach the subject"
        raise planner.wrong(key, message, hint)
