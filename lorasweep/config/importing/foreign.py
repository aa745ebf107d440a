"""Name the file that is no TOML of sd-scripts: which program wrote it, and what to do instead.

Knows only the marks by which such files are told apart; reads nothing of what they say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_BY_HAND = "docs/flags.md has its options beside lorasweep's: write a recipe file by it"
_TO_TOML = "press `Print training command` there and take the TOML that the command names"
_TO_CONFIG = "add `--config_file my.toml --output_config` to that command: sd-scripts then only writes the TOML"

# Keys that only one program writes -> what the file is, and the next step. First match wins.
_KEYS: tuple[tuple[set[str], str, str], ...] = (
    ({"nbformat"}, "a notebook (JSON)", "give the TOML files that it wrote into its config folder"),
    ({"LoRA_type"}, "the JSON of kohya_ss, the window over sd-scripts", _TO_TOML),
    ({"train_data_dir", "max_resolution"}, "the JSON of kohya_ss, the window over sd-scripts", _TO_TOML),
    ({"training_method"}, "a OneTrainer config", _BY_HAND),
    ({"concept_file_name"}, "a OneTrainer config", _BY_HAND),
    ({"job", "config"}, "an ai-toolkit config", _BY_HAND),
    ({"data_backend_config"}, "a SimpleTuner config", _BY_HAND),
    ({"--data_backend_config"}, "a SimpleTuner config", _BY_HAND),
    ({"--model_family"}, "a SimpleTuner config", _BY_HAND),
    ({"--model_type"}, "a SimpleTuner config", _BY_HAND),
    ({"model_family", "lora_rank"}, "a SimpleTuner config", _BY_HAND),
    ({"recipe"}, "a recipe of lorasweep already", "give it to `lorasweep plan` as it is"),
)


def named_by_keys(content: Any) -> tuple[str, str] | None:
    """What a file is by its keys, and the next step; None when they say nothing."""
    if not isinstance(content, Mapping):
        return None
    adapter = content.get("adapter")
    if isinstance(adapter, Mapping) and {"type", "rank"} <= adapter.keys():
        return "a diffusion-pipe config", _BY_HAND
    return next((found[1:] for found in _KEYS if found[0] <= content.keys()), None)


def named_by_text(text: str) -> tuple[str, str] | None:
    """What a file is that is no TOML, and the next step; None when it looks like a broken TOML."""
    if text.lstrip().startswith(("{", "[{")):
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            content = None
        if content is not None:
            return named_by_keys(content) or ("JSON, not the TOML of sd-scripts", _BY_HAND)
    if re.search(r"\S+\.py\b", text) and "--" in text:
        if re.search(r"\w*train_network\.py", text):
            return "a command line of sd-scripts", _TO_CONFIG
        return "the command line of another trainer (diffusers' examples have such)", _BY_HAND
    keys = dict.fromkeys(re.findall(r"^([A-Za-z_]\w*):(?:\s|$)", text, re.MULTILINE))
    if keys:
        return named_by_keys(keys) or ("YAML, not the TOML of sd-scripts", _BY_HAND)
    if re.search(r"^\s*(export\s+)?[A-Z_]+=", text, re.MULTILINE):
        return "a file of environment variables (SimpleTuner's config.env is one)", _BY_HAND
    return None
