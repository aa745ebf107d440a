"""The one lookup of runs and sweeps: by name, number or path, as every command takes them.

    quickstart   quickstart.yaml   outputs/quickstart/       a sweep
    quickstart/3   quickstart/0003-prodigy-s0   any/path     a run
    train   train/1a2b3c4d5e6f-s0                            the single runs, and one of them

Whatever else lies about (notebooks' and file managers' leftovers, links that lead nowhere) is neither. What a
run folder says came from somebody: its recipe is checked like one that was typed, before it is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorasweep import config
from lorasweep.config.suggest import unknown
from lorasweep.core import paths
from lorasweep.core.errors import InputError, Problem
from lorasweep.core.printable import command, some
from lorasweep.core.records import Plan, Recipe, from_dict
from lorasweep.core.run_folder import (
    ADAPTER_FILE,
    PLAN_FILE,
    RECIPE_FILE,
    STATUS_FILE,
    RunFolder,
    SweepFolder,
    TrialRecord,
    folders_in,
    steps_in,
)
from lorasweep.sweep import trial_writer
from lorasweep.sweep.manifest import read_manifest
from lorasweep.sweep.ranking.leaderboard import best_trial
from lorasweep.sweep.ranking.state import read_record, read_state, single_runs
from lorasweep.trial.judge.score import UTILITY

SHOWN = 6  # names in a hint


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """A run folder and what was trained in it."""

    folder: Path  # absolute
    recipe: Recipe

    @property
    def name(self) -> str:
        """SWEEP/TRIAL."""
        return RunFolder(self.folder).name

    @property
    def material(self) -> str:
        """Digest of images, captions and base; empty when nobody wrote it down."""
        return str(RunFolder(self.folder).plan.get("material", ""))


@dataclass(frozen=True, kw_only=True)
class Checkpoint(RecordedRun):
    """A run and an adapter that it saved, with what its folder tells about it.

    Attributes:
        plan, record: as in the run folder.
    """

    file: Path  # the adapter
    step: int  # optimizer steps behind it; the kept checkpoint's need not be the last
    plan: Plan
    record: TrialRecord
    metrics: Mapping[str, float]  # measured at that step; empty when nothing was

    @property
    def sweep(self) -> str:
        """Name of the folder that the run is in."""
        return self.folder.parent.name


def sweep_folders() -> list[Path]:
    """List the sweeps in the output folder, by name."""
    return [folder for folder in folders_in(paths.outputs()) if SweepFolder(folder).exists]


def find_sweep(named: str, *, subject: str) -> Path:
    """Find a sweep's folder by its name, its file, or a path to the folder; `train` names the single runs.

    Raises:
        InputError: there is none of this name.
    """
    for folder in _candidates(named):
        if SweepFolder(folder).exists:
            return folder
    known = [folder.name for folder in sweep_folders()]
    run = _first_run(named)
    if run is not None:
        problem = Problem(named, "is a run, not a sweep", f"its sweep: {run.parent.name}")
    else:
        hint = f"known: {', '.join(known) or 'none yet'}"
        problem = Problem(named, unknown(f"no such sweep in {paths.outputs()}", named, known), hint)
    raise InputError(problem, subject=subject)


def best_of(sweep: Path, *, subject: str) -> Path:
    """Find the run folder of a sweep's best trial; raises InputError when no trial has a value yet."""
    best = best_trial(read_state(sweep))
    if best is None:
        message = "no trial of this sweep is COMPLETED with a value yet"
        raise InputError(Problem(sweep.name, message, "lorasweep status tells more"), subject=subject)
    return Path(best.run_folder)


def find_run(named: str, *, subject: str, to_cook: bool = True, for_sweeps: str = "") -> RecordedRun:
    """Find a run, and read its recipe as `config.read_recorded` does.

    Args:
        named: SWEEP/TRIAL or SWEEP/NUMBER, as `status` numbers them, or a path to a run folder.
        subject: the command, for errors.
        to_cook: as there.
        for_sweeps: what else to try when it is a sweep with a ranking, for the error.

    Raises:
        InputError: there is no such run, or its recipe is not one.
    """
    folder = _first_run(named)
    if folder is None:
        raise InputError(_no_such_run(named, for_sweeps), subject=subject)
    return RecordedRun(folder=folder, recipe=config.read_recorded(folder / RECIPE_FILE, to_cook=to_cook))


