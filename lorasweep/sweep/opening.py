"""Start-up of a sweep: manifest, run folders and study are brought to agree, before any worker starts.

    open_sweep(...) -> TrialSource, SweepStudy
    recipe_factory(spec)  -> what makes a point of the space a recipe and a plan

Knows nothing about workers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lorasweep.config import compose_recipe
from lorasweep.core.errors import LorasweepError
from lorasweep.core.records import Plan, Recipe
from lorasweep.plan import make_plan
from lorasweep.sweep.manifest import declare, read_manifest, write_manifest
from lorasweep.sweep.queue import Trial, in_exposures
from lorasweep.sweep.resume import Compose, cooked_pairs, load_trials
from lorasweep.sweep.search.study import FolderTrial, SweepStudy
from lorasweep.sweep.trials import TrialSource
from lorasweep.sweep.workers.failure import disk_full, is_disk_full, one_line
from lorasweep.trial.judge import score

if TYPE_CHECKING:
    from lorasweep.config import SweepSpec


def open_sweep(
    spec: SweepSpec, plans: Mapping[str, Plan], folder: Path, *, extend: bool, compose: Compose
) -> tuple[TrialSource, SweepStudy]:
    """Bring manifest, run folders and study to agree.

    Raises:
        LorasweepError: there is no room to write them.
    """
    try:
        return _opened(spec, plans, folder, extend=extend, compose=compose)
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise LorasweepError(disk_full(folder, one_line(error))) from error


def _opened(
    spec: SweepSpec, plans: Mapping[str, Plan], folder: Path, *, extend: bool, compose: Compose
) -> tuple[TrialSource, SweepStudy]:
    previous = read_manifest(folder)
    cooked = cooked_pairs(folder, previous)
    manifest = declare(spec, plans, previous=previous, cooked=cooked, extend=extend)
    trials = load_trials(folder, spec, plans, manifest, compose)
    write_manifest(folder, manifest)
    study = SweepStudy(folder, manifest, spec.search)
    found = [_found(trial, spec, manifest.left_out) for trial in trials if trial.folder.exists()]
    last_attempts = study.reconcile(found)
    for trial in trials:
        trial.optuna_number = last_attempts.get(trial.number)
    return TrialSource(spec, folder, manifest, trials, study, compose), study


def _found(trial: Trial, spec: SweepSpec, left_out: Collection[str]) -> FolderTrial:
    rungs = {in_exposures(at): score.without(metrics, left_out) for at, metrics in trial.rungs.items()}
    reported = {at: metrics[spec.metric] for at, metrics in rungs.items() if spec.metric in metrics}
    return FolderTrial(record=trial.record, run_folder=trial.folder.name, rungs={} if spec.further else reported)


def recipe_factory(spec: SweepSpec) -> Compose:
    """What makes a point of the space a recipe and a plan."""

    def compose(overrides: Sequence[str]) -> tuple[Recipe, Plan]:
        search = spec.search
        around = ((), ()) if search is None else (search.common, search.overrides)
        recipe = compose_recipe(around[0], overrides, around[1])
        return recipe, make_plan(recipe)

    return compose
