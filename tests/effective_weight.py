"""The weight that a live layer acts with, found by asking it for the identity matrix.

An oracle for what adapters say of themselves: it knows nothing of how the layer works, only that it is
linear in its input. Letters: O outputs, I inputs (for a convolution inputs x kernel area), B asked at once.
"""

from __future__ import annotations

from typing import Any

import torch

CHUNK = 2048  # inputs asked at once; bounds memory


def effective_weight(layer: Any) -> torch.Tensor:
    """What an adapted linear module or convolution multiplies its input with; (O, I) fp32, no gradient.

    Args:
        layer: linear in its input, with `get_base_layer`.
    """
    weight = layer.get_base_layer().weight
    inputs = weight[0].numel()
    columns = []
    for start in range(0, inputs, CHUNK):
        rows = torch.arange(min(CHUNK, inputs - start), device=weight.device)
        one_hot_BI = torch.zeros(len(rows), inputs, device=weight.device, dtype=weight.dtype)
        one_hot_BI[rows, start + rows] = 1
        columns.append((_ask(layer, one_hot_BI) - _ask(layer, 0 * one_hot_BI[:1])).float())
    return torch.cat(columns).T


def _ask(layer: Any, inputs_BI: torch.Tensor) -> torch.Tensor:
    """Outputs (B, O) for inputs (B, I); a convolution's input is laid where its second output looks."""
    inner = layer.get_base_layer()
    if inner.weight.dim() == 2:
        outputs_BO: torch.Tensor = layer(inputs_BI)
        return outputs_BO
    channels, height, width = inner.weight.shape[1:]
    # The second output is the first one that no padding reaches into from above or from the left.
    top, left = (step - pad for step, pad in zip(inner.stride, inner.padding, strict=True))
    patch_BCHW = inputs_BI.reshape(len(inputs_BI), channels, height, width)
    image_BCHW = torch.nn.functional.pad(patch_BCHW, (left, 0, top, 0))
    outputs_BOHW: torch.Tensor = layer(image_BCHW)
    return outputs_BOHW[:, :, 1, 1]
