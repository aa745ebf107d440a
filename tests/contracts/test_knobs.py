"""A knob's default is written once, in `conf/`: builders neither repeat it nor lack a key of it."""

from __future__ import annotations

import inspect
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from lorasweep.config.bind import builder_knobs
from lorasweep.config.tree import draw_as_the_base_does
from lorasweep.core import registry
from lorasweep.core.records import (
    CaptionOptions,
    ComputeOptions,
    DatasetOptions,
    EncoderOptions,
    LauncherOptions,
    MemoryOptions,
    NoiseOptions,
    SampleOptions,
    TrackingOptions,
    TrainOptions,
    to_dict,
)

CONF = Path(__file__).parents[2] / "conf"
GROUPS = ("buckets", "adapter", "optimizer", "scheduler", "regularization", "metrics", "tagger")
# Recipes that were recorded before these were there are built without them.
LATER = {"init", "loraplus_lr_ratio", "rank_dropout", "module_dropout"}
NO_MODULE = "none"  # regularization=none: no regularizer at all
RECORDS = {
    "dataset/dollhouse": DatasetOptions,
    "captions/as_written": CaptionOptions,
    "noise/uniform": NoiseOptions,
    "memory/fast": MemoryOptions,  # what recipes had before there was a choice
    "compute/default": ComputeOptions,
    "encoders/none": EncoderOptions,
    "train/default": TrainOptions,
    "sample/default": SampleOptions,
    "launcher/local": LauncherOptions,
    "tracking/mlflow": TrackingOptions,
}


def shipped_keys() -> dict[tuple[str, str], list[tuple[Path, set[str]]]]:
    """(group, module) -> its files in `conf/` with their keys."""
    found: dict[tuple[str, str], list[tuple[Path, set[str]]]] = defaultdict(list)
    for group in GROUPS:
        for file in sorted((CONF / group).glob("*.yaml")):
            values = yaml.safe_load(file.read_text(encoding="utf-8"))
            name = values.pop("name", file.stem)
            if name != NO_MODULE:
                found[group, name].append((file, set(values)))
    return found


def test_every_file_and_every_builder_of_the_groups_is_looked_at() -> None:
    shipped = shipped_keys()
    assert sum(map(len, shipped.values())) == 51
    every = {(group, name) for group in GROUPS for name in registry.names(group)}
    assert set(shipped) == every - {("adapter", "file")}  # which `files` loads; no choice of a recipe


@pytest.mark.parametrize(("group", "name"), list(shipped_keys()))
def test_knobs_stand_in_the_yaml_and_their_defaults_there_alone(group: str, name: str) -> None:
    module = registry.load(group, name)
    knobs = set(builder_knobs(module))
    for file, keys in shipped_keys()[group, name]:
        assert keys == knobs, file
    parameters = inspect.signature(module.build).parameters.values()
    assert [p.name for p in parameters if p.name in knobs - LATER and p.default is not p.empty] == []


@pytest.mark.parametrize("file", RECORDS)
def test_options_made_in_python_are_those_of_the_command_line(file: str) -> None:
    shipped = yaml.safe_load((CONF / f"{file}.yaml").read_text(encoding="utf-8"))
    draw_as_the_base_does({"base": {"name": "stable_diffusion"}, "sample": shipped})
    made = to_dict(RECORDS[file]())
    if file == "launcher/local":  # whose own knobs are not in the record
        own = inspect.signature(registry.load("launcher", "local").build).parameters
        made |= {key: own[key].default for key in shipped.keys() - made.keys()}
    assert differing(shipped, made, file) == []


@pytest.mark.parametrize("name", registry.names("launcher"))
def test_a_launchers_own_knobs_stand_beside_those_of_all(name: str) -> None:
    shipped = yaml.safe_load((CONF / f"launcher/{name}.yaml").read_text(encoding="utf-8"))
    own = set(builder_knobs(registry.load("launcher", name)))
    common = to_dict(LauncherOptions(name=name))
    del common["options"]
    assert set(shipped) == own | set(common)
    assert {key: shipped[key] for key in common} == common


def differing(shipped: dict[str, Any], made: dict[str, Any], at: str) -> list[str]:
    found = []
    for key, value in shipped.items():
        if isinstance(value, dict) and value:
            found += differing(value, made[key], f"{at}.{key}")
        elif value != made[key]:
            found.append(f"{at}.{key}: {value!r}, not {made[key]!r}")
    return found
