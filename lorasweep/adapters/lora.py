"""LoRA: beside each chosen weight W a trainable product, W + (alpha / dim) * up @ down. Through PEFT.

Takes a frozen base, returns a `protocols.Adapter` that is the identity until trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

    from lorasweep.protocols import Adapter, Base


def build(
    base: Base,
    *,
    seed: int,
    dim: int = 32,
    alpha: float = 16.0,
    targets: Literal["attn", "attn-mlp", "full"] = "attn-mlp",
    text_encoder: bool = False,
    dropout: float = 0.0,
) -> Adapter:
    """Put a LoRA into `base`, drawn from `seed`.

    Args:
        base: adapted in place until `remove`.
        seed: the recipe's.
        dim: rank of the product, >= 1.
        alpha: scale of the product, > 0; at alpha = dim it is 1.
        targets: `attn` the attention's linear layers; `attn-mlp` the whole transformer blocks, as kohya;
            `full` also the residual blocks' convolutions and linear layers, and the resamplers.
        text_encoder: train the text encoder too (its attention, and its MLP unless `targets` is `attn`).
        dropout: share of a layer's inputs that training hides from the product, [0, 1).

    Raises:
        AdapterError: the base has no module of that kind.

    Source: Hu et al., "LoRA" (2021), eq. 3; down starts Kaiming-uniform as in their code, up starts at zero.
    """
    from peft import LoraConfig

    from lorasweep.adapters._peft import build_peft
    from lorasweep.adapters._targets import find_targets
    from lorasweep.errors import AdapterError

    configs = {}
    for part in ("unet", "text_encoder") if text_encoder else ("unet",):
        names = find_targets(getattr(base, part), targets)
        if not names:
            raise AdapterError(f"adapter.targets={targets} matches no module of this base's {part}")
        # PEFT annotates lora_alpha as int and divides it like a float.
        knobs: dict[str, Any] = {"r": dim, "lora_alpha": alpha, "lora_dropout": dropout}
        configs[part] = LoraConfig(target_modules=names, **knobs)
    return build_peft(base, configs, seed=seed, init=_init)


def problems(
    *,
    dim: int = 32,
    alpha: float = 16.0,
    targets: Literal["attn", "attn-mlp", "full"] = "attn-mlp",
    text_encoder: bool = False,
    dropout: float = 0.0,
) -> list[tuple[str, str, str]]:
    """What the types cannot say about the knobs."""
    found = []
    if dim < 1:
        found.append(("dim", f"must be >= 1, got {dim}", "4 to 32 is usual"))
    if alpha <= 0:
        found.append(("alpha", f"must be > 0, got {alpha}", "half of dim is usual"))
    if not 0 <= dropout < 1:
        found.append(("dropout", f"must be in [0, 1), got {dropout}", ""))
    return found


def _init(values: torch.Tensor, name: str, generator: torch.Generator) -> None:
    import torch

    if ".lora_A." in name:
        torch.nn.init.kaiming_uniform_(values, a=5**0.5, generator=generator)
    else:
        values.zero_()
