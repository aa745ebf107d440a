"""An adapter made of PEFT layers inside a base's modules: what LoRA and its relatives share.

Takes one PEFT config per part of the model, returns a `protocols.Adapter`. Several
adapters may live in one base; each has its own name in the PEFT layers and touches nothing of the others.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from peft import PeftConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file

from lorasweep.components.adapters._start import FACTORS, KEY, Trained, place_start
from lorasweep.components.adapters._targets import find_weighted, targets_by_part
from lorasweep.core import seeds
from lorasweep.core.errors import AdapterError, InputError, Problem
from lorasweep.core.kohya_names import kohya_name
from lorasweep.core.printable import some
from lorasweep.core.protocols import Base, Factors, frozen_weight
from lorasweep.core.safetensors_header import sort_metadata

if TYPE_CHECKING:
    from lorasweep.components.adapters._file_keys import FileModule

# Fills one new tensor in place: (tensor, its name such as `unet.conv_in.lora_A.weight`, its own generator).
# What it leaves alone stays as PEFT computed it from the base's weights.
Init = Callable[[torch.Tensor, str, torch.Generator], None]

AdapterT = TypeVar("AdapterT", bound="PeftAdapter")


class PeftAdapter:
    """See `protocols.Adapter`. Made by `build_peft`."""

    file_kind = "lora"  # what its modules are in a file of any trainer: lora, loha, lokr or ia3

    def __init__(self, name: str, configs: Mapping[str, PeftConfig], models: dict[str, torch.nn.Module]) -> None:
        self.name = name  # its own among the adapters in one layer
        self.weight = 1.0  # in force while sampling
        self._in_base = False
        self._configs = configs
        self._models = models
        modules = itertools.chain.from_iterable(model.modules() for model in models.values())
        self._is_compiled = any(module._compiled_call_impl for module in modules)
        self.layers: dict[str, Any] = {
            f"{part}.{path}": layer
            for part, model in models.items()
            for path, layer in model.named_modules()
            if isinstance(layer, BaseTunerLayer) and name in layer._get_available_adapters()
        }

    def parameters(self) -> dict[str, list[torch.nn.Parameter]]:
        """Return trainable tensors by part, in the order of `state_dict`."""
        found: dict[str, list[torch.nn.Parameter]] = {part: [] for part in self._models}
        for key, parameter in self.named_parameters():
            found[key.split(".", 1)[0]].append(parameter)
        return found

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Yield (name, parameter), named as in diffusers: `unet.conv_in.lora_A.weight`."""
        for path, layer in self.layers.items():
            for kind in dict.fromkeys(layer.adapter_layer_names):  # PEFT lists DoRA's twice
                held = getattr(layer, kind)
                if self.name not in held:
                    continue
                if isinstance(held[self.name], torch.nn.Parameter):
                    yield f"{path}.{kind}", held[self.name]
                else:
                    for suffix, parameter in held[self.name].named_parameters():
                        yield f"{path}.{kind}.{suffix}", parameter

    def by_module(self) -> dict[str, dict[str, torch.nn.Parameter]]:
        """Sort the trainable tensors: by the module that they change, then by their own name."""
        found: dict[str, dict[str, torch.nn.Parameter]] = {path: {} for path in self.layers}
        for key, parameter in self.named_parameters():
            path = next(path for path in (key.rsplit(".", cut)[0] for cut in (1, 2)) if path in found)
            found[path][key] = parameter
        return found

    def set_weight(self, weight: float) -> None:
        """Set the sampling weight; at 0 the layers are bypassed, so the output is the base's bit for bit."""
        assert not self._in_base, "an adapter that is added to the base's weights has its weight until the end"
        self.weight = weight
        for layer in self.layers.values():
            active = layer.active_adapters
            if (self.name in active) != (weight != 0):
                layer.set_adapter(
                    [*active, self.name] if weight != 0 else [name for name in active if name != self.name]
                )
            self.scale_layer(layer, weight)

    def scale_layer(self, layer: Any, weight: float) -> None:
        """Make one layer add `weight` times what it adds at 1."""
        layer.set_scale(self.name, weight)
        if self._is_compiled and hasattr(layer, "scaling"):  # a number would be compiled into the block
            layer.scaling[self.name] = torch.tensor(layer.scaling[self.name], dtype=torch.float64)

    def delta(self, layer: Any) -> torch.Tensor:
        """Return what one layer's base weight gains at weight 1, whichever is in force; shaped as that weight."""
        self.scale_layer(layer, 1.0)
        gained: torch.Tensor = layer.get_delta_weight(self.name)
        self.scale_layer(layer, self.weight)
        return gained

    @contextlib.contextmanager
    def merged(self, weight: float) -> Iterator[None]:
        """Run the block as after `set_weight(weight)`, with one product per layer instead of three.

        The base's tensors are set aside, not computed back, so that they return bit for bit. After the block
        the adapter is as trained.
        """
        inner = [layer.get_base_layer() for layer in self.layers.values()]
        kept = [module.weight.data for module in inner]
        try:
            for module, own, layer in zip(inner, kept, self.layers.values(), strict=True):
                module.weight.data = own + weight * self.delta(layer).detach()
            self.set_weight(0)
            self._in_base = True
            yield
        finally:
            self._in_base = False
            for module, own in zip(inner, kept, strict=True):
                module.weight.data = own
            self.set_weight(1.0)

    def factors(self) -> dict[torch.nn.Module, Factors] | None:
        """See `protocols.Factored`."""
        if self._products is None:
            return None
        return {layer: Factors(down, up, layer.scaling[self.name]) for layer, down, up in self._products}

    @functools.cached_property
    def _products(self) -> list[tuple[Any, torch.Tensor, torch.Tensor]] | None:
        """Layers with their factors, looked up once for all steps; None where a layer adds something else."""
        if not all(self._is_product(layer) for layer in self.layers.values()):
            return None
        return [
            (layer, layer.lora_A[self.name].weight, layer.lora_B[self.name].weight) for layer in self.layers.values()
        ]

    def _is_product(self, layer: Any) -> bool:
        """Tell whether a layer adds up @ down and nothing else: no dropout, no magnitude, no groups."""
        return (
            isinstance(layer, LoraLayer)
            and self.name not in layer.lora_variant
            and isinstance(layer.lora_dropout[self.name], torch.nn.Identity)
            and getattr(layer.base_layer, "groups", 1) == 1
        )

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return copies of the trainable tensors, on the CPU."""
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
                f"the file does not fit this adapter: {len(missing)} tensors missing ({some(missing) or 'none'}), "
                f"{len(unknown)} unknown ({some(unknown) or 'none'}); was it made by another recipe?"
            )
        wrong = [key for key, parameter in own.items() if parameter.shape != state[key].shape]
        if wrong:
            raise AdapterError(
                f"the file does not fit this adapter: {len(wrong)} tensors of other shapes ({some(wrong)}); "
                "was it made with another dim?"
            )
        with torch.no_grad():
            for key, parameter in own.items():
                parameter.copy_(state[key])

    def kohya_name(self, path: str) -> str:
        """Return a layer's name in kohya's and LyCORIS's files."""
        return kohya_name(path, parts=self._models)

    def file_names(self) -> dict[str, str]:
        """Return names of the tensors in a file of `save`, by their names in `state_dict`."""
        return {key: key for key, _ in self.named_parameters()}

    def save(self, path: Path) -> None:
        """Write what diffusers' `load_lora_weights` reads, rank and alpha in the metadata."""
        write_lora(path, self.state_dict(), self._configs)

    def load(self, path: Path) -> None:
        """Restore the tensors that `save` wrote, bit for bit.

        Raises:
            AdapterError: they are not this adapter's; nothing was changed.
        """
        held = load_file(path)
        # Until 2026-11-29 a DoRA's magnitudes were written without their last word.
        held |= {f"{name}.weight": held[name] for name in held if name.endswith(".lora_magnitude_vector")}
        self.load_state_dict({key: held[name] for key, name in self.file_names().items() if name in held})

    def started(self: AdapterT, file: str | None) -> AdapterT:
        """Take the weights of a LoRA file of any trainer; as drawn without one.

        Raises:
            InputError: it is none, or not of this base, kind, dim and alpha; the base is as it was.
        """
        if file is not None:
            try:
                self.take(Path(file).expanduser())
            except InputError:
                self.remove()
                raise
        return self

    def take(self, file: Path) -> dict[str, FileModule]:
        """Take a file's weights; give back what it has for each layer."""
        shapes = {
            f"{part}.{path}": tuple(frozen_weight(module).shape)
            for part, model in self._models.items()
            for path, module in find_weighted(model)
        }
        placed = place_start(file, shapes, kind=self.file_kind, trained=self._trained())
        held, own, state = load_file(file), dict(self.named_parameters()), {}
        for path, module in placed.items():
            for factor in module.keys.keys() & FACTORS.keys():
                key = f"{path}.{FACTORS[factor]}"
                tensor = module.rows_of(factor, held[module.keys[factor]].float())
                state[key] = tensor.reshape(own[key].shape)
        if spoilt := [key for key, tensor in state.items() if not tensor.isfinite().all()]:
            message = f"{len(spoilt)} tensors hold NaN or infinity ({some(spoilt)}); {file}"
            raise InputError(Problem(KEY, message, "the training diverged: take an earlier file"))
        self.load_state_dict(state)
        return placed

    def _trained(self) -> dict[str, Trained]:
        def shape(key: str, tensor: torch.nn.Parameter) -> tuple[int, ...]:
            # Of a convolution, PEFT has DoRA's magnitudes with four axes.
            return (tensor.numel(),) if key.endswith(".lora_magnitude_vector.weight") else tuple(tensor.shape)

        return {
            path: Trained([shape(key, each) for key, each in own.items()], self.trained_scale(path))
            for path, own in self.by_module().items()
        }

    def trained_scale(self, path: str) -> float:
        """Return alpha / r of one layer's product."""
        return float(self.layers[path].scaling[self.name])

    def remove(self) -> None:
        """Put the base's own modules back where no other adapter sits; a second call does nothing."""
        self.set_weight(0)
        for layer in self.layers.values():
            layer.delete_adapter(self.name)
        own = set(self.layers.values())
        for model in self._models.values():
            # By identity: an adapter of another kind, put on top since, has changed the layer's own path.
            for path, layer in list(model.named_modules()):
                if layer in own and not layer._get_available_adapters():
                    model.set_submodule(path, layer.base_layer)
            _forget(model, self.name)
        self.layers = {}


