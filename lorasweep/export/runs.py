"""Which run to export: a run folder, or a sweep's best.

Takes what the person typed, returns a `CookedRun`. Reads JSON and YAML only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lorasweep import files, paths
from lorasweep.errors import InputError, Problem
from lorasweep.records import Plan, Recipe, from_dict

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
    folder = _folder(where)
    if best:
        folder = _best_of(folder, where)
    if not (folder / "recipe.yaml").is_file():
        runs = sorted(path.parent.name for path in folder.glob("*/recipe.yaml"))
        hint = f"name one of its runs, {', '.join(runs[:4])}, or add --best" if runs else ""
        raise _refuse(where, "is not a run folder: it has no recipe.yaml", hint)
    try:
        recipe = from_dict(Recipe, yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8")))
        plan = from_dict(Plan, files.read_json(folder / "plan.json"))
        status = files.read_json(folder / "status.json")
        last_step = int(status["step"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        hint = "a run folder has recipe.yaml, plan.json and status.json as lorasweep wrote them"
        raise _refuse(where, f"cannot be read: {type(error).__name__}: {error}", hint) from error
    return CookedRun(
        folder=folder,
        adapter_file=_adapter_file(folder, where, step, status=str(status.get("status"))),
        step=_kept_step(folder, last_step) if step is None else step,
        sweep=folder.parent.name,
        recipe=recipe,
        plan=plan,
        status=status,
        metrics=_metrics(folder, step),
    )


def _folder(where: str) -> Path:
    for folder in paths.candidates(where):
        if folder.is_dir():
            return folder.resolve()
    known = sorted(path.name for path in paths.outputs().glob("*") if path.is_dir())
    raise _refuse(where, "no such run or sweep", f"sweeps here: {', '.join(known) or 'none yet'}")


def _best_of(folder: Path, where: str) -> Path:
    from lorasweep.sweep.leaderboard import rank_trials
    from lorasweep.sweep.state import read_state

    if not (folder / "sweep.yaml").is_file():
        raise _refuse(where, "--best wants a sweep, and this is none", "leave --best out for a run folder")
    rank, trial = rank_trials(read_state(folder))[0]
    if rank is None:
        raise _refuse(
            where, "no trial of this sweep is COMPLETED with a value yet", "lorasweep status tells more"
        )
    return Path(trial.run_folder)


def _adapter_file(folder: Path, where: str, step: int | None, *, status: str) -> Path:
    steps = sorted(
        int(path.parent.name.split("_")[1]) for path in folder.glob(f"checkpoints/step_*/{ADAPTER}")
    )
    hint = f"checkpoints: --step {', '.join(map(str, steps))}" if steps else "nothing was saved yet"
    if step is not None:
        if step not in steps:
            raise _refuse(where, f"has no checkpoint of step {step}", hint)
        return folder / "checkpoints" / f"step_{step:06d}" / ADAPTER
    if not (folder / ADAPTER).is_file():
        raise _refuse(where, f"is {status} and has no {ADAPTER}", hint)
    return folder / ADAPTER


def _metrics(folder: Path, step: int | None) -> dict[str, float]:
    try:
        judged: dict[str, Any] = files.read_json(folder / "metrics.json")
    except (OSError, json.JSONDecodeError):
        return {}
    if step is None:
        return dict(judged["metrics"])
    return next((dict(rung["metrics"]) for rung in judged["rungs"] if rung["step"] == step), {})


def _kept_step(folder: Path, last_step: int) -> int:
    try:
        return int(files.read_json(folder / "metrics.json").get("step", last_step))
    except (OSError, ValueError):
        return last_step


def _refuse(where: str, message: str, hint: str) -> InputError:
    return InputError(Problem(where, message, hint), subject="export")
