"""The adapter object of LoHa and LoKr: PEFT's layers, and files in LyCORIS's keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from lorasweep.adapters._peft import PeftAdapter
from lorasweep.adapters.kohya_names import kohya_name


class LycorisAdapter(PeftAdapter):
    """A `PeftAdapter` saved as the UIs read it: diffusers has no reader for these kinds."""

    def save(self, path: Path) -> None:
        """Write LyCORIS's keys, with alpha per module."""
        tensors: dict[str, torch.Tensor] = {}
        for key, tensor in self.state_dict().items():
            module, suffix = key.rsplit(".", 1)
            tensors[f"{kohya_name(module)}.{suffix}"] = tensor.contiguous()
        for module, layer in self.layers.items():
            tensors[f"{kohya_name(module)}.alpha"] = torch.tensor(float(layer.alpha[self.name]))
        save_file(tensors, path)


class LokrAdapter(LycorisAdapter):
    """LoKr, with the scale that LyCORIS and the UIs give it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        for layer in self.layers.values():
            if self.name in layer.lokr_w1 and self.name in layer.lokr_w2:
                # Nothing here has a rank: loaders take such a product as it is, PEFT would scale it.
                layer.alpha[self.name] = float(layer.r[self.name])
                layer.set_scale(self.name, 1.0)
