"""Keep frozen weights in 8 bits and compute with them in the precision of the rest.

diffusers' `enable_layerwise_casting` casts in place, so that a backward pass, or a forward pass that gradient
checkpointing repeats, finds the wrong precision. Here a layer's weight is cast anew where it is used, on the way back
as well, and autograd keeps the 8 bits.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch.nn import functional
from torch.nn.grad import conv2d_input

STORAGE = torch.float8_e4m3fn  # 4 bits of exponent, 3 of mantissa, up to 448: what weights are kept in


def store(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Put the weights of a model's blocks into 8 bits: linear layers and convolutions, whose biases stay.

    Args:
        model: frozen; the layers outside its blocks are few, and stay too.
        dtype: computed in.
    """
    for name, layer in model.named_modules():
        if "block" in name and isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
            layer.weight.data = layer.weight.data.to(STORAGE)
            layer.forward = functools.partial(_forward, layer, dtype)  # type: ignore[method-assign]


def _forward(layer: Any, dtype: torch.dtype, x: torch.Tensor) -> torch.Tensor:
    answer: torch.Tensor = _Cast.apply(x.to(dtype), layer.weight, layer)
    if layer.bias is None:
        return answer
    return answer + (layer.bias if isinstance(layer, torch.nn.Linear) else layer.bias[:, None, None])


class _Cast(torch.autograd.Function):
    """A layer without its bias; gradients reach the input only."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, layer: Any) -> torch.Tensor:
        ctx.save_for_backward(weight)
        ctx.layer, ctx.shape = layer, x.shape
        if isinstance(layer, torch.nn.Linear):
            return functional.linear(x, weight.to(x.dtype))
        return functional.conv2d(x, weight.to(x.dtype), None, layer.stride, layer.padding, layer.dilation, layer.groups)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (weight,), layer = ctx.saved_tensors, ctx.layer
        weight = weight.to(gradient.dtype)
        if isinstance(layer, torch.nn.Linear):
            return gradient @ weight, None, None
        how = layer.stride, layer.padding, layer.dilation, layer.groups
        return conv2d_input(ctx.shape, weight, gradient, *how), None, None
