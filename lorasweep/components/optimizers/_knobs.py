"""Param groups by part of the model, with name and peak lr; and the knobs that optimizers share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import Field

from lorasweep.core.protocols import is_text_encoder
from lorasweep.core.records import Advice

if TYPE_CHECKING:
    import torch

Groups = Mapping[str, "Sequence[torch.nn.Parameter]"]  # trainable tensors by part of the model
Optimizer: TypeAlias = "torch.optim.Optimizer"
USUAL_LR = tuple(  # of optimizers in Adam's scale
    Advice(key=key, high=1e-2, reason="1e-4 is usual, and from here on weights are thrown about rather than trained")
    for key in ("optimizer.lr", "optimizer.text_encoder_lr")
)
TEXT_ENCODER = "text_encoder"
Beta = Annotated[float, Field(ge=0, lt=1)]
Epsilon = Annotated[float, Field(gt=0, le=1)]
FirstStepSize = Annotated[float, Field(gt=0, le=1, description="1e-6 is usual")]
WeightDecay = Annotated[float, Field(ge=0, le=100, description="0 to 0.1 is usual")]
_Rate = Annotated[float, Field(ge=0, description="null: the same as lr")]
TextEncoderRate = _Rate | tuple[_Rate, ...] | None
UP = ".up"  # behind a part's name: its second factors, which have another rate
UpRatio = Annotated[float, Field(gt=0, le=1000, description="4 to 16 is usual; null: both have one lr")] | None


def param_groups(
    groups: Groups, *, lr: float, text_encoder_lr: TextEncoderRate, loraplus_lr_ratio: UpRatio = None
) -> list[dict[str, Any]]:
    """Return one torch param group per part, and per part's second factors, with its peak lr."""
    parts = [name for name in groups if not name.endswith(UP)]
    peaks = peak_rates(parts, lr=lr, text_encoder_lr=text_encoder_lr, loraplus_lr_ratio=loraplus_lr_ratio)
    return [
        {"params": list(parameters), "name": name, "lr": peaks[name], "initial_lr": peaks[name]}
        for name, parameters in groups.items()
    ]


def peak_rates(
    parts: Sequence[str], *, lr: float, text_encoder_lr: TextEncoderRate, loraplus_lr_ratio: UpRatio = None
) -> dict[str, float]:
    """Return peak lr by part; of text encoders their own where given, one for all or one each, else `lr`.

    With LoRA+ each part's second factors have that times the ratio.

    Raises:
        ValueError: there are more or fewer rates than text encoders.
    """
    texts = [part for part in parts if is_text_encoder(part)]
    if text_encoder_lr is None:
        own = [lr] * len(texts)
    elif isinstance(text_encoder_lr, Sequence):
        own = list(text_encoder_lr)
    else:
        own = [text_encoder_lr] * len(texts)
    if texts and len(own) != len(texts):
        raise ValueError(f"must have one rate, or one for each of {', '.join(texts)}, got {len(own)}")
    peaks = {part: lr for part in parts} | dict(zip(texts, own, strict=False))
    if loraplus_lr_ratio is not None:
        peaks |= {f"{part}{UP}": peak * loraplus_lr_ratio for part, peak in peaks.items()}
    return peaks
