"""Which modules of a Stable Diffusion an adapter may sit on, by the block that they belong to.

Takes a UNet or a CLIP text encoder, returns module names. Modules that already carry an adapter are found
under their own name.

Source: kohya-ss/sd-scripts, networks/lora.py, LoRANetwork.*_TARGET_REPLACE_MODULE*. On the UNet of SD 1.5 the
scope `attn-mlp` gives its 192 modules, on the text encoder its 72.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from lorasweep.core.errors import AdapterError
from lorasweep.core.protocols import is_text_encoder

if TYPE_CHECKING:
    import torch

    from lorasweep.core.protocols import Base

Scope = Literal["attn", "attn-mlp", "full"]

ATTENTION = ("Attention", "CLIPAttention")
TRANSFORMER = ("Transformer2DModel", "CLIPAttention", "CLIPMLP")
CONVOLUTION = ("ResnetBlock2D", "Downsample2D", "Upsample2D")


def targets_by_part(base: Base, scope: Scope, *, text_encoder: bool) -> dict[str, list[str]]:
    """Names of the modules in `scope` for the denoiser and, when trained, the text encoders.

    Raises:
        AdapterError: a part has no module of that kind.
    """
    found = {}
    for part, model in trained_parts(base, text_encoder=text_encoder).items():
        found[part] = find_targets(model, scope)
        if not found[part]:
            raise AdapterError(f"adapter.targets={scope} matches no module of this base's {part}")
    return found


def trained_parts(base: Base, *, text_encoder: bool) -> dict[str, torch.nn.Module]:
    """The denoiser and, when they are trained too, the text encoders."""
    return {part: model for part, model in base.parts.items() if text_encoder or not is_text_encoder(part)}


def find_targets(model: torch.nn.Module, scope: Scope) -> list[str]:
    """Names of the Linear and Conv2d modules in `scope`, in the model's own order.

    Args:
        model: a UNet2DConditionModel or CLIPTextModel, adapted or not, on any device.
        scope: `attn`: queries, keys, values and outputs of attention; `attn-mlp`: everything in the
            transformer blocks, as kohya's LoRA; `full`: also the residual blocks and the resamplers.
    """
    import torch

    blocks = {"attn": ATTENTION, "attn-mlp": TRANSFORMER, "full": (*TRANSFORMER, *CONVOLUTION)}[scope]
    return [
        name
        for name, module, kinds in _leaves(model, "", frozenset())
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d) and not kinds.isdisjoint(blocks)
    ]


def find_spatial(model: torch.nn.Module, names: list[str]) -> list[str]:
    """Those of `names` that are convolutions wider than 1 x 1: what kohya's conv_dim is for."""
    import torch

    wanted = set(names)
    return [
        name
        for name, module, _ in _leaves(model, "", frozenset())
        if name in wanted and isinstance(module, torch.nn.Conv2d) and module.kernel_size != (1, 1)
    ]


def find_ends(model: torch.nn.Module, ends: tuple[str, ...]) -> list[str]:
    """Names of the Linear modules that end in one of `ends`, whole words of the dotted name."""
    import torch

    return [
        name
        for name, module, _ in _leaves(model, "", frozenset())
        if isinstance(module, torch.nn.Linear) and f".{name}".endswith(tuple(f".{end}" for end in ends))
    ]


def _leaves(
    module: torch.nn.Module, name: str, kinds: frozenset[str]
) -> Iterator[tuple[str, torch.nn.Module, frozenset[str]]]:
    """Yield (name, plain module, class names of all blocks around it) without looking inside adapters."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    if isinstance(module, BaseTunerLayer):
        yield name, module.get_base_layer(), kinds
        return
    yield name, module, kinds
    inside = kinds | {type(module).__name__}
    for child_name, child in module.named_children():
        yield from _leaves(child, f"{name}.{child_name}" if name else child_name, inside)