def configs_by_part(
    base: Base, kind: type[PeftConfig], targets: str, *, text_encoder: bool, **fields: Any
) -> dict[str, PeftConfig]:
    """Make a PEFT config, of these fields, for the modules in a scope of every part that is trained."""
    places = targets_by_part(base, targets, text_encoder=text_encoder)
    return {part: kind(target_modules=names, **fields) for part, names in places.items()}  # type: ignore[call-arg]


def build_peft(
    base: Base,
    configs: Mapping[str, PeftConfig],
    *,
    seed: int,
    init: Init,
    start: str | None = None,
    kind: type[AdapterT] = PeftAdapter,  # type: ignore[assignment]
) -> AdapterT:
    """Put PEFT layers into the base and fill them; active, at weight 1, in fp32.

    There is a config per part, whose `target_modules` are full module names. Every tensor is drawn from a generator of
    its own, derived from the seed and its name, so neither the global generator nor what else is trained changes a
    draw; the weights of a LoRA file, `start`, take the place of those.

    Raises:
        InputError: the file does not fit.
    """
    name = new_name(base)
    models: dict[str, torch.nn.Module] = {part: base.parts[part] for part in configs}
    # PEFT draws its own first values from the global generator; they are thrown away below.
    with torch.random.fork_rng(devices=[]):
        for part, config in configs.items():
            _inject(models[part], config, name)
    adapter = kind(name, configs, models)
    adapter.set_weight(1.0)
    for key, parameter in adapter.named_parameters():
        values = torch.empty(parameter.shape)
        if not parameter.is_meta:
            values.copy_(parameter.detach())
        init(values, key, torch.Generator().manual_seed(seeds.derive(seed, "adapter", key)))
        parameter.data = values.to(base.device)
    return adapter.started(start)


