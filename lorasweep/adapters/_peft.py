"""An adapter made of PEFT layers inside a base's modules: what LoRA and its relatives share.

Takes one PEFT config per part of the model ("unet", "text_encoder"), returns a `protocols.Adapter`. Several
adapters may live in one base; each has its own name in the PEFT layers and touches nothing of the others.
"""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer

from lorasweep import seeds
from lorasweep.errors import AdapterError

if TYPE_CHECKING:
    from lorasweep.protocols import Base

# Fills one new tensor in place: (tensor, its name such as `lora_A.weight`, its own generator on the CPU).
Init = Callable[[torch.Tensor, str, torch.Generator], None]

_numbers = itertools.count()


class PeftAdapter:
    """See `protocols.Adapter`. Made by `build_peft`."""

    def __init__(
        self, name: str, configs: Mapping[str, PeftConfig], models: dict[str, torch.nn.Module]
    ) -> None:
        self._name = name
        self._configs = configs
        self._models = models
        self._layers: dict[str, Any] = {
            f"{part}.{path}": layer
            for part, model in models.items()
            for path, layer in model.named_modules()
            if isinstance(layer, BaseTunerLayer) and name in layer._get_available_adapters()
        }

    def parameters(self) -> dict[str, list[torch.nn.Parameter]]:
        """Trainable tensors by part, in the order of `state_dict`."""
        found: dict[str, list[torch.nn.Parameter]] = {part: [] for part in self._models}
        for key, parameter in self.named_parameters():
            found[key.split(".", 1)[0]].append(parameter)
        return found

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Yield (name, parameter), named as in diffusers: `unet.conv_in.lora_A.weight`."""
        for path, layer in self._layers.items():
            for kind in layer.adapter_layer_names:
                held = getattr(layer, kind)
                if self._name not in held:
                    continue
                if isinstance(held[self._name], torch.nn.Parameter):
                    yield f"{path}.{kind}", held[self._name]
                else:
                    for suffix, parameter in held[self._name].named_parameters():
                        yield f"{path}.{kind}.{suffix}", parameter

    def set_weight(self, weight: float) -> None:
        """Set the sampling weight; at 0 the layers are bypassed, so the output is the base's bit for bit."""
        for layer in self._layers.values():
            others = [name for name in layer.active_adapters if name != self._name]
            wanted = [*others, self._name] if weight != 0 else others
            if wanted != layer.active_adapters:
                layer.set_adapter(wanted)
            layer.set_scale(self._name, weight)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Copies of the trainable tensors, on the CPU."""
        return {key: parameter.detach().cpu().clone() for key, parameter in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore tensors bit for bit.

        Raises:
            AdapterError: names or shapes differ; nothing was changed.
        """
        own = dict(self.named_parameters())
        if own.keys() != state.keys():
            missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
            raise AdapterError(
                f"the file does not fit this adapter: {len(missing)} tensors missing ({_some(missing)}), "
                f"{len(unknown)} unknown ({_some(unknown)}); was it made by another recipe?"
            )
        wrong = [key for key, parameter in own.items() if parameter.shape != state[key].shape]
        if wrong:
            raise AdapterError(
                f"the file does not fit this adapter: {len(wrong)} tensors of other shapes ({_some(wrong)}); "
                "was it made with another dim?"
            )
        with torch.no_grad():
            for key, parameter in own.items():
                parameter.copy_(state[key])

    def save(self, path: Path) -> None:
        """Write what `StableDiffusionPipeline.load_lora_weights` reads, rank and alpha in the metadata."""
        from diffusers import StableDiffusionPipeline

        tensors: dict[str, dict[str, torch.Tensor]] = {part: {} for part in self._models}
        for key, tensor in self.state_dict().items():
            part, name = key.split(".", 1)
            tensors[part][name] = tensor
        metadata = {part: _metadata(config) for part, config in self._configs.items()}
        StableDiffusionPipeline.save_lora_weights(
            str(path.parent),
            weight_name=path.name,
            unet_lora_layers=tensors["unet"],
            unet_lora_adapter_metadata=metadata["unet"],
            text_encoder_lora_layers=tensors.get("text_encoder"),
            text_encoder_lora_adapter_metadata=metadata.get("text_encoder"),
        )
        _sort_metadata(path)

    def remove(self) -> None:
        """Put the base's own modules back where no other adapter sits; a second call does nothing."""
        self.set_weight(0)
        for path, layer in self._layers.items():
            part, name = path.split(".", 1)
            layer.delete_adapter(self._name)
            if not layer._get_available_adapters():
                self._models[part].set_submodule(name, layer.get_base_layer())
        for model in self._models.values():
            _forget(model, self._name)
        self._layers = {}


def build_peft(base: Base, configs: Mapping[str, PeftConfig], *, seed: int, init: Init) -> PeftAdapter:
    """Put PEFT layers into the base and fill them; active, at weight 1, in fp32.

    Args:
        base: gets the layers in place; its own weights stay frozen.
        configs: one per part, `target_modules` being full module names.
        seed: every tensor is drawn from a generator of its own, derived from this and the tensor's name, so
            neither the global generator nor what else is trained changes a draw.
        init: fills one tensor.
    """
    name = f"lorasweep_{next(_numbers)}"
    models: dict[str, torch.nn.Module] = {part: getattr(base, part) for part in configs}
    # PEFT draws its own first values from the global generator; they are thrown away below.
    with torch.random.fork_rng(devices=[]):
        for part, config in configs.items():
            _inject(models[part], config, name)
    adapter = PeftAdapter(name, configs, models)
    for key, parameter in adapter.named_parameters():
        values = torch.empty(parameter.shape)
        init(values, key, torch.Generator().manual_seed(seeds.derive(seed, "adapter", key)))
        parameter.data = values.to(base.device)
    return adapter


def _inject(model: torch.nn.Module, config: PeftConfig, name: str) -> None:
    """Inject next to whatever adapters are there, leaving them as active as they were."""
    before = {
        path: list(layer.active_adapters)
        for path, layer in model.named_modules()
        if isinstance(layer, BaseTunerLayer)
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # several slots, one base
        inject_adapter_in_model(config, model, name)
    for path, layer in model.named_modules():
        if isinstance(layer, BaseTunerLayer):
            own = [name] if name in layer._get_available_adapters() else []
            layer.set_adapter([*before.get(path, []), *own])


def _forget(model: torch.nn.Module, name: str) -> None:
    """Drop what PEFT wrote onto the model itself."""
    configs: dict[str, Any] = getattr(model, "peft_config", {})
    configs.pop(name, None)
    if not configs and hasattr(model, "peft_config"):
        del model.peft_config


def _metadata(config: PeftConfig) -> dict[str, Any]:
    """The config as JSON wants it; sets are sorted, so that equal adapters give equal files."""
    return {
        key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()
    }


def _sort_metadata(path: Path) -> None:
    """Put the metadata of a .safetensors into order: the library hashes it, differently in every process."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8, as the library has it
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") if names else "none"
