"""The one lookup of runs and sweeps: by name, number or path, as every command takes them.

    quickstart   quickstart.yaml   outputs/quickstart/       a sweep
    quickstart/3   quickstart/0003-prodigy-s0   any/path     a run
    train   train/1a2b3c4d5e6f-s0                            the single runs, and one of them

A sweep folder has a sweep.yaml or holds run folders; a run folder has a status.json or a plan.json.
Whatever else lies about (notebooks' and file managers' leftovers, links that lead nowhere) is neither. What a
run folder says came from somebody: its recipe is checked like one that was typed, before it is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasweep import config
from lorasweep.config.suggest import unknown
from lorasweep.core import files, paths
from lorasweep.core.errors import InputError, Problem
from lorasweep.core.records import Recipe
from lorasweep.sweep import trial_writer
from lorasweep.sweep.folder import run_folder_name
from lorasweep.sweep.manifest import MANIFEST_FILE, read_manifest
from lorasweep.sweep.ranking.state import single_runs
from lorasweep.trial.judge.score import UTILITY

RECIPE_FILE = "recipe.yaml"
SHOWN = 6  # names in a hint


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """A run folder and what was cooked in it."""

    folder: Path  # absolute
    recipe: Recipe

    @property
    def name(self) -> str:
        """SWEEP/TRIAL."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def material(self) -> str:
        """Digest of images, captions and base; empty when nobody wrote it down."""
        try:
            plan: Any = files.read_json(self.folder / "plan.json")
        except (OSError, ValueError):
            return ""
        return str(plan.get("material", "")) if isinstance(plan, dict) else ""


def sweep_folders() -> list[Path]:
    """List the sweeps in the output folder, by name."""
    return [folder for folder in _folders_in(paths.outputs()) if is_sweep(folder)]


def find_sweep(named: str, *, subject: str) -> Path:
    """Find a sweep's folder.

    Args:
        named: its name, its file, or a path to its folder; `train` for the single runs.
        subject: the command, for the error.

    Raises:
        InputError: there is none of this name.
    """
    for folder in _candidates(named):
        if is_sweep(folder):
            return folder
    known = [folder.name for folder in sweep_folders()]
    run = _first_run(named)
    if run is not None:
        problem = Problem(named, "is a run, not a sweep", f"its sweep: {run.parent.name}")
    else:
        hint = f"known: {', '.join(known) or 'none yet'}"
        problem = Problem(named, unknown(f"no such sweep in {paths.outputs()}", named, known), hint)
    raise InputError(problem, subject=subject)


def find_run(named: str, *, subject: str, to_cook: bool = True, for_sweeps: str = "") -> RecordedRun:
    """Find a run and read its recipe.

    Args:
        named: SWEEP/TRIAL or SWEEP/NUMBER, as `status` numbers them, or a path to a run folder.
        subject: the command, for errors.
        to_cook: as in `config.read_recorded`.
        for_sweeps: what else to try when it is a sweep with a ranking, for the error.

    Raises:
        InputError: there is no such run, or its recipe is not one.
    """
    folder = _first_run(named)
    if folder is None:
        raise InputError(_no_such_run(named, for_sweeps), subject=subject)
    return RecordedRun(folder=folder, recipe=config.read_recorded(folder / RECIPE_FILE, to_cook=to_cook))


def settle(sweep: Path) -> None:
    """Write down that runs of a sweep are over whose driver is gone, so that none is RUNNING for ever."""
    inside = [folder for folder in _folders_in(sweep) if is_run(folder)]
    manifest = read_manifest(sweep)
    if manifest is not None:
        trial_writer.settle(sweep, inside, metric=manifest.metric)
        return
    for run in inside:
        trial_writer.settle(run, [run], metric=UTILITY)


def is_sweep(folder: Path) -> bool:
    """Whether runs are listed here: a sweep's folder, or one of single runs, as `train` is."""
    return os.path.isfile(folder / MANIFEST_FILE) or (
        not is_run(folder) and any(is_run(inside) for inside in _folders_in(folder))
    )


def is_run(folder: Path) -> bool:
    """Whether one recipe was, or is being, cooked here."""
    return any(os.path.isfile(folder / name) for name in ("status.json", "plan.json"))


def _candidates(named: str) -> Iterator[Path]:
    """Where it may be: in the output folder, or at the path as typed; a sweep's file stands for the sweep."""
    typed = named.rstrip("/" + os.sep) or named
    places = [paths.outputs() / typed, paths.typed(typed or ".")]
    if typed.endswith((".yaml", ".yml")):
        places.append(paths.outputs() / Path(typed).name.rpartition(".")[0])
    for place in places if typed else ():
        yield Path(os.path.abspath(place))  # links keep their names: those are what people know


def _first_run(named: str) -> Path | None:
    return next((found for place in _candidates(named) if (found := _run_at(place))), None)


def _run_at(place: Path) -> Path | None:
    """The run folder at this place, or of this number in the sweep above it."""
    if is_run(place):
        return place
    if not (place.name.isascii() and place.name.isdigit() and is_sweep(place.parent)):
        return None
    number, manifest = int(place.name), read_manifest(place.parent)
    if manifest is None:
        runs = [folder for folder, _ in single_runs(place.parent)]
        return runs[number] if number < len(runs) else None
    trial = next((trial for trial in manifest.trials if trial.number == number), None)
    named = trial and place.parent / run_folder_name(trial.number, trial.arm, trial.seed)
    return named if named and is_run(named) else None


def _no_such_run(named: str, for_sweeps: str) -> Problem:
    for place in _candidates(named):
        if is_run(place.parent):
            return Problem(named, "is inside a run folder", f"the run: {place.parent}")
        if is_sweep(place):
            other = f"; or {for_sweeps}" if for_sweeps and os.path.isfile(place / MANIFEST_FILE) else ""
            hint = f"name one of its runs: {_listed(place)}{other}"
            return Problem(named, "is a sweep, not a run", hint)
        if is_sweep(place.parent):
            runs = [run.name for run in _folders_in(place.parent) if is_run(run)]
            message = unknown(f"no such run in {place.parent.name}", place.name, runs)
            return Problem(named, message, f"its runs: {_listed(place.parent)}")
    known = [folder.name for folder in sweep_folders()]
    message = unknown("no such run or sweep", named.partition("/")[0], known)
    return Problem(named, message, f"sweeps in {paths.outputs()}: {', '.join(known) or 'none yet'}")


def _listed(sweep: Path) -> str:
    runs = [f"{sweep.name}/{run.name}" for run in _folders_in(sweep) if is_run(run)]
    return ", ".join(runs[:SHOWN]) + (f" and {len(runs) - SHOWN} more" if len(runs) > SHOWN else "")


def _folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, by name, but hidden ones; none when it cannot be read."""
    try:
        inside = sorted(folder.iterdir())
    except OSError:
        return []
    return [path for path in inside if not path.name.startswith(".") and os.path.isdir(path)]
