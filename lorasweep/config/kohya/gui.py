"""Bring what the GUIs over sd-scripts save into the options that they would hand on to it.

kohya_ss saves JSON with fields of its own names. Easy Training Scripts saves TOML whose sections have `args` for
sd-scripts and `dataset_args` for the dataset file, the folders of images in `[[subsets]]`, and a network that follows
from which arguments it has.

Source of the latter: derrian-distro/LoRA_Easy_Training_scripts_Backend at 162e56d, utils/validation.py (validate_args,
validate_dataset_args, validate_subset).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lorasweep.config.importing.draft import Note
from lorasweep.config.kohya.options import KNOWN
from lorasweep.core.errors import ConfigError, Problem

_TABLE: Mapping[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
_OWN = {*_TABLE["own"].split()}
_OF_OTHER_BASES = tuple(_TABLE["prefixes"].split())
_MARKS = ("LoRA_type", "max_resolution")
_OFF: tuple[Any, ...] = (None, False, "", 0, "0", 0.0, [])
_PARTS = {"args", "dataset_args"}


def is_of_kohya_ss(content: Mapping[str, Any] | None) -> bool:
    """Tell whether kohya_ss wrote this."""
    return any(mark in (content or ()) for mark in _MARKS)


def as_options(fields: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], dict[str, str], list[Note]]:
    """Read what kohya_ss saved; raises ConfigError where it is for another base.

    Returns:
        sd-scripts' options, by some of them what the window calls them, and what it keeps to itself.
    """
    if "LoRA_type" not in fields:
        what = "is of kohya_ss, but of no LoRA: it has no LoRA_type"
        raise ConfigError(Problem(str(path), what, "only LoRAs are trained here"), subject="the kohya files")
    for box, (base, *types) in _TABLE["other_bases"].items():
        if fields.get(box) is True and not str(fields["LoRA_type"]).startswith(tuple(types)):
            what = f"is of a training of {base} with {fields['LoRA_type']}, must be of Stable Diffusion 1.x, 2.x or XL"
            problem = Problem(box, f"{what}, or of LoRA_type Flux1, Anima or Lumina", "write a recipe by docs/flags.md")
            raise ConfigError(problem, subject=str(path))
    names = {theirs: own for own, theirs in _TABLE["renamed"].items() if own in fields}
    if fields["LoRA_type"] in ("Anima", "Lumina"):
        prefix = f"{fields['LoRA_type'].lower()}_"
        names |= {field.removeprefix(prefix): field for field in fields if field.startswith(prefix)}
        kept = {field: value for field, value in fields.items() if field not in _TABLE["of_flux"].split()}
        fields = kept | {theirs: fields[own] for theirs, own in names.items()}
    handed_on = {*_TABLE["renamed"], *(KNOWN - _OWN)}
    options = {_TABLE["renamed"].get(field, field): value for field, value in fields.items() if field in handed_on}
    if fields.get("flux1_checkbox") is True:  # told by that text encoder, of LyCORIS too
        options["t5xxl"] = fields.get("t5xxl") or "not given"
    options |= _network(fields, names)
    _budget(fields, options, names)
    for option in ("seed", "unet_lr", "text_encoder_lr", "max_timestep", "min_timestep"):
        if options.get(option) in _OFF:
            options.pop(option, None)
    is_off = {part: fields.get(f"{part}_lr") in _OFF for part in ("unet", "text_encoder")}
    for trained, other in (("unet", "text_encoder"), ("text_encoder", "unet")):
        if is_off[other] and not is_off[trained]:
            options[f"network_train_{trained}_only"] = True
            names[f"network_train_{trained}_only"] = f"{other}_lr"
    if fields.get("noise_offset_type", "Original") == "Original":
        options.pop("multires_noise_iterations", None)
    else:
        options.pop("noise_offset", None)
    if isinstance(arguments := options.get("optimizer_args"), str):
        options["optimizer_args"] = arguments.replace('"', "")
    rest = [field for field, value in fields.items() if field not in {*options, *names.values()} and value not in _OFF]
    own = [field for field in rest if field in _OWN or field in KNOWN or field.startswith(_OF_OTHER_BASES)]
    options |= {field: fields[field] for field in rest if field not in own}
    reason = "of the window alone, of another base or kind of network, or without effect there"
    return options, names, [Note(", ".join(own), None, reason)] if own else []


def _network(fields: Mapping[str, Any], names: dict[str, str]) -> dict[str, Any]:
    kind = _TABLE["lora_types"].get(fields.get("LoRA_type", "Standard"), {"module": fields.get("LoRA_type")})
    names["network_module"] = "LoRA_type"
    arguments = {field: field for field in kind.get("arguments", "").split()}
    if kind.get("convolutions"):
        arguments |= {"conv_dim": "conv_dim", "conv_alpha": "conv_alpha"}
    if "unit" in kind:
        arguments["unit"] = kind["unit"]
    if "algo" in kind:
        arguments["LyCORIS_preset"] = "preset"
    given = {f"network_args.{theirs}": fields[field] for field, theirs in arguments.items() if field in fields}
    names |= {f"network_args.{theirs}": field for field, theirs in arguments.items()}
    if "algo" in kind:
        given["network_args.algo"] = kind["algo"]
        names["network_args.algo"] = "LoRA_type"
    return {"network_module": kind["module"], **{key: value for key, value in given.items() if value not in _OFF}}


def _budget(fields: Mapping[str, Any], options: dict[str, Any], names: dict[str, str]) -> None:
    """Take the steps and cycles that follow from the window's epochs, and a warm-up in percent."""
    epoch = fields.get("epoch")
    if not fields.get("dataset_config") and all(
        fields.get(option) in _OFF for option in ("max_train_steps", "max_train_epochs")
    ):
        options["max_train_epochs"] = epoch
        names["max_train_epochs"] = "epoch"
    if fields.get("lr_scheduler_num_cycles") in _OFF and fields.get("lr_scheduler") == "cosine_with_restarts":
        options["lr_scheduler_num_cycles"] = epoch
        names["lr_scheduler_num_cycles"] = "epoch"
    percent = fields.get("lr_warmup")
    if fields.get("lr_warmup_steps") in _OFF and isinstance(percent, int | float) and 0 < percent < 100:
        options["lr_warmup_steps"] = percent / 100
        names["lr_warmup_steps"] = "lr_warmup"


