"""What `protocols.RegularizationImages` have in common: ranges of knobs, and how they are used."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

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
