"""AdamW with 8-bit states: a quarter of the memory for its running means, where a tensor is large enough.

Needs bitsandbytes, which is not installed by default. Tensors of fewer than 4096 numbers keep 32-bit states:
at dim 4 a LoRA of SD 1.5 is plain AdamW, at dim 32 nearly all of it is 8-bit.
"""

from __future__ import annotations

import importlib.util

from lorasweep.components.optimizers import _knobs
from lorasweep.core.ranges import Positive

_FEWEST_NUMBERS = 4096  # of a tensor with 8-bit states; bitsandbytes' own default

ADVICE = _knobs.USUAL_LR


def build(
    groups: _knobs.Groups,
    *,
    lr: Positive,
    text_encoder_lr: _knobs.TextEncoderRate,
    betas: tuple[_knobs.Beta, _knobs.Beta],
    weight_decay: _knobs.WeightDecay,
    eps: _knobs.Epsilon,
    loraplus_lr_ratio: _knobs.UpRatio = None,
) -> _knobs.Optimizer:
    """Build the optimizer.

    Source: Dettmers et al., "8-bit Optimizers via Block-wise Quantization" (2022).
    """
    from bitsandbytes.optim import AdamW8bit

    made = _knobs.param_groups(groups, lr=lr, text_encoder_lr=text_encoder_lr, loraplus_lr_ratio=loraplus_lr_ratio)
    return AdamW8bit(
        made,
        lr=lr,
        betas=(betas[0], betas[1]),
        eps=eps,
        weight_decay=weight_decay,
        min_8bit_size=_FEWEST_NUMBERS,
    )


def problems() -> list[tuple[str, str, str]]:
    """Refuse where the library is not there."""
    if importlib.util.find_spec("bitsandbytes") is not None:
        return []
    hint = "pip install 'lorasweep[cuda]', or override: optimizer=adamw"
    return [("name", "adamw8bit needs bitsandbytes, which is not installed", hint)]


def logged(optimizer: _knobs.Optimizer) -> dict[str, float]:
    """Return what to log beside the lr: the share of trained numbers whose states are 8-bit, in [0, 1]."""
    sizes = [parameter.numel() for group in optimizer.param_groups for parameter in group["params"]]
    return {"share_8bit": sum(size for size in sizes if size >= _FEWEST_NUMBERS) / sum(sizes)}
