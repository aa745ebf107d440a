"""What a LoRA file keeps of the training that made it: sd-scripts', musubi-tuner's, OneTrainer's and ours do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorasweep.config.importing.document import strange_numbers
from lorasweep.config.kohya import metadata
from lorasweep.config.kohya.flow import LYCORIS, NO_LYCORIS
from lorasweep.config.recipe_file import of_run
from lorasweep.config.trainers import own
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.safetensors_header import read_header, read_metadata

_ONE_TRAINERS = "ot_config"  # its whole config as JSON, where it was told to include it
_CONFIG = "give its trainer's config"
# How sd-scripts' networks/resize_lora.py and extract_lora_from_dylora.py begin the comment of what they write.
_CUT = ("dimension is resized from", "Dynamic resize with", "split from DyLoRA")


def is_saved(path: Path) -> bool:
    """Tell whether a file holds weights, by its name."""
    return path.suffix.lower() == ".safetensors"


def read(path: Path) -> Mapping[str, Any]:
    """Return the config of the training; raises ConfigError where it is no LoRA file, or does not say."""
    try:
        tensors, told = read_header(path), read_metadata(path)
    except ValueError as error:
        raise _refused(path, f"must be a LoRA file or a config, not a file {error}") from error
    if own.RECIPE in told:
        return {own.RECIPE: told[own.RECIPE]}
    try:
        config = json.loads(told.get(_ONE_TRAINERS, "null"))
    except (ValueError, RecursionError) as error:
        raise _refused(path, f"has a config of OneTrainer that is not JSON: {error}") from error
    if what := next(strange_numbers(_ONE_TRAINERS, config), None):
        raise _refused(path, what)
    if isinstance(config, Mapping) and "training_method" in config:
        return config
    if told.get("ss_network_dim") == "Dynamic" or told.get("ss_training_comment", "").startswith(_CUT):
        raise _refused(path, "was cut to another rank since: dim and alpha of its training are lost", _CONFIG)
    if metadata.tells(told):
        if metadata.is_of_another_base(told):
            module = told["ss_network_module"]
            hint = NO_LYCORIS if module in LYCORIS else "LoRAs of that base are not translated: see docs/flags.md"
            raise _refused(path, f"is {module} of {told['ss_base_model_version']}", hint)
        return metadata.as_options(told, tensors.keys())
    hint = of_run(path.parent) or f"{_CONFIG}; to train on from it, adapter.init={path.name}"
    raise _refused(path, "does not say how it was trained, as files of sd-scripts and OneTrainer do", hint)


def _refused(path: Path, message: str, hint: str = "") -> ConfigError:
    return ConfigError(Problem(str(path), message, hint), subject="the trainer's config")
