"""Param groups by part of the model, with name and peak lr; and the knobs that optimizers share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

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
Beta = Annotated[float, Field(ge=0, lt=1)]
TextEncoderRate = Annotated[float, Field(ge=0, description="null: the same as lr")] | None


def param_groups(
    groups: Mapping[str, Sequence[torch.nn.Parameter]], *, lr: float, text_encoder_lr: float | None
) -> list[dict[str, Any]]:
    """One torch param group per part; the text encoder's peak lr is its own when given, else `lr`."""
    made = []
    for name, parameters in groups.items():
        peak = text_encoder_lr if name == TEXT_ENCODER and text_encoder_lr is not None else lr
        made.append({"params": list(parameters), "name": name, "lr": peak, "initial_lr": peak})
    return made
