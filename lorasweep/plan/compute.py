"""Whether a device can compute as a recipe asks. No torch."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator

from lorasweep.core import registry
from lorasweep.core.errors import Problem
from lorasweep.core.records import ComputeOptions, Recipe, to_dict

_COMPILERS = ("c++", "g++", "clang++", "cl")


def problems(recipe: Recipe) -> Iterator[Problem]:
    """Find switches that this base or this machine does not have."""
    if recipe.compute.channels_last and registry.load("base", recipe.base.name).PARTS[0] != "unet":
        message = f"must be false: {recipe.base.name} is a transformer, without convolutions to lay out"
        yield Problem("compute.channels_last", message, "override: compute.channels_last=false")
    on_cpu = recipe.train.device == "cpu" or importlib.util.find_spec("triton") is None
    if recipe.compute.dynamo_backend == "inductor" and on_cpu and not any(map(shutil.which, _COMPILERS)):
        message = f"inductor needs a C++ compiler, and none of {', '.join(_COMPILERS)} is here"
        yield Problem("compute.dynamo_backend", message, "install one, or override: compute.dynamo_backend=none")


def told(recipe: Recipe) -> list[str]:
    """Return the switches that are not as torch has them by itself."""
    plain = to_dict(ComputeOptions())
    return [
        name if value is True else f"{name}={value}"
        for name, value in to_dict(recipe.compute).items()
        if value != plain[name]
    ]
