"""Several adapters in one forward of the frozen base they share: each acts on its own rows of the batch.

    with packed.joined([slot.adapter.factors() ...]): base.predict(rows of the first slot, of the second, ...)

A list of one is the plain case, where this is faster than PEFT's layers: a layer whose input is long beside its
width takes one product with base + up @ down, where PEFT takes three and two sums. In half precision, and where
weights are stored otherwise, the product stays beside the base's, for it would be rounded away.

K slots, N rows of one slot's input to a layer, I O its widths, R the largest rank.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from lorasweep.core.protocols import Factors


@contextlib.contextmanager
def joined(adapters: Sequence[Mapping[torch.nn.Module, Factors]]) -> Iterator[None]:
    """Have layers add each adapter's product, by layer, to its share of the rows; nothing else of an adapter acts.

    All are on the same layers; a batch has as many rows for each, in this order. With none of them layers act as ever.
    """
    layers = adapters[0] if adapters else {}
    for layer in layers:
        # An attribute of the instance goes before the class's method.
        layer.forward = functools.partial(_forward, layer.base_layer, [factors[layer] for factors in adapters])
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _forward(base: Any, factors: Sequence[Factors], x: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    if isinstance(base, torch.nn.Linear):
        return _linear(base, factors, x)
    if _is_plain(base, factors) and base.kernel_size == (1, 1) and base.stride == (1, 1) and base.padding == (0, 0):
        return _linear(base, factors, x.movedim(1, -1)).movedim(-1, 1)
    return _convolution(base, factors, x)


def _linear(base: Any, factors: Sequence[Factors], x: torch.Tensor) -> torch.Tensor:
    """Apply a linear layer, or a convolution that is one, to inputs whose last axis is the channels."""
    width_out, width_in = len(factors[0].up), factors[0].down.shape[1]
    x_KNI = x.reshape(len(factors), -1, width_in)
    rank = max(len(each.down) for each in factors)
    down_KRI = _stacked([_padded(each.down.flatten(1), rank, 0) for each in factors])
    scale = factors[0].scale
    up_KOR = _stacked([_padded(_scaled(each.up.flatten(1), each.scale / scale), rank, 1) for each in factors])
    rows = x_KNI.shape[1]
    # Of the forward and the backward: added to the weight, a product costs three times the base's, rows or not.
    is_less = width_in * width_out * (rows + 3 * rank) < 3 * rank * rows * (width_in + width_out)
    if is_less and _is_plain(base, factors):
        weight_OI = base.weight.flatten(1)
        weight_KOI = torch.baddbmm(weight_OI.expand(len(factors), -1, -1), up_KOR, down_KRI, alpha=scale)
        bias_O = weight_OI.new_zeros(width_out) if base.bias is None else base.bias
        y_KNO = torch.baddbmm(bias_O, x_KNI, weight_KOI.mT)
    else:
        is_linear = isinstance(base, torch.nn.Linear)
        y_KNO = base(x_KNI) if is_linear else F.linear(x_KNI, base.weight.flatten(1), base.bias)
        y_KNO = torch.baddbmm(y_KNO, torch.bmm(x_KNI, down_KRI.mT), up_KOR.mT, alpha=scale)
    return y_KNO.view(*x.shape[:-1], width_out)


def _convolution(base: Any, factors: Sequence[Factors], x: torch.Tensor) -> torch.Tensor:
    how = (None, base.stride, base.padding, base.dilation)
    gained = [
        F.conv2d(F.conv2d(part, each.down, *how), each.up * each.scale)
        for part, each in zip(x.chunk(len(factors)), factors, strict=True)
    ]
    return base(x) + (gained[0] if len(gained) == 1 else torch.cat(gained))


def _is_plain(base: Any, factors: Sequence[Factors]) -> bool:
    weight, down = base.weight, factors[0].down
    return bool(weight.dtype == down.dtype and weight.device == down.device)


def _scaled(up_OR: torch.Tensor, factor: float) -> torch.Tensor:
    return up_OR if factor == 1 else up_OR * factor


def _stacked(factors: Sequence[torch.Tensor]) -> torch.Tensor:
    return factors[0][None] if len(factors) == 1 else torch.stack(list(factors))  # of one, nothing is copied


def _padded(factor: torch.Tensor, rank: int, axis: int) -> torch.Tensor:
    """Fill a factor up with zeros to a rank, which its product does not notice."""
    missing = rank - factor.shape[axis]
    return F.pad(factor, (0, missing) if axis else (0, 0, 0, missing)) if missing else factor
