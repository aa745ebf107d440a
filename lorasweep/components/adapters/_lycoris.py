"""The adapter object of LoHa and LoKr: PEFT's layers, and files in LyCORIS's keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from lorasweep.components.adapters._peft import PeftAdapter


class LycorisAdapter(PeftAdapter):
    """A `PeftAdapter` saved as the UIs read it: diffusers has no reader for these kinds."""

    file_kind = "loha"

    def file_names(self) -> dict[str, str]:
        """LyCORIS's keys."""
        parts = {key: key.rsplit(".", 1) for key, _ in self.named_parameters()}
        return {key: f"{self.kohya_name(module)}.{suffix}" for key, (module, suffix) in parts.items()}

    def save(self, path: Path) -> None:
        """Write LyCORIS's keys, with alpha per module."""
        names = self.file_names()
        tensors = {names[key]: tensor.contiguous() for key, tensor in self.state_dict().items()}
        for module, layer in self.layers.items():
            tensors[f"{self.kohya_name(module)}.alpha"] = torch.tensor(float(layer.alpha[self.name]))
        save_file(tensors, path)


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
