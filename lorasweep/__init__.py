"""lorasweep: declare a question about LoRA recipes, cook every recipe, measure which one is overcooked.

What a notebook uses is in `lorasweep.api`, and here by the same names.
"""

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

from lorasweep import api

if TYPE_CHECKING:
    from lorasweep.api import *  # noqa: F403

__version__ = "0.1.0"
__all__ = api.NAMES


def __getattr__(name: str) -> Any:
    """Load the API when it is asked for: `lorasweep --help` needs none of it."""
    if name == "plan":
        return importlib.import_module("lorasweep.plan")
    if name in __all__:
        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List what a notebook uses."""
    return __all__


class _Plan(types.ModuleType):
    """The package `lorasweep.plan`, which a notebook calls by the verb's name."""

    def __call__(self, what: Any = None, *overrides: str) -> Any:
        """Plan; see `lorasweep.api.plan`."""
        return api.plan(what, *overrides)


class _FrontDoor(types.ModuleType):
    """This package, which makes `lorasweep.plan` one to call whoever imports it."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "plan":
            value.__class__ = _Plan
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _FrontDoor
