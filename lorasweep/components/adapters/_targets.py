"""Which modules of a base an adapter may sit on.

Takes parts of a base and its scopes, returns module names. Modules that already carry an adapter are found
under their own name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lorasweep.core.errors import AdapterError
from lorasweep.core.protocols import Base, is_text_encoder

if TYPE_CHECKING:
    import torch


# Ends of modules' names: keys and values, and the way back of a feed-forward layer.
KEYS_AND_VALUES = (".to_k", ".to_v", ".k_proj", ".v_proj")
FEED_FORWARD = (".ff.net.2", ".mlp.fc2")


def targets_by_part(base: Base, scope: str, *, text_encoder: bool) -> dict[str, list[str]]:
    """Return names of the modules in `scope` for the denoiser and, when trained, the text encoders.

    Raises:
        AdapterError: a part has no module of that kind.
    """
    found = {}
    for part, model in trained_parts(base, text_encoder=text_encoder).items():
        found[part] = find_targets(model, base.scopes[scope])
        if not found[part]:
            raise AdapterError(f"adapter.targets={scope} matches no module of this base's {part}")
    return found


def trained_parts(base: Base, *, text_encoder: bool) -> dict[str, torch.nn.Module]:
    """Return the denoiser and, when they are trained too, the text encoders."""
    return {part: model for part, model in base.parts.items() if text_encoder or not is_text_encoder(part)}


def find_targets(model: torch.nn.Module, pattern: str) -> list[str]:
    """List the Linear and Conv2d modules that a scope's pattern finds, of names with a dot in front, in order."""
    import torch

    return [
        name
        for name, module in _leaves(model, "")
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d) and re.search(pattern, f".{name}")
    ]


def find_spatial(model: torch.nn.Module, names: list[str]) -> list[str]:
    """Return those of `names` that are convolutions wider than 1 x 1: what kohya's conv_dim is for."""
    import torch

    wanted = set(names)
    return [
        name
        for name, module in _leaves(model, "")
        if name in wanted and isinstance(module, torch.nn.Conv2d) and module.kernel_size != (1, 1)
    ]


def find_ends(model: torch.nn.Module, ends: tuple[str, ...]) -> list[str]:
    """Return names of the Linear modules that end in one of `ends`, each with a dot in front."""
    import torch

    return [
        name for name, module in _leaves(model, "") if isinstance(module, torch.nn.Linear) and f".{name}".endswith(ends)
    ]


def find_weighted(model: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    """Return names and plain modules of whatever has a weight of its own: norms and embeddings too."""
    import torch

    return [
        (name, module)
        for name, module in _leaves(model, "")
        if isinstance(getattr(module, "weight", None), torch.nn.Parameter)
    ]


def _leaves(module: torch.nn.Module, name: str) -> Iterator[tuple[str, torch.nn.Module]]:
    """Yield (name, plain module) without looking inside adapters."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    if isinstance(module, BaseTunerLayer):
        yield name, module.get_base_layer()
        return
    yield name, module
    for child_name, child in module.named_children():
        yield from _leaves(child, f"{name}.{child_name}" if name else child_name)