def is_of_easy_training(content: Mapping[str, Any]) -> bool:
    """Tell whether Easy Training Scripts wrote this."""
    return any(isinstance(value, Mapping) and value and set(value) <= _PARTS for value in content.values())


def in_sections(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the same options with `[general]` and `[[datasets]]`; raises ConfigError where it trains no LoRA."""
    mode = content.get("train_mode")
    mode = mode.get("train_mode") if isinstance(mode, Mapping) else mode
    if mode not in (None, "lora"):
        what = f"is of Easy Training Scripts, for train_mode {mode!r}: only lora is translated"
        raise ConfigError(Problem(str(path), what, "save it again with LoRA chosen"), subject="the kohya files")
    sections: dict[str, Any] = {"general": {}, "datasets": [{"subsets": content.get("subsets", [])}]}
    for name, section in content.items():
        if name == "subsets":
            continue
        if not isinstance(section, Mapping) or not set(section) <= _PARTS:
            sections[name] = section
            continue
        for part, values in section.items():
            if not isinstance(values, Mapping):
                sections[f"{name}.{part}"] = values
            elif part == "args":
                sections[name] = _with_network(dict(values))
            else:
                sections["general"] |= values
    return sections


def _with_network(section: dict[str, Any]) -> dict[str, Any]:
    freezes_down, arguments = section.pop("fa", False), section.get("network_args")
    names = arguments if isinstance(arguments, Mapping) else ()
    module = None
    if "algo" in names:
        module = "lycoris.kohya"
    elif "unit" in names:
        module = "networks.dylora"
    elif freezes_down:
        module = "networks.lora_fa"
    elif section.keys() & {"network_dim", "network_args"}:
        module = "networks.lora"
    return {"network_module": module, **section} if module else section
