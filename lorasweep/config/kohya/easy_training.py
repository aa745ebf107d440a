"""Bring the TOML that Easy Training Scripts saves into the sections of sd-scripts, as its backend does.

Each of its sections has `args` for sd-scripts and `dataset_args` for the dataset file, the folders of images
stand in `[[subsets]]`, and the network follows from which arguments it has.

Source: derrian-distro/LoRA_Easy_Training_scripts_Backend at 162e56d, utils/validation.py (validate_args,
validate_dataset_args, validate_subset).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorasweep.core.errors import ConfigError, Problem

_PARTS = {"args", "dataset_args"}


def saved(content: Mapping[str, Any]) -> bool:
    """Whether Easy Training Scripts wrote this."""
    return any(isinstance(value, Mapping) and value and set(value) <= _PARTS for value in content.values())


def in_sections(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The same options as a training file with `[general]` and `[[datasets]]`.

    Raises:
        ConfigError: it trains something else than a LoRA.
    """
    mode = content.get("train_mode")
    mode = mode.get("train_mode") if isinstance(mode, Mapping) else mode
    if mode not in (None, "lora"):
        what = f"is of Easy Training Scripts, for train_mode {mode!r}: only lora is translated"
        raise ConfigError(Problem(str(path), what, "save it again with LoRA chosen"), subject="the kohya files")
    sections: dict[str, Any] = {}
    general: dict[str, Any] = {}
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
                sections[name] = dict(values)
            else:
                general |= values
    _name_the_network(sections)
    return {**sections, "general": general, "datasets": [{"subsets": content.get("subsets", [])}]}


def _name_the_network(sections: dict[str, Any]) -> None:
    for section in sections.values():
        if not isinstance(section, dict) or "network_module" in section:
            continue
        freezes_down = section.pop("fa", False)
        arguments = section.get("network_args")
        names = arguments.keys() if isinstance(arguments, Mapping) else ()
        if "algo" in names:
            section["network_module"] = "lycoris.kohya"
        elif "unit" in names:
            section["network_module"] = "networks.dylora"
        elif freezes_down:
            section["network_module"] = "networks.lora_fa"
        elif section.keys() & {"network_dim", "network_args"}:
            section["network_module"] = "networks.lora"
