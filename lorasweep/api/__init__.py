"""What a notebook or a script uses; `import lorasweep as ls` has all of it.

    recipe = ls.compose("adapter.dim=16", "train.max_steps=200")
    ls.plan(recipe)                               # steps, images, exposures, time, what to mend first
    run = ls.run_trial(recipe)                    # trains, judges; or goes on; or is done already
    print(run.verdict["sentence"], run.metrics["overcook/utility"])
    run.export("my_lora.safetensors"), run.draw(["zkw, beach"], weight=0.7)
    ls.run_sweep("quickstart").leaderboard        # a pandas DataFrame
    ls.report("quickstart"), ls.export(ls.checkpoint("quickstart", best=True)), ls.sync("quickstart")

The same engine, folders and rules as on the command line, which calls this. Plans, runs and sweeps show
themselves: as HTML in a notebook, as text on a terminal.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what an editor completes
    from lorasweep.api.cached import *  # noqa: F403
    from lorasweep.api.calibration import *  # noqa: F403
    from lorasweep.api.checks.doctor import *  # noqa: F403
    from lorasweep.api.datasets import *  # noqa: F403
    from lorasweep.api.imports import *  # noqa: F403
    from lorasweep.api.results import *  # noqa: F403
    from lorasweep.api.training import *  # noqa: F403
    from lorasweep.core.errors import *  # noqa: F403

# The names of each module, which is loaded when one of them is asked for.
_MODULES = {
    ".core.errors": ("ConfigError", "DatasetError", "InputError", "LorasweepError", "SweepHeldError"),
    "cached": ("cache", "clear_cache"),
    "calibration": ("calibrate", "calibrate_by_ratings"),
    "checks.doctor": ("doctor",),
    "datasets": ("Captioned", "audit", "caption", "draw_dollhouse", "mend", "write_dollhouse"),
    "imports": ("import_config",),
    "results": (
        *("Run", "Sweep", "checkpoint", "export", "open_run", "open_sweep"),
        *("rate", "ratings", "report", "status", "sweeps", "sync"),
    ),
    "training": (
        *("EndedRun", "EndedSweep", "Planned", "compose", "folder_of", "fork"),
        *("judge", "plan", "run_sweep", "run_trial", "train_again", "unkept"),
    ),
}
NAMES = sorted(name for names in _MODULES.values() for name in names)


def __getattr__(name: str) -> Any:
    """Load the module that has it."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
