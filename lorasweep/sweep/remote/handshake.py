"""What must be the same on both machines for equal recipes to come out equal, and what a machine has.

    facts(home)  on the worker's machine  ->  refusal(theirs), in_words(theirs)  on the driver's

Imports no torch: versions are those of the installed distributions.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorasweep.core.provenance import source_digest, version
from lorasweep.sweep.workers.pool import cpu_cores, gpu_models

COMPARED = ("torch", "diffusers", "peft")  # `2.13.0+cpu` and `2.13.0+cu130` are builds of one version


def software() -> dict[str, str]:
    """Versions by name, and the digest of the sources of lorasweep."""
    versions = {name: (version(name) or "missing").partition("+")[0] for name in COMPARED}
    return {"Python": ".".join(platform.python_version_tuple()[:2]), **versions, "code": source_digest()}


def facts(home: Path) -> dict[str, Any]:
    """What a driver wants to know of this machine before it sends work."""
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    return {"software": software(), "gpus": gpu_models(), "cores": cpu_cores(), "free_bytes": free, "home": str(home)}


def refusal(theirs: Mapping[str, Any]) -> str:
    """Why a machine cannot be used, by its facts; empty when it can."""
    there, here = theirs["software"], software()
    other = [name for name, mine in here.items() if there.get(name) != mine]
    if other == ["code"]:
        return "its lorasweep is not the same code as the one here"
    return "; ".join(f"{name} is {there.get(name)} there and {here[name]} here" for name in other if name != "code")


def in_words(theirs: Mapping[str, Any], round_trip_s: float) -> str:
    """What a machine has, for people."""
    versions = ", ".join(f"{name} {value}" for name, value in theirs["software"].items() if name != "code")
    models = list(theirs["gpus"].values())
    gpus = ", ".join(f"{models.count(model)} x {model}" for model in dict.fromkeys(models)) or "no GPU"
    room = f"{theirs['free_bytes'] / 2**30:.0f} GiB free in {theirs['home']}"
    return f"{gpus}, {theirs['cores']} cores, {room}; {versions}; answers in {1000 * round_trip_s:.0f} ms"
