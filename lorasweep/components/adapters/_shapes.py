"""Which weights an adapter sits on and how large its own tensors are, from names and shapes alone. No torch.

`plan` counts with this what `build` will train; a test over every conf/adapter/*.yaml holds the two together.
Names tell the blocks that `_targets` tells by their classes: diffusers and transformers name them so.

Letters: O outputs, I inputs, k the kernel's numbers (1 for a linear layer), r the rank.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping

Shape = tuple[int, ...]
Weights = Mapping[str, Mapping[str, Shape]]  # part -> module -> shape of its weight, O first

_SCOPES = {
    "attn": re.compile(r"\.attn\d\.|\.self_attn\."),
    "attn-mlp": re.compile(r"\.attentions\.|\.self_attn\.|\.mlp\."),
    "full": re.compile(r"\.(attentions|resnets|downsamplers|upsamplers|self_attn|mlp)\."),
}


def in_scope(weights: Weights, scope: str, *, text_encoder: bool) -> Iterator[Shape]:
    """Shapes of the linear and convolution weights in a scope of `_targets.find_targets`."""
    for part in ("unet", "text_encoder") if text_encoder else ("unet",):
        for name, shape in weights[part].items():
            if len(shape) > 1 and _SCOPES[scope].search(f".{name}"):
                yield shape


def trained(
    weights: Weights, scope: str, of_layer: Callable[[Shape], list[Shape]], *, text_encoder: bool
) -> list[Shape]:
    """All tensors of an adapter: what `of_layer` makes of each weight in a scope."""
    layers = in_scope(weights, scope, text_encoder=text_encoder)
    return [shape for layer in layers for shape in of_layer(layer)]


def low_rank(shape: Shape, dim: int) -> list[Shape]:
    """Down and up of a product of rank `dim`; a convolution's down has its kernel."""
    return [(dim, *shape[1:]), (shape[0], dim, *[1] * (len(shape) - 2))]


def is_spatial(shape: Shape) -> bool:
    """Whether it is a convolution wider than 1 x 1."""
    return len(shape) == 4 and shape[2:] != (1, 1)


def hadamard(shape: Shape, dim: int) -> list[Shape]:
    """The four factors of a LoHa, flat over a kernel."""
    flat = math.prod(shape[1:])
    return [(shape[0], dim), (dim, flat)] * 2


def kronecker(shape: Shape, dim: int, *, factor: int, decompose_both: bool) -> list[Shape]:
    """The factors of a LoKr: a side is one matrix, or two where the rank is under half its longer side."""
    outputs, inputs = _split(shape[0], factor), _split(shape[1], factor)
    kernel = math.prod(shape[2:])
    found: list[Shape] = []
    if decompose_both and dim < max(outputs[0], inputs[0]) / 2:
        found += [(outputs[0], dim), (dim, inputs[0])]
    else:
        found.append((outputs[0], inputs[0]))
    if dim < max(outputs[1], inputs[1]) / 2:
        return [*found, (outputs[1], dim), (dim, inputs[1] * kernel)]
    return [*found, (outputs[1], inputs[1], *shape[2:])]


def _split(side: int, factor: int) -> tuple[int, int]:
    """A side as small times large: the factor where it divides, else the nearest divisor below it."""
    if factor > 0 and side % factor == 0:
        return factor, side // factor
    most = math.isqrt(side) if factor == -1 else min(factor, math.isqrt(side))
    small = max(number for number in range(1, most + 1) if side % number == 0)
    return small, side // small
