"""What must be the same on both machines for equal recipes to come out equal, and what a machine has.

    facts(home)  on the worker's machine  ->  refusal(theirs)  on the driver's

Imports no torch: versions are those of the installed distributions.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lorasweep.core import registry
from lorasweep.core.provenance import COMPUTING, source_digest, version_of
from lorasweep.core.records import Recipe
from lorasweep.sweep.workers.pool import cpu_cores, gpu_models

MISSING = "missing"
COMPARED = tuple(name for name in COMPUTING if name != "bitsandbytes")  # which only machines with a GPU have


def software() -> dict[str, str]:
    """Return versions by name, plugins included, and the digest of the sources of lorasweep."""
    # `2.13.0+cpu` and `2.13.0+cu130` are builds of one version.
    versions = {name: (version_of(name) or MISSING).partition("+")[0] for name in COMPARED}
    versions |= {each.distribution: f"{each.version} ({each.digest()[:8]})" for each in registry.plugins()}
    return {"Python": ".".join(platform.python_version_tuple()[:2]), **versions, "code": source_digest()}


def facts(home: Path) -> dict[str, Any]:
    """Tell what a driver wants to know of this machine before it sends work."""
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    return {
        "software": software(),
        "node": platform.node(),
        "gpus": gpu_models(),
        "cores": cpu_cores(),
        "free_bytes": shutil.disk_usage(there).free,
        "home": str(home),
    }


def refusal(theirs: Mapping[str, Any], recipes: Iterable[Recipe] = ()) -> str:
    """Tell why a machine with other software cannot be used, for these recipes; empty when it can."""
    here = software()
    plugins = {plugin.distribution for recipe in recipes for plugin in registry.used(recipe)}
    other = [
        f"{name} is {theirs.get(name, MISSING)} there and {here[name]} here"
        for name in ("Python", *COMPARED, *sorted(plugins))
        if theirs.get(name, MISSING) != here[name]
    ]
    if other:
        return "; ".join(other)
    return "" if theirs.get("code") == here["code"] else "its lorasweep is not the same code as the one here"
