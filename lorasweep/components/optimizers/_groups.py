"""Param groups by part of the model, with name and peak lr; and the rules that optimizers share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lorasweep.core.records import Advice

if TYPE_CHECKING:
    import torch

USUAL_LR = (  # of optimizers in Adam's scale
    Advice(
        key="optimizer.lr",
        high=1e-2,
        reason="1e-4 is usual, and from here on weights are thrown about rather than trained",
    ),
)
TEXT_ENCODER = "text_encoder"


def param_groups(
    groups: Mapping[str, Sequence[torch.nn.Parameter]], *, lr: float, text_encoder_lr: float | None
) -> list[dict[str, Any]]:
    """One torch param group per part; the text encoder's peak lr is its own when given, else `lr`."""
    made = []
    for name, parameters in groups.items():
        peak = text_encoder_lr if name == TEXT_ENCODER and text_encoder_lr is not None else lr
        made.append({"params": list(parameters), "name": name, "lr": peak, "initial_lr": peak})
    return made


def shared_problems(
    *,
    lr: float,
    text_encoder_lr: float | None = None,
    betas: tuple[float, ...] = (),
    weight_decay: float,
) -> Iterator[tuple[str, str, str]]:
    """What is wrong with the knobs that many optimizers have, as (key, rule and value, next step)."""
    if lr <= 0:
        yield ("lr", f"must be > 0, got {lr}", "")
    if text_encoder_lr is not None and text_encoder_lr < 0:
        yield ("text_encoder_lr", f"must be >= 0 or null, got {text_encoder_lr}", "null: the same as lr")
    if not all(0 <= beta < 1 for beta in betas):
        yield ("betas", f"must all be in [0, 1), got {list(betas)}", "")
    if weight_decay < 0:
        yield ("weight_decay", f"must be >= 0, got {weight_decay}", "")
