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


def is_saved_by_it(content: Mapping[str, Any]) -> bool:
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
    """A section with the network that its arguments are of."""
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
