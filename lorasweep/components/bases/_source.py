"""Bases of a family on the disk: a diffusers folder, or one .safetensors checkpoint.

Takes `BaseOptions`, returns a frozen `protocols.Base`. Never touches the network, whatever the environment
says, and never opens a pickle. A checkpoint `some.safetensors` holds weights only: its configs and tokenizers
are those of a folder `some/` beside it, or those that ship with its family.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasweep.components.bases import _checks, _files, _footprint, _tokens
from lorasweep.components.bases._families import UNCONDITIONAL, UNET
from lorasweep.core import once, registry
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.files import file_digest, read_object
from lorasweep.core.printable import some
from lorasweep.core.records import BaseOptions, Footprint, Frame, MemoryOptions, NoiseSchedule, digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from lorasweep.components.bases._families import Family
    from lorasweep.components.bases._tokens import TextWindow
    from lorasweep.core.protocols import Base


_ALL_ROOM = MemoryOptions()
_STORED = 2  # to be raised when `_stored` keeps weights otherwise: it is another base then
_UNLOADABLE = (OSError, ValueError, RuntimeError, LookupError)  # what the libraries raise for weights
# Of pipelines, with what stands for nothing.
_UNUSED = {"safety_checker": None, "feature_extractor": None, "image_encoder": None, "requires_safety_checker": False}


class Source:
    """What the module of a base offers, for one family: such a module's `__getattr__` is `getattr` of one of these."""

    def __init__(self, family: Family) -> None:
        """Offer what a family is known by, see there, as constants."""
        self.family = family
        self.PARTS, self.SCOPES = family.parts, family.scopes
        self.READ_BY, self.VERSIONS = family.read_by, family.versions

    def place(self, options: BaseOptions) -> Path | None:
        """Return where the base is; None when nobody says."""
        return Path(options.path).expanduser() if options.path else None

    @once.per_arguments
    def problems(self, options: BaseOptions) -> list[tuple[str, str, str]]:
        """List what is wrong, each as (key, rule and value, next step).

        Reads configs and headers and, once per machine, looks through the weights for NaN.
        """
        path = self.place(options)
        if path is None:
            return [("path", "must be given for a base of your own", "override: base.path=some/folder")]
        configs = _files.config_folder(path, self.family)
        found = [*_checks.option_problems(configs, self.family, options), *_checks.find_problems(path, self.family)]
        found += [*_checks.weights_problems(path, options.weights, self.family)]
        found += [*_checks.distilled_problems(path, self.family, options)]
        if options.adapter and not found:
            found += _checks.adapter_problems(path, self.family, options.adapter)
        return found

    def sibling_problems(self, options: BaseOptions, sibling: str) -> list[tuple[str, str, str]]:
        """Return what keeps another base's denoiser from drawing in the place of this one's, which is sound."""
        return _checks.sibling_problems(self._checked(options), sibling, self.family)

    def reads_negative(self, options: BaseOptions) -> bool:
        """Tell whether pictures are drawn away from a negative prompt."""
        embeds = read_object(self._checked(options) / self.family.denoiser / "config.json").get("guidance_embeds")
        return UNCONDITIONAL not in self.family.classes and not (embeds and self.family.pipeline == "FluxPipeline")

    def draws_in_few_steps(self, options: BaseOptions, sibling: str | None) -> bool:
        """Tell whether what draws is distilled, so that it needs neither many steps nor guidance."""
        places = [sibling] if sibling else filter(None, (options.path, options.weights))
        return any(_checks.is_distilled(Path(place).expanduser(), self.family) for place in places)

    @once.per_arguments
    def noise(self, options: BaseOptions) -> NoiseSchedule:
        """Return how the base is noised and what it predicts: as its files say, or `options` for them.

        Raises:
            ConfigError: `problems` found some.
        """
        return _files.noise_schedule(self._checked(options), self.family, options)

    @once.per_arguments
    def fingerprint(
        self, options: BaseOptions, memory: MemoryOptions = _ALL_ROOM, *, sibling: str | None = None
    ) -> str:
        """Return hex digest of the files that `load` would read; other noise, weights or storage make it another base.

        Raises:
            ConfigError: `problems` found some.
        """
        path = self._checked(options)
        found, noised = _files.digest_of(path, self.family), self.noise(options)
        if options.weights:
            found = digest([found, file_digest(Path(options.weights).expanduser())])
        if options.adapter:
            found = digest([found, "adapter", file_digest(Path(options.adapter).expanduser())])
        if sibling:
            place = Path(sibling).expanduser()
            its = file_digest(place) if place.is_file() else _files.digest_of(place, self.family.sibling)
            found = digest([found, "sibling", its])
        if not noised.as_written:
            found = digest([found, noised.prediction_type, noised.zero_terminal_snr])
        return found if memory.storage == "plain" else digest([found, memory.storage, _STORED])

    @once.per_arguments
    def weight_shapes(self, options: BaseOptions) -> dict[str, dict[str, tuple[int, ...]]] | None:
        """Return shapes of weights by part and module; None for a checkpoint file of which only configs tell more."""
        return _files.weight_shapes(self._checked(options), self.family)

    @once.per_arguments
    def footprint(self, options: BaseOptions) -> Footprint | None:
        """Return what the base takes of a device's memory; None where `weight_shapes` is."""
        return _footprint.footprint(self._checked(options), self.family)

    def largest_rank(self, options: BaseOptions) -> int:
        """Return the highest rank that any layer of the denoiser can have."""
        return _files.largest_rank(self._checked(options), self.family)

    @once.per_arguments
    def text_window(self, options: BaseOptions) -> TextWindow:
        """Return how captions are read; see `_tokens.TextWindow`."""
        configs = _files.config_folder(self._checked(options), self.family)
        words = _files.words_folder(configs / self.family.window)
        return _tokens.text_window(words, cut=self.family.cut, tokens=self.family.tokens)

    def load(
        self,
        options: BaseOptions,
        *,
        device: str,
        precision: str,
        memory: MemoryOptions = _ALL_ROOM,
        sibling: str | None = None,
    ) -> Base:
        """Load the base, frozen, in eval mode, in `fp32`, `fp16` or `bf16`; the VAE in fp32.

        What is null in `memory` counts as false. A sibling is a base whose denoiser draws in place of this one's.

        Raises:
            ConfigError: `problems` found some, or weights are missing or do not fit `precision`.
        """
        path, clip_skip = self._checked(options), options.clip_skip
        import diffusers.utils.logging
        import torch
        import transformers.utils.logging

        from lorasweep.components.bases import _loaded

        for library in (diffusers, transformers):
            library.utils.logging.disable_progress_bar()  # the terminal belongs to the caller
            library.utils.logging.set_verbosity_error()
        dtype = _loaded.DTYPES[precision]
        noised = self.noise(options)
        try:
            parts = self._checkpoint_parts(path, dtype) if path.is_file() else self._folder_parts(path, dtype, options)
        except _UNLOADABLE as error:
            hint = "are its weights of the family that its configs say?"
            raise _error(options, [("path", f"cannot be loaded: {_said(error)}", hint)]) from error
        self._require_whole(options, parts, precision)
        for tokenizer, name in zip(self.family.tokenizers, self.family.text_encoders, strict=True):
            # A tokenizer without a config of its own does not know how long a text may be.
            places = getattr(parts[name].config, "max_position_embeddings", None)
            lengths = [parts[tokenizer].model_max_length, places, self.family.tokens and self.family.tokens[0]]
            parts[tokenizer].model_max_length = min(filter(None, lengths))
        text_parts = [*self.family.text_encoders, *self.family.tokenizers]
        module, kind = self.family.loaded
        make = getattr(importlib.import_module(f"{__package__}.{module}"), kind)
        base = make(
            parts={part: parts[part] for part in self.family.parts},
            text_encoders=[parts[part] for part in self.family.text_encoders],
            tokenizers=[parts[part] for part in self.family.tokenizers],
            vae=parts["vae"],
            noise_schedule=getattr(diffusers, self.family.scheduler).from_config(
                self._as_drawn(path, noised.config), clip_sample=False
            ),
            clip_skip=clip_skip,
            fingerprint=self.fingerprint(options, memory, sibling=sibling),
            memory=memory,
            pipeline=self.family.pipeline,
            scopes=self.family.scopes,
            unconditional=parts.get(UNCONDITIONAL),
            vae_fingerprint=_files.digest_of(path, self.family, ["vae"]),
            text_fingerprint=f"{_files.digest_of(path, self.family, text_parts)}-skip{clip_skip}",
            device=torch.device("cpu"),
            dtype=dtype,
        )
        if options.adapter:
            base.draw_with(_merge(base, Path(options.adapter).expanduser()))
        if sibling:
            base.draw_with(*self._sibling(base, path, Path(sibling).expanduser()))
        base.keep()
        base.place(torch.device(device))
        if noised.said is None and options.prediction_type is None and (found := _likeness_to_noise(base)) < 0.5:
            message = (
                "must be given: the file does not say what it predicts, and shown nothing but noise it does not answer "
                f"with that noise, as a base that predicts epsilon does (cosine {found:.2f}, must be over 0.5)"
            )
            hint = "override: base.prediction_type=v_prediction, and base.zero_terminal_snr=true if it is of that kind"
            raise _error(options, [("prediction_type", message, hint)])
        return base

    def _sibling(self, base: Any, path: Path, sibling: Path) -> tuple[dict[torch.nn.Parameter, torch.Tensor], Any]:
        """Return the weights of a sibling's denoiser by the base's own parameters, and its scheduler."""
        is_folder, schedule = sibling.is_dir(), base.noise_schedule
        try:
            theirs = self._denoiser(sibling if is_folder else path, base.dtype, None if is_folder else sibling)
            found = {name: tensor.data for name, tensor in theirs.named_parameters()}
            weights = {tensor: found[name] for name, tensor in base.denoiser.named_parameters()}
            if broken := [name for name, tensor in found.items() if tensor.is_meta or not tensor.isfinite().all()]:
                raise ValueError(f"without numbers in {some(broken)}")
        except _UNLOADABLE as error:
            message = f"must be a whole {self.family.denoiser} of the base's kind, got {sibling.name}: {_said(error)}"
            raise ConfigError(Problem("sample.base", message), subject="the base that draws") from error
        if is_folder:
            config = read_object(sibling / "scheduler" / "scheduler_config.json")
            schedule = type(schedule).from_config(self._as_drawn(sibling, config))
        return weights, schedule

    def _as_drawn(self, folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return a scheduler's config, with what the pipelines of distilled bases put in its place."""
        shift = self.family.distilled_shift
        if shift is None or not _checks.is_distilled(folder, self.family):
            return dict(config)
        return {**config, "use_dynamic_shifting": False, "shift": shift}

    @functools.lru_cache(maxsize=64)  # noqa: B019 - a source per family, for as long as the process lives
    def _checked(self, options: BaseOptions) -> Path:
        """Return where the base is, looked through once per process; one with problems is looked at again."""
        if found := self.problems(options):
            raise _error(options, found)
        path = self.place(options)
        assert path is not None  # one of the problems
        return path

    def _require_whole(self, options: BaseOptions, parts: Mapping[str, Any], precision: str) -> None:
        """Refuse weights that the files do not have, or that are no longer numbers in this precision.

        Libraries make up what is missing, or leave it without content.
        """
        for part in self.family.classes:
            state = parts[part].state_dict()
            missing = parts.get(f"{part}_missing", []) + [name for name, value in state.items() if value.is_meta]
            if missing:
                message = f"must be whole, got a {part} without {some(missing)}"
                raise _error(options, [("path", message, "take another copy")])
            if broken := [name for name, value in state.items() if not value.isfinite().all()]:
                message = f"must have weights that are numbers in {precision}, got a {part} with {some(broken)}"
                raise _error(options, [("path", message, "override: train.precision=fp32 or bf16")])

    def _folder_parts(self, folder: Path, dtype: torch.dtype, options: BaseOptions) -> dict[str, Any]:
        import diffusers
        import torch
        import transformers

        local: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}
        parts: dict[str, Any] = {}
        for part, name in self.family.classes.items():
            how = {**local, "variant": _files.variant_of(folder / part)}
            if hasattr(transformers, name):
                kind = getattr(transformers, name)
                parts[part], info = kind.from_pretrained(folder / part, dtype=dtype, output_loading_info=True, **how)
                parts[f"{part}_missing"] = sorted(info["missing_keys"])
            elif part == self.family.denoiser:
                weights = Path(options.weights).expanduser() if options.weights else None
                parts[part] = self._denoiser(folder, dtype, weights)
            else:
                torch_dtype = torch.float32 if part == "vae" else dtype
                parts[part] = getattr(diffusers, name).from_pretrained(folder / part, torch_dtype=torch_dtype, **how)
        return parts | self._tokenizers(folder)

    def _denoiser(self, folder: Path, dtype: torch.dtype, weights: Path | None) -> Any:
        """Return the denoiser of a folder, or with its config that of a file."""
        import diffusers
        from safetensors.torch import load_file

        part = self.family.denoiser
        kind = getattr(diffusers, self.family.classes[part])
        local: dict[str, Any] = {"torch_dtype": dtype, "local_files_only": True}
        if weights:
            # Not all of diffusers' readers know the prefix.
            held = {name.removeprefix(UNET): tensor for name, tensor in load_file(weights).items()}
            return kind.from_single_file(held, config=str(folder), subfolder=part, **local)
        variant = _files.variant_of(folder / part)
        return kind.from_pretrained(folder / part, use_safetensors=True, variant=variant, **local)

    def _tokenizers(self, configs: Path) -> dict[str, Any]:
        from transformers import AutoTokenizer, CLIPTokenizer

        if not self.family.held:
            return {
                part: AutoTokenizer.from_pretrained(configs / part, local_files_only=True)
                for part in self.family.tokenizers
            }
        found = {}
        for part in self.family.tokenizers:
            words = _files.words_folder(configs / part)
            own = {} if words == configs / part else read_object(configs / part / "tokenizer_config.json")
            pad = {"pad_token": own["pad_token"]} if own else {}
            found[part] = CLIPTokenizer.from_pretrained(words, local_files_only=True, **pad)
        return found

    def _checkpoint_parts(self, checkpoint: Path, dtype: torch.dtype) -> dict[str, Any]:
        import diffusers
        import torch

        # With a local `config` folder diffusers asks no hub; without one it would, told to stay offline or not.
        configs = _files.config_folder(checkpoint, self.family)
        local: dict[str, Any] = {"config": str(configs), "local_files_only": True}
        file = str(checkpoint)
        vae = diffusers.AutoencoderKL.from_single_file(file, torch_dtype=torch.float32, subfolder="vae", **local)
        kind = getattr(diffusers, self.family.pipeline)
        given = {name: _UNUSED[name] for name in inspect.signature(kind).parameters if name in _UNUSED}
        given |= {"vae": vae, **self._tokenizers(configs)}
        return dict(kind.from_single_file(file, torch_dtype=dtype, **local, **given).components)


