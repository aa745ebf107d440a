"""Keep the frozen weights of a model's blocks in fewer bits, or in the machine's memory, and compute as ever.

diffusers' hooks (`enable_layerwise_casting`, `enable_group_offload`) change weights in place before and after a forward
pass, so that a backward pass finds the wrong precision or the wrong device. Here a layer's weight is made anew where
it is used, on the way back as well, and autograd keeps what is stored.

    fp8    torch.float8_e4m3fn: 4 bits of exponent, 3 of mantissa, up to 448
    int8   -127 to 127 times a number per output: as large, a third of the error
    nf4    4 bits, which stand for quantiles of a normal, times a number per 64 weights (bitsandbytes)

Source: Dettmers et al., "QLoRA" (2023), section 3, for nf4.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional
from torch.nn.grad import conv2d_input

_IN_BLOCK = re.compile(r"(^|\.)\d+\.")
_SCALE = "weight_scale"
_BLOCK = 64  # weights of nf4 that share a scale


def layers_of(model: torch.nn.Module) -> Iterator[Any]:
    """List the linear layers and convolutions in a model's numbered blocks; those outside are few, and stay."""
    for name, layer in model.named_modules():
        if _IN_BLOCK.search(name) and isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
            yield layer


def store(model: torch.nn.Module, storage: str, dtype: torch.dtype) -> dict[torch.nn.Parameter, torch.Tensor]:
    """Store the weights of a frozen model's blocks, plain, in fp8, int8 or nf4, unless they are; biases stay.

    They are computed with in `dtype`. Returns scales that have given way to those of new weights, by their parameter.
    """
    before = {}
    for layer in layers_of(model):
        shape = tuple(layer.weight.shape)
        if layer.weight.dtype == dtype and storage != "plain":
            layer.weight.data, scale = _packed(layer.weight.data, storage)
            if hasattr(layer, _SCALE):
                held = layer.get_parameter(_SCALE)
                before[held], held.data = held.data, scale
            elif scale is not None:
                layer.register_parameter(_SCALE, torch.nn.Parameter(scale, requires_grad=False))
        if not hasattr(layer, "read_weight"):
            layer.read_weight = functools.partial(_weight, layer, shape, dtype)
            layer.forward = functools.partial(_forward, layer, dtype)
    return before


def place(model: torch.nn.Module, device: torch.device, *, waiting: bool) -> None:
    """Move a model to a device; if `waiting`, without the weights of its blocks, which visit it one by one."""
    held = {layer: layer._parameters.pop("weight") for layer in layers_of(model)} if waiting else {}
    model.to(device)
    for layer, weight in held.items():
        if device.type == "cuda" and torch.cuda.is_available():
            weight.data = weight.data.pin_memory()  # from where a copy needs no waiting for
        layer._parameters["weight"] = weight


def _packed(weight: torch.Tensor, storage: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    if storage == "fp8":
        return weight.to(torch.float8_e4m3fn), None
    if storage == "int8":
        rows = weight.float().flatten(1)
        scale = (rows.abs().amax(1) / 127).clamp(min=1e-30).view(-1, *[1] * (weight.ndim - 1))
        return (weight / scale).round().to(torch.int8), scale
    from bitsandbytes.functional import quantize_4bit

    packed, state = quantize_4bit(weight.contiguous(), blocksize=_BLOCK, quant_type="nf4")
    return packed.view(-1, *[1] * (weight.ndim - 1)), state.absmax  # of as many axes, by which PEFT knows a layer


def _weight(layer: Any, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | None = None) -> torch.Tensor:
    """Return a layer's weight as it is computed with, where it is or on another device."""
    weight = layer.weight.to(device or layer.weight.device, non_blocking=True)
    if weight.dtype == torch.uint8:
        scale = getattr(layer, _SCALE).to(weight.device)
        return torch.ops.bitsandbytes.dequantize_4bit(weight.view(-1, 1), scale, _BLOCK, "nf4", shape, dtype)
    if weight.dtype == torch.int8:
        weight = weight * getattr(layer, _SCALE).to(weight.device)
    return weight.to(dtype)


def _forward(layer: Any, dtype: torch.dtype, x: torch.Tensor) -> torch.Tensor:
    return _Stored.apply(x.to(dtype), layer)


class _Stored(torch.autograd.Function):
    """A frozen layer; gradients reach the input only."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: Any) -> torch.Tensor:
        ctx.layer, ctx.shape = layer, x.shape
        weight = layer.read_weight(x.device)
        if isinstance(layer, torch.nn.Linear):
            return functional.linear(x, weight, layer.bias)
        how = layer.stride, layer.padding, layer.dilation, layer.groups
        return functional.conv2d(x, weight, layer.bias, *how)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        layer = ctx.layer
        weight = layer.read_weight(gradient.device).to(gradient.dtype)
        if isinstance(layer, torch.nn.Linear):
            return gradient @ weight, None
        how = layer.stride, layer.padding, layer.dilation, layer.groups
        return conv2d_input(ctx.shape, weight, gradient, *how), None
