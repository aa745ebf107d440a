"""How much an adapter adds to each module's weight, and the factors that it is a product of.

Max-norm regularization needs both: with each of n factors times r^(1/n), the change is r times itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from lorasweep.components.adapters._peft import PeftAdapter


@dataclass(frozen=True)
class Change:
    """What an adapter at weight 1 adds to one module's weight.

    Attributes:
        norm: Frobenius norm of it, a 0-d tensor.
        factors: the change is linear in each of them.
    """

    norm: torch.Tensor
    factors: tuple[torch.nn.Parameter, ...]


@torch.no_grad()
def changes(adapter: PeftAdapter) -> Iterator[Change]:
    """Yield one `Change` per module; not for DoRA, whose change is no product of its tensors."""
    factors = parameters_by_module(adapter)
    for module, layer in adapter.layers.items():
        yield Change(torch.linalg.vector_norm(adapter.delta(layer)), tuple(factors[module].values()))


def parameters_by_module(adapter: PeftAdapter) -> dict[str, dict[str, torch.nn.Parameter]]:
    """Sort an adapter's parameters: by the module that they change, then by their own name."""
    found: dict[str, dict[str, torch.nn.Parameter]] = {module: {} for module in adapter.layers}
    for key, parameter in adapter.named_parameters():
        found[next(prefix for prefix in _prefixes(key) if prefix in found)][key] = parameter
    return found


def _prefixes(key: str) -> Iterator[str]:
    while "." in key:
        key = key.rsplit(".", 1)[0]
        yield key