def _said(error: Exception) -> str:
    said = " ".join(str(error).split())[:300]
    return "weights are missing in it" if "meta tensor" in said else said


def _merge(base: Any, file: Path) -> dict[torch.nn.Parameter, torch.Tensor]:
    """Add a LoRA to a base for good, rounded once; returns the weights that it had, by its parameters, on the CPU."""
    adapter = registry.load("adapter", "file").build(base, seed=0, path=str(file))
    before: dict[torch.nn.Parameter, torch.Tensor] = {}
    for layer in adapter.layers.values():
        plain = layer.get_base_layer()
        for tensor, gained in zip((plain.weight, getattr(plain, "bias", None)), layer.added(adapter.name), strict=True):
            if gained is not None:
                before[tensor] = tensor.data.to("cpu")
                tensor.data = (tensor.data + gained.detach()).to(tensor.dtype)
    adapter.remove()
    return before


def _likeness_to_noise(base: Base) -> float:
    """Return cosine of a base's answer to nothing but noise with that noise: about 1 for epsilon, about 0 for v."""
    import torch

    side_px = 64 * base.latent.px
    generator = torch.Generator().manual_seed(0)
    noise_BCHW = torch.randn((1, *base.latent.of(side_px, side_px)), generator=generator)
    t_B = base.path.t_of(torch.ones(1))
    with torch.no_grad():
        answer_BCHW = base.predict(noise_BCHW, t_B, base.encode_captions([""]), [Frame.whole(side_px, side_px)])
    return float(torch.nn.functional.cosine_similarity(answer_BCHW.cpu().flatten(), noise_BCHW.flatten(), dim=0))


def _error(options: BaseOptions, found: Sequence[_checks.Finding]) -> ConfigError:
    listed = [Problem(f"base.{key}", message, hint) for key, message, hint in found]
    return ConfigError(listed, subject=f"base `{options.name}`")
