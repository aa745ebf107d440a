"""Where `conf/` and `sweeps/` are: beside the package in a checkout, inside it in an installed wheel."""

from __future__ import annotations

from pathlib import Path

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


def _data_dir(name: str) -> Path:
    package = Path(lorasweep.__file__).resolve().parent
    beside = package.parent / name
    # A site-packages folder may hold somebody else's `conf`: ours has the map in it.
    return beside if (package.parent / "conf" / "recipe.yaml").is_file() else package / "_data" / name
