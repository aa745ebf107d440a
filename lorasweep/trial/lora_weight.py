"""Look at an adapter without leaving a trace: eval mode, no gradient, a chosen weight, all put back after.

    with lora_weight.lora_weight(base, adapter, 0.7): ...

What sampling and judging share. Knows nothing about pictures, prompts or metrics.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lorasweep.core.protocols import Adapter, Base, Mergeable, is_text_encoder


@contextlib.contextmanager
def lora_weight(base: Base, adapter: Adapter | None, weight: float) -> Iterator[None]:
    """Run the block with the adapter at a sampling weight; modes and the training weight of 1 are restored after.

    Parts of the base are put in eval mode, so that an adapter's dropout does not act. Weight 0 is the base exactly, 1
    is as trained; None is no adapter, provided that none lives in the base.
    """
    import torch

    modules = [module for part in base.parts.values() for module in part.modules()]
    were_training = [module for module in modules if module.training]
    for module in were_training:
        module.training = False
    try:
        with torch.no_grad(), _weighed(base, adapter, weight):
            yield
    finally:
        for module in were_training:
            module.training = True


@contextlib.contextmanager
def _weighed(base: Base, adapter: Adapter | None, weight: float) -> Iterator[None]:
    """Have the adapter act at `weight`: added to the base's weights where their precision has room for it."""
    if adapter is None:
        yield
    elif weight != 0 and isinstance(adapter, Mergeable) and _has_room(base):
        with adapter.merged(weight):
            yield
    else:
        adapter.set_weight(weight)
        try:
            yield
        finally:
            adapter.set_weight(1.0)


def _has_room(base: Base) -> bool:
    """Tell whether the base's own weights can hold an adapter's without rounding it away."""
    import torch

    return base.dtype == torch.float32 and base.memory.storage == "plain" and not base.memory.offload_denoiser


@contextlib.contextmanager
def without_adapters(base: Base) -> Iterator[None]:
    """Run the block with every adapter in the base switched off, whoever owns it.

    Not within `lora_weight`: what that has added to the base's own weights stays in them.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    modules = [module for part in base.parts.values() for module in part.modules()]
    awake = [module for module in modules if isinstance(module, BaseTunerLayer) and not module.disable_adapters]
    for layer in awake:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in awake:
            layer.enable_adapters(True)


def trains_text(adapter: Adapter | None) -> bool:
    """Tell whether captions must be encoded through the adapter, rather than taken from a cache."""
    return adapter is not None and any(
        is_text_encoder(part) and tensors for part, tensors in adapter.parameters().items()
    )