def find_checkpoint(named: str, *, subject: str, step: int | None = None) -> Checkpoint:
    """Find an adapter that a run saved, with all that its folder tells about it; `named` as in `find_run`.

    `step` is a rung's; None takes the checkpoint that the run kept.

    Raises:
        InputError: there is no such run, or it has no such adapter.
    """
    run = find_run(named, subject=subject, to_cook=False, for_sweeps="add --best")
    files = RunFolder(run.folder)
    record = read_record(files)
    try:
        plan = from_dict(Plan, files.plan)
    except ValueError:
        plan = None
    if plan is None or record is None:
        message = f"cannot be read: its {STATUS_FILE if plan else PLAN_FILE} is missing, or not as lorasweep wrote it"
        hint = "the command that trained it writes it anew"
        raise InputError(Problem(named, message, hint), subject=subject)
    file = files.adapter if step is None else files.weights(step)
    if not file.is_file():
        steps = [each for each in steps_in(files.checkpoints) if files.weights(each).is_file()]
        lacks = (
            f"has no checkpoint of step {step}"
            if step is not None
            else f"is {record.status.value} and has no {ADAPTER_FILE}"
        )
        hint = f"checkpoints: --step {', '.join(map(str, steps))}" if steps else "none is there"
        raise InputError(Problem(named, lacks, hint), subject=subject)
    judged = files.result
    rungs = {rung["step"]: rung for rung in judged.get("rungs", ())}
    return Checkpoint(
        folder=run.folder,
        recipe=run.recipe,
        file=file,
        step=int(judged.get("step", record.step)) if step is None else step,
        plan=plan,
        record=record,
        metrics=dict((judged if step is None else rungs.get(step, {})).get("metrics", {})),
    )


def find_sweep_or_run(named: str, *, subject: str) -> Path:
    """Find the folder of a run or of a sweep, as `find_run` and `find_sweep` do.

    Raises:
        InputError: there is neither of this name.
    """
    return _first_run(named) or find_sweep(named, subject=subject)


def settle(sweep: Path) -> None:
    """Write down that runs of a sweep are over whose driver is gone, so that none is RUNNING for ever."""
    inside = [run.path for run in SweepFolder(sweep).runs]
    manifest = read_manifest(sweep)
    if manifest is not None:
        trial_writer.settle(sweep, inside, metric=manifest.metric, left_out=manifest.left_out)
        return
    for run in inside:
        trial_writer.settle(run, [run], metric=UTILITY)


def _candidates(named: str) -> Iterator[Path]:
    """Return where it may be: in the output folder, or at the path as typed; a sweep's file stands for the sweep."""
    typed = named.rstrip("/" + os.sep) or named
    places = [paths.outputs() / typed, paths.typed(typed or ".")]
    if typed.endswith((".yaml", ".yml")):
        places.append(paths.outputs() / Path(typed).name.rpartition(".")[0])
    for place in places if typed else ():
        yield Path(os.path.abspath(place))  # links keep their names: those are what people know


def _first_run(named: str) -> Path | None:
    return next((found for place in _candidates(named) if (found := _run_at(place))), None)


def _run_at(place: Path) -> Path | None:
    """Return the run folder at this place, or of this number in the sweep above it."""
    if RunFolder(place).exists:
        return place
    sweep = SweepFolder(place.parent)
    if not (place.name.isascii() and place.name.isdigit() and sweep.exists):
        return None
    number, manifest = int(place.name), read_manifest(sweep.path)
    if manifest is None:
        numbered = {place: run for place, (run, _) in enumerate(single_runs(sweep.path))}
    else:
        numbered = {trial.number: sweep.run(trial.number, trial.arm, trial.seed) for trial in manifest.trials}
    run = numbered.get(number)
    return run.path if run and run.exists else None


def _no_such_run(named: str, for_sweeps: str) -> Problem:
    for place in _candidates(named):
        sweep, above = SweepFolder(place), SweepFolder(place.parent)
        if RunFolder(place.parent).exists:
            return Problem(named, "is inside a run folder", f"the run: {place.parent}")
        if sweep.exists:
            other = f"; or {for_sweeps}" if for_sweeps and sweep.is_declared else ""
            return Problem(named, "is a sweep, not a run", f"name one of its runs: {_listed(sweep)}{other}")
        if above.exists:
            runs = [run.path.name for run in above.runs]
            message = unknown(f"no such run in {place.parent.name}", place.name, runs)
            return Problem(named, message, f"its runs: {_listed(above)}")
    known = [folder.name for folder in sweep_folders()]
    message = unknown("no such run or sweep", named.partition("/")[0], known)
    return Problem(named, message, f"sweeps in {paths.outputs()}: {', '.join(known) or 'none yet'}")


def _listed(sweep: SweepFolder) -> str:
    return some([run.name for run in sweep.runs], SHOWN)


def other_material(run: RecordedRun, planned: Plan, moved: Sequence[str]) -> Problem:
    """Say what is not at its new place: images are compared by their bytes."""
    had = {image.get("sha256") for image in RunFolder(run.folder).plan.get("images", ())}
    others = [image for image in planned.images if image.sha256 not in had]
    what = f"{len(others)} of the {len(planned.images)} images there are" if others else "what is there is"
    hint = f"as a variation of it: {command('lorasweep', 'fork', run.name, *moved)}"
    also = "" if others else ": images are missing, captions, repeats or split are others, or the base is"
    return Problem(" ".join(moved), f"cannot come out the same: {what} not what {run.name} was made from{also}", hint)
