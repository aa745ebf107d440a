"""Linear layers by oneDNN where no gradient is asked for: what torch takes for them is slow on some CPUs.

torch multiplies fp32 matrices by MKL, whose products run at half of oneDNN's speed on CPUs with AVX-512 that are not
Intel's (docs/performance.md). A linear layer is a 1 x 1 convolution, and of those torch takes oneDNN's.
"""

from __future__ import annotations

import functools

import torch
from torch.nn import functional as F

_FEWEST_ROWS = 256  # below, calls cost more than products
_FEWEST_SAMPLES = 16  # torch computes 1 x 1 convolutions of fewer by its own kernels


def use_onednn(model: torch.nn.Module) -> None:
    """Have a model's linear layers do so, if this CPU gains by it. Their type is a subclass of `torch.nn.Linear`."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not torch.backends.mkldnn.is_available():
        return
    for module in model.modules():
        if type(module) is torch.nn.Linear:
            module.__class__ = _Linear


class _Linear(torch.nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        rows = input.numel() // self.in_features
        samples = 0 if torch.is_grad_enabled() or input.dtype is not torch.float32 else _samples(rows)
        if not samples:
            return super().forward(input)
        x_NI1L = input.reshape(samples, -1, self.in_features).mT.unsqueeze(2)  # channels_last: nothing is copied
        y_NO1L = F.conv2d(x_NI1L, self.weight[:, :, None, None], self.bias)
        return y_NO1L.squeeze(2).mT.reshape(*input.shape[:-1], self.out_features)


@functools.cache
def _samples(rows: int) -> int:
    """Return the least number of equal samples to cut rows into for oneDNN; 0 when they are too few, or prime."""
    most = rows // 4 if rows >= _FEWEST_ROWS else 0
    return next((samples for samples in range(_FEWEST_SAMPLES, most + 1) if rows % samples == 0), 0)
