"""What a LoRA file keeps of the training that made it: sd-scripts', musubi-tuner's and OneTrainer's do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorasweep.config.importing.document import strange_numbers
from lorasweep.config.kohya import metadata
from lorasweep.config.kohya.flow import NO_LYCORIS
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.safetensors_header import read_header, read_metadata

_ONE_TRAINERS = "ot_config"  # its whole config as JSON, where it was told to include it
_OURS = "lorasweep.recipe"
_CONFIG = "give its trainer's config"


def is_saved(path: Path) -> bool:
    """Tell whether a file holds weights, by its name."""
    return path.suffix.lower() == ".safetensors"


def read(path: Path) -> Mapping[str, Any]:
    """Return the config of the training; raises ConfigError where it is no LoRA file, or does not say."""
    try:
        tensors, told = read_header(path), read_metadata(path)
    except ValueError as error:
        raise _refused(path, f"must be a LoRA file or a config, not a file {error}") from error
    if _OURS in told:
        hint = f"its recipe is in its run folder, and in the file's header as {_OURS}"
        raise _refused(path, "was trained by lorasweep: there is nothing to translate", hint)
    try:
        config = json.loads(told.get(_ONE_TRAINERS, "null"))
    except (ValueError, RecursionError) as error:
        raise _refused(path, f"has a config of OneTrainer that is not JSON: {error}") from error
    if what := next(strange_numbers(_ONE_TRAINERS, config), None):
        raise _refused(path, what)
    if isinstance(config, Mapping) and "training_method" in config:
        return config
    if told.get("ss_network_dim") == "Dynamic":  # sd-scripts' networks/resize_lora.py
        raise _refused(path, "was cut to ranks of its own since: the dim of its training is lost", _CONFIG)
    if metadata.is_of_another_base(told):
        raise _refused(path, f"is LyCORIS of {told['ss_base_model_version']}", NO_LYCORIS)
    if metadata.tells(told):
        return metadata.as_options(told, tensors.keys())
    hint = f"{_CONFIG}; to train on from it, adapter.init={path.name}"
    raise _refused(path, "does not say how it was trained, as files of sd-scripts and OneTrainer do", hint)


def _refused(path: Path, message: str, hint: str = "") -> ConfigError:
    return ConfigError(Problem(str(path), message, hint), subject="the trainer's config")