def new_name(base: Base) -> str:
    """Find the first name that no adapter in a base has: blocks compiled for the last trial's serve the next."""
    modules = (module for part in base.parts.values() for module in part.modules())
    taken = {name for layer in modules if isinstance(layer, BaseTunerLayer) for name in layer._get_available_adapters()}
    return next(name for number in itertools.count() if (name := f"lorasweep_{number}") not in taken)


def _inject(model: torch.nn.Module, config: PeftConfig, name: str) -> None:
    """Inject next to whatever adapters are there, leaving them as active as they were."""
    before = {layer: list(layer.active_adapters) for layer in model.modules() if isinstance(layer, BaseTunerLayer)}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # several slots, one base
        inject_adapter_in_model(config, model, name)
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            own = [name] if name in layer._get_available_adapters() else []
            layer.set_adapter([*before.get(layer, []), *own])


def _forget(model: torch.nn.Module, name: str) -> None:
    """Drop what PEFT wrote onto the model itself."""
    configs: dict[str, Any] = getattr(model, "peft_config", {})
    configs.pop(name, None)
    if not configs and hasattr(model, "peft_config"):
        del model.peft_config


def write_lora(path: Path, state: Mapping[str, torch.Tensor], configs: Mapping[str, PeftConfig]) -> None:
    """Write what diffusers' `load_lora_weights` reads, over any .safetensors that is there.

    Tensors are named `unet.conv_in.lora_A.weight`; there is a config for every part that is trained.
    """
    import diffusers

    layers: dict[str, Any] = {f"{part}_lora_layers": {} for part in configs}
    for key, tensor in state.items():
        part, name = key.split(".", 1)
        # DoRA's magnitudes keep `.weight`: by it alone does transformers find those of a text encoder, whose
        # tensors diffusers hands on to it.
        layers[f"{part}_lora_layers"][name] = tensor
    metadata = {f"{part}_lora_adapter_metadata": _metadata(config) for part, config in configs.items()}
    # Of all pipelines with a UNet, XL's knows every text encoder; the files are alike, as are those of transformers.
    pipeline = diffusers.StableDiffusionXLPipeline if "unet" in configs else diffusers.FluxPipeline
    pipeline.save_lora_weights(str(path.parent), weight_name=path.name, **layers, **metadata)
    sort_metadata(path)


def _metadata(config: PeftConfig) -> dict[str, Any]:
    """Return the config as JSON wants it; sets are sorted, so that equal adapters give equal files."""
    return {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
