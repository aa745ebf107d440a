"""Which adapter to export: that of a run folder, an earlier rung's of it, or that of a sweep's best run.

Takes what the person typed, returns a `CookedRun`. Reads JSON and YAML only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorasweep.core import files
from lorasweep.core.errors import InputError, Problem
from lorasweep.core.records import Plan, Recipe, from_dict
from lorasweep.results import runs
from lorasweep.sweep.folder import read_or_none
from lorasweep.sweep.ranking.leaderboard import rank_trials
from lorasweep.sweep.ranking.state import read_state

ADAPTER = "adapter.safetensors"


@dataclass(frozen=True, kw_only=True)
class CookedRun:
    """What a run folder tells about one of its adapters.

    Attributes:
        folder: the run folder, absolute.
        adapter_file: the adapter to export.
        step: optimizer steps behind it; the kept checkpoint's need not be the last.
        sweep: name of the folder that the run is in.
        recipe, plan, status: as in the run folder.
        metrics: measured at that step; empty when nothing was.
    """

    folder: Path
    adapter_file: Path
    step: int
    sweep: str
    recipe: Recipe
    plan: Plan
    status: Mapping[str, Any]
    metrics: Mapping[str, float] = field(default_factory=dict)


def find_run(where: str, *, best: bool = False, step: int | None = None) -> CookedRun:
    """Find the run and the adapter in it.

    Args:
        where: SWEEP/TRIAL or SWEEP/NUMBER in the output folder, or a run folder's path; with `best`, a
            sweep's name or path.
        best: take the completed trial with the best value.
        step: a rung's step; None takes the checkpoint that the run kept.

    Raises:
        InputError: there is no such run, or it has no such adapter.
    """
    if best:
        where = str(_best_of(runs.find_sweep(where, subject="export"), where))
    run = runs.find_run(where, subject="export", to_cook=False, for_sweeps="add --best")
    folder = run.folder
    judged = read_or_none(folder / "metrics.json") or {}
    try:
        plan = from_dict(Plan, files.read_json(folder / "plan.json"))
        status = files.read_json(folder / "status.json")
        last_step = int(status["step"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        hint = "a run folder has recipe.yaml, plan.json and status.json as lorasweep wrote them"
        raise _refuse(where, f"cannot be read: {type(error).__name__}: {error}", hint) from error
    return CookedRun(
        folder=folder,
        adapter_file=_adapter_file(folder, where, step, status=str(status.get("status"))),
        step=int(judged.get("step", last_step)) if step is None else step,
        sweep=folder.parent.name,
        recipe=run.recipe,
        plan=plan,
        status=status,
        metrics=_metrics(judged, step),
    )


def _best_of(folder: Path, where: str) -> Path:
    if not (folder / "sweep.yaml").is_file():
        raise _refuse(where, "--best wants a sweep, and this is none", "leave --best out for a run folder")
    best = next((trial for rank, trial in rank_trials(read_state(folder)) if rank == 1), None)
    if best is None:
        raise _refuse(where, "no trial of this sweep is COMPLETED with a value yet", "lorasweep status tells more")
    return Path(best.run_folder)


def _adapter_file(folder: Path, where: str, step: int | None, *, status: str) -> Path:
    steps = sorted(
        int(path.parent.name.removeprefix("step_")) for path in folder.glob(f"checkpoints/step_[0-9]*/{ADAPTER}")
    )
    hint = f"checkpoints: --step {', '.join(map(str, steps))}" if steps else "nothing was saved yet"
    if step is not None:
        if step not in steps:
            raise _refuse(where, f"has no checkpoint of step {step}", hint)
        return folder / "checkpoints" / f"step_{step:06d}" / ADAPTER
    if not (folder / ADAPTER).is_file():
        raise _refuse(where, f"is {status} and has no {ADAPTER}", hint)
    return folder / ADAPTER


def _metrics(judged: Mapping[str, Any], step: int | None) -> dict[str, float]:
    at_step = judged if step is None else {rung["step"]: rung for rung in judged.get("rungs") or ()}.get(step)
    return dict((at_step or {}).get("metrics") or {})


def _refuse(where: str, message: str, hint: str) -> InputError:
    return InputError(Problem(where, message, hint), subject="export")
