"""lorasweep: declare a question about LoRA recipes, cook every recipe, measure which one is overcooked.

What a notebook uses is in `lorasweep.api`, and here by the same names.
"""

import importlib
import sys
from typing import Any

__version__ = "0.1.0"
__all__ = [
    "Planned",
    "Run",
    "Sweep",
    "checkpoint",
    "compose",
    "export",
    "judge",
    "open_run",
    "open_sweep",
    "plan",
    "rate",
    "ratings",
    "report",
    "run_sweep",
    "run_trial",
    "status",
    "sweeps",
    "sync",
]


def __getattr__(name: str) -> Any:
    """Load the API when it is asked for: `lorasweep --help` needs none of it."""
    if name in __all__:
        api = importlib.import_module("lorasweep.api")  # which makes the package `lorasweep.plan` one to call
        return sys.modules["lorasweep.plan"] if name == "plan" else getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List what a notebook uses."""
    return __all__
