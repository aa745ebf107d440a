"""What the types cannot say about knobs of metrics. No torch: `plan` asks.

Each function returns (knob, message, hint) for what is out of range.
"""

from __future__ import annotations

from collections.abc import Sequence


def tiers(given: Sequence[str]) -> list[tuple[str, str, str]]:
    """Prompt tiers to look at: without any there is nothing to see."""
    return [] if given else [("tiers", "must name a prompt tier, got []", "e.g. [in_distribution,recombined]")]


def weights(given: Sequence[float], *, low: float) -> list[tuple[str, str, str]]:
    """LoRA weights to ask at, in [low, 2]; 0 is the base itself."""
    wrong = [weight for weight in given if not low <= weight <= 2]
    rule = f"must be in [{low:g}, 2]"
    return [("weights", f"{rule}, got {wrong}", "e.g. [0.4,1.0]")] if wrong else []


def share(knob: str, given: float, *, most: float, example: str) -> list[tuple[str, str, str]]:
    """A share in (0, most]."""
    return [] if 0 < given <= most else [(knob, f"must be in (0, {most:g}], got {given}", f"e.g. {example}")]
