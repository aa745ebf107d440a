"""A plugin's adapter with nothing but what `protocols.Adapter` asks for: a gain per output of attention's values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lorasweep.core.errors import AdapterError
from lorasweep.core.ranges import Positive


def build(base: Any, *, seed: int, strength: Positive) -> Any:
    """Put it into the denoiser."""
    import torch
    from safetensors.torch import load_file, save_file

    class Gain:
        def __init__(self) -> None:
            self.weight, (self.part, *_) = 1.0, base.parts
            self.layers_of_base, self.gains, self.hooks = [], {}, []
            for name, layer in list(base.parts[self.part].named_modules()):
                if isinstance(layer, torch.nn.Linear) and ".to_v" in name and ".lora_" not in name:
                    gain = torch.nn.Parameter(torch.zeros(layer.out_features))
                    layer.register_parameter("gain", gain)
                    self.layers_of_base.append(layer)
                    self.gains[f"{self.part}.{name.removesuffix('.base_layer')}"] = gain
                    self.hooks.append(layer.register_forward_hook(self.act))
            if not self.gains:
                raise AdapterError(f"{self.part} has no to_v")

        def act(self, layer: Any, _: Any, given: torch.Tensor) -> torch.Tensor:
            return given * (1 + self.weight * strength * layer.gain) if self.weight else given

        def parameters(self) -> dict[str, list[Any]]:
            return {self.part: list(self.gains.values())}

        def set_weight(self, weight: float) -> None:
            self.weight = weight

        def state_dict(self) -> dict[str, torch.Tensor]:
            return {name: gain.detach().clone() for name, gain in self.gains.items()}

        def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
            if state.keys() != self.gains.keys():
                raise AdapterError("these are others' tensors")
            for name, gain in self.gains.items():
                gain.data.copy_(state[name])

        def save(self, path: Path) -> None:
            save_file(self.state_dict(), path)

        def load(self, path: Path) -> None:
            self.load_state_dict(load_file(path))

        def remove(self) -> None:
            for layer, hook in zip(self.layers_of_base, self.hooks, strict=True):
                hook.remove()
                layer._parameters.pop("gain", None)

    return Gain()
