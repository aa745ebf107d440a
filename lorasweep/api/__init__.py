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

from lorasweep.api.results import (
    checkpoint,
    export,
    open_run,
    open_sweep,
    rate,
    ratings,
    report,
    status,
    sweeps,
    sync,
)
from lorasweep.api.training import (
    compose,
    folder_of,
    judge,
    plan,
    plan_sweep,
    run_sweep,
    run_trial,
)
from lorasweep.results.handles import EndedRun, EndedSweep, Planned, Run, Sweep

__all__ = [
    "EndedRun",
    "EndedSweep",
    "Planned",
    "Run",
    "Sweep",
    "checkpoint",
    "compose",
    "export",
    "folder_of",
    "judge",
    "open_run",
    "open_sweep",
    "plan",
    "plan_sweep",
    "rate",
    "ratings",
    "report",
    "run_sweep",
    "run_trial",
    "status",
    "sweeps",
    "sync",
]
