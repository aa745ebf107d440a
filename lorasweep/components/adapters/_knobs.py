"""Types and ranges of knobs that several adapters have, and how large their tensors are. No torch: `plan` reads them.

An adapter's own tensors in one layer follow from the shape of its weight alone. An adapter's module names one of these
as its `layer_shapes`; `plan` counts with it what `build` will train, and a test over every conf/adapter/*.yaml holds
the two together.

Letters: O outputs, I inputs, k the kernel's numbers (1 for a linear layer), r the rank.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

Rank = Annotated[int, Field(ge=1, description="4 to 32 is usual")]
Alpha = Annotated[float, Field(gt=0, description="half of dim is usual")]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Targets = Literal["attn", "attn-mlp", "full"]
Init = str | None
Shape = tuple[int, ...]


def low_rank(shape: Shape, *, dim: int, conv_dim: int | None = None, **_: object) -> list[Shape]:
    """Return down and up of a product; a convolution's down has its kernel, and one wider than 1 x 1 its own rank."""
    rank = conv_dim if conv_dim is not None and len(shape) == 4 and shape[2:] != (1, 1) else dim
    return [(rank, *shape[1:]), (shape[0], rank, *[1] * (len(shape) - 2))]


def hadamard(shape: Shape, *, dim: int, **_: object) -> list[Shape]:
    """Return the four factors of a LoHa, flat over a kernel."""
    flat = math.prod(shape[1:])
    return [(shape[0], dim), (dim, flat)] * 2


def kronecker(shape: Shape, *, dim: int, factor: int, decompose_both: bool, **_: object) -> list[Shape]:
    """Return the factors of a LoKr: a side is one matrix, or two where the rank is under half its longer side."""
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
    """Return a side as small times large: the factor where it divides, else the nearest divisor below it."""
    if factor > 0 and side % factor == 0:
        return factor, side // factor
    most = math.isqrt(side) if factor == -1 else min(factor, math.isqrt(side))
    small = max(number for number in range(1, most + 1) if side % number == 0)
    return small, side // small
