"""Adapters saved in LyCORIS's keys, as the UIs read them: diffusers has no reader for these kinds.

LoHa and LoKr are PEFT's layers; (IA)^3's are our own.

Letters: l (IA)^3's factors minus 1, one per output of a key or value, or per input of a feed-forward's way back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file

from lorasweep.components.adapters._peft import PeftAdapter, new_name
from lorasweep.components.adapters._targets import FEED_FORWARD, KEYS_AND_VALUES, find_ends, trained_parts
from lorasweep.core.errors import AdapterError
from lorasweep.core.protocols import Base, frozen_weight


class LycorisAdapter(PeftAdapter):
    """A `PeftAdapter` with such files; LoHa as it is."""

    file_kind = "loha"

    def file_names(self) -> dict[str, str]:
        """Return LyCORIS's keys."""
        parts = {key: key.rsplit(".", 1) for key, _ in self.named_parameters()}
        return {key: f"{self.kohya_name(module)}.{suffix}" for key, (module, suffix) in parts.items()}

    def save(self, path: Path) -> None:
        """Write LyCORIS's keys, and what a module has beside its factors."""
        names = self.file_names()
        tensors = {names[key]: tensor.contiguous() for key, tensor in self.state_dict().items()}
        for module, layer in self.layers.items():
            what, value = self._told(layer)
            tensors[f"{self.kohya_name(module)}.{what}"] = torch.tensor(value)
        save_file(tensors, path)

    def _told(self, layer: Any) -> tuple[str, float]:
        return "alpha", float(layer.alpha[self.name])


class LokrAdapter(LycorisAdapter):
    """LoKr, with the scale that LyCORIS and the UIs give it."""

    file_kind = "lokr"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        for layer in self.layers.values():
            if self.name in layer.lokr_w1 and self.name in layer.lokr_w2:
                # Nothing here has a rank: loaders take such a product as it is, PEFT would scale it.
                layer.alpha[self.name] = float(layer.r[self.name])
                layer.set_scale(self.name, 1.0)


class Ia3Layer(torch.nn.Module, BaseTunerLayer):
    """A linear layer with factors on its inputs or outputs; holds one adapter.

    It is one of PEFT's tuner layers so that what looks for those, to switch adapters off or to find the
    base's own modules, finds it too.
    """

    adapter_layer_names = ("ia3_l",)
    other_param_names = ("weight_of",)

    def __init__(self, base_layer: torch.nn.Linear, name: str, *, on_input: bool) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.on_input = on_input
        plain: Any = self.get_base_layer()
        size = plain.in_features if on_input else plain.out_features
        self.ia3_l = torch.nn.ParameterDict({name: torch.zeros(size, device=plain.weight.device)})
        self.weight_of = {name: 1.0}
        self.set_adapter(name)

    def set_scale(self, name: str, weight: float) -> None:
        """Set the sampling weight."""
        self.weight_of[name] = weight

    def forward(self, inputs: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        """Return W * (1 + weight * l) at the inputs, in the base layer's precision; the bias as it is."""
        active = [name for name in self.active_adapters if name in self.ia3_l]
        if self.disable_adapters or not active:
            return self.base_layer(inputs, *arguments, **options)
        (name,) = active
        change = self.weight_of[name] * self.ia3_l[name]
        if self.on_input:
            return self.base_layer(inputs + (inputs * change).to(inputs.dtype), *arguments, **options)
        outputs: torch.Tensor = self.base_layer(inputs, *arguments, **options)
        bias: Any = self.bias
        scaled = outputs if bias is None else outputs - bias
        return outputs + (scaled * change).to(outputs.dtype)


class Ia3Adapter(LycorisAdapter):
    """(IA)^3, which has no product and so no alpha, but the side that each layer's factors are on."""

    file_kind = "ia3"

    def delta(self, layer: Any) -> torch.Tensor:
        """Return the base weight times the factors, less itself."""
        factors: torch.Tensor = layer.ia3_l[self.name]
        weight_OI = frozen_weight(layer.get_base_layer()).to(factors.device).float()
        return weight_OI * (factors if layer.on_input else factors[:, None])

    def trained_scale(self, path: str) -> float:
        """Return 1: there is no product."""
        return 1.0

    def file_names(self) -> dict[str, str]:
        """Return LyCORIS's keys: `weight` for the factors."""
        return {f"{module}.ia3_l": f"{self.kohya_name(module)}.weight" for module in self.layers}

    def _told(self, layer: Any) -> tuple[str, float]:
        return "on_input", int(layer.on_input)


def build_ia3(base: Base, *, text_encoder: bool, init: str | None) -> Ia3Adapter:
    """Put the layers into the base; active, at weight 1, in fp32."""
    name = new_name(base)
    models = trained_parts(base, text_encoder=text_encoder)
    places = {part: find_ends(model, (*KEYS_AND_VALUES, *FEED_FORWARD)) for part, model in models.items()}
    for part, paths in places.items():
        if not paths:
            raise AdapterError(f"ia3 matches no key, value or feed-forward layer of this base's {part}")
    for part, paths in places.items():
        for path in paths:
            held: Any = models[part].get_submodule(path)
            models[part].set_submodule(path, Ia3Layer(held, name, on_input=path.endswith(FEED_FORWARD)))
    return Ia3Adapter(name, {}, models).started(init)
