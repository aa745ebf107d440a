"""Start-up of a sweep: manifest, run folders and study are brought to agree, before any worker starts.

    open_sweep(...)       -> TrialSource, SweepStudy
    recipe_factory(spec)  -> what makes a point of the space a recipe and a plan

An attempt that ended while nobody was there to note it is noted now. Knows nothing about workers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lorasweep.config import compose_recipe
from lorasweep.core.errors import ConfigError, LorasweepError, Problem
from lorasweep.core.records import Plan, Recipe, Status
from lorasweep.core.run_folder import SweepFolder
from lorasweep.plan import make_plan
from lorasweep.sweep.manifest import Manifest, declare, read_manifest, write_manifest
from lorasweep.sweep.queue import Trial, in_exposures
from lorasweep.sweep.search.study import SweepStudy
from lorasweep.sweep.trial_writer import recover, write_invalid
from lorasweep.sweep.trials import Compose, Composed, TrialSource, compose_point, new_trial
from lorasweep.sweep.workers.failure import disk_full, is_disk_full, one_line
from lorasweep.trial.judge import score

if TYPE_CHECKING:
    from lorasweep.config import SweepSpec


def open_sweep(
    spec: SweepSpec, plans: Mapping[str, Plan], folder: Path, *, extend: bool, compose: Compose
) -> tuple[TrialSource, SweepStudy]:
    """Bring manifest, run folders and study to agree.

    Args:
        spec: the arms, composed.
        plans: one plan per arm.
        folder: the sweep's.
        extend: allow arms and seeds that an earlier declaration did not have.
        compose: turns the overrides of a point into its recipe and plan.

    Raises:
        ConfigError: trials were cooked from something else than is declared now.
        LorasweepError: there is no room to write them.
    """
    try:
        previous = read_manifest(folder)
        manifest = declare(spec, plans, previous=previous, cooked=_cooked_pairs(folder, previous), extend=extend)
        trials = _load_trials(folder, spec, plans, manifest, compose)
        write_manifest(folder, manifest)
        study = SweepStudy(folder, manifest, spec.search)
        last_attempts = study.reconcile(
            (trial.record, _reported(trial, spec, manifest)) for trial in trials if trial.folder.exists()
        )
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise LorasweepError(disk_full(folder, one_line(error))) from error
    for trial in trials:
        trial.optuna_number = last_attempts.get(trial.number)
    return TrialSource(spec, folder, manifest, trials, study, compose), study


def recipe_factory(spec: SweepSpec) -> Compose:
    """Make what turns a point of the space into a recipe and a plan."""

    def compose(overrides: Sequence[str]) -> tuple[Recipe, Plan]:
        common, more = ((), ()) if spec.search is None else (spec.search.common, spec.search.overrides)
        recipe = compose_recipe(common, overrides, more)
        return recipe, make_plan(recipe)

    return compose


def _cooked_pairs(sweep_folder: Path, previous: Manifest | None) -> frozenset[tuple[str, int]]:
    """The (arm, seed) pairs that have a run folder with a status."""
    trials, folder = previous.trials if previous is not None else (), SweepFolder(sweep_folder)
    return frozenset((t.arm, t.seed) for t in trials if folder.run(t.number, t.arm, t.seed).record is not None)


def _load_trials(
    sweep_folder: Path, spec: SweepSpec, plans: Mapping[str, Plan], manifest: Manifest, compose: Compose
) -> list[Trial]:
    """Build the driver's trials from what is declared, what was asked for since, and what is on disk."""
    composed = {arm.name: Composed(arm.recipe, plans[arm.name]) for arm in spec.arms}
    overrides = {arm.name: tuple(arm.overrides) for arm in manifest.arms}
    trials, strangers = [], []
    for declared in manifest.trials:
        arm = declared.arm
        if arm not in composed:
            composed[arm] = compose_point(compose, overrides[arm])
        trial = new_trial(spec, sweep_folder, declared.number, arm, declared.seed, composed[arm], overrides[arm])
        record = recover(trial.folder, manifest.metric)
        if record is None:
            if trial.record.status is Status.INVALID:  # its driver died before it could write that down
                write_invalid(trial)
        elif record.fingerprint and record.fingerprint != trial.record.fingerprint:
            reason = composed[arm].reason
            message = "was cooked from another recipe, other images or another base than is declared now"
            message = f"cannot be cooked any more: {reason}" if reason else message
            strangers.append(Problem(str(trial.folder), message, "move it away, or give the sweep another name"))
        trial.record = record or trial.record
        trial.step = trial.record.step
        trial.take_results()
        trials.append(trial)
    if strangers:
        raise ConfigError(strangers, subject=f"sweep `{spec.name}`")
    return trials


def _reported(trial: Trial, spec: SweepSpec, manifest: Manifest) -> dict[int, float]:
    """What the study was told at the rungs: exposures per image -> the sweep's metric."""
    if spec.further:  # Optuna knows reports of a single objective only
        return {}
    rungs = {in_exposures(at): score.without(metrics, manifest.left_out) for at, metrics in trial.rungs.items()}
    return {at: metrics[spec.metric] for at, metrics in rungs.items() if spec.metric in metrics}
