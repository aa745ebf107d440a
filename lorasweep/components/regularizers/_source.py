"""What the image sources have in common: their knobs' ranges, and their place in `protocols.ImageSource`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Wrong = list[tuple[str, str, str]]


@dataclass(frozen=True, kw_only=True)
class Source:
    """The part of `protocols.ImageSource` that is plain data; `images` is each source's own."""

    prior_loss_weight: float
    share: float
    target: Literal["noise", "base"] = "noise"
    only_alone: bool = False
    needs_dataset: bool = True


def range_problems(*, prior_loss_weight: float, share: float, images: int = 1) -> Wrong:
    """What the types cannot say about the knobs that sources share."""
    wrong: Wrong = []
    if prior_loss_weight <= 0:
        wrong.append(("prior_loss_weight", f"must be > 0, got {prior_loss_weight:g}", "1 counts in full"))
    if not 0 < share <= 10:
        wrong.append(("share", f"must be in (0, 10], got {share:g}", "1 doubles an epoch, as kohya does"))
    if images < 1:
        wrong.append(("images", f"must be >= 1, got {images}", "e.g. 16"))
    return wrong


def word_problems(knob: str, words: tuple[str, ...] | None) -> Wrong:
    """What is wrong with a list of prompts that was given."""
    if words is None:
        return []
    if not words or any(not word.strip() for word in words):
        return [(knob, f"must be null or have words in it, got {list(words)}", "null works them out")]
    return []
