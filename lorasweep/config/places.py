"""Where `conf/` and `sweeps/` are: beside the package in a checkout, inside it in an installed wheel.

Each knob's default stands in `conf/` alone: `read_choice` is how the rest of lorasweep comes by it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

import lorasweep

GROUPS = (
    "base",
    "dataset",
    "captions",
    "buckets",
    "adapter",
    "optimizer",
    "scheduler",
    "regularization",
    "train",
    "sample",
    "metrics",
    "encoders",
    "tracking",
    "launcher",
)
# Groups of which several files may be picked; each is named in the recipe by its key, its knobs below that.
LIST_GROUPS = ("regularization", "metrics")


def conf_dir() -> Path:
    """The folder of `recipe.yaml` and the option groups; absolute."""
    return _data_dir("conf")


def sweeps_dir() -> Path:
    """The folder of the sweep files that come with lorasweep; absolute."""
    return _data_dir("sweeps")


def choices(group: str) -> list[str]:
    """The files of an option group, without their suffix, sorted."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def read_choice(group: str, choice: str) -> Mapping[str, Any]:
    """Read `conf/<group>/<choice>.yaml` as plain data, not to be changed; {} without that file."""
    return _read(conf_dir() / group / f"{choice}.yaml")


@functools.lru_cache(maxsize=256)
def _read(file: Path) -> Mapping[str, Any]:
    values = OmegaConf.to_container(OmegaConf.load(file)) if file.is_file() else {}
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _data_dir(name: str) -> Path:
    package = Path(lorasweep.__file__).resolve().parent
    beside = package.parent / name
    # A site-packages folder may hold somebody else's `conf`: ours has the map in it.
    return beside if (package.parent / "conf" / "recipe.yaml").is_file() else package / "_data" / name
