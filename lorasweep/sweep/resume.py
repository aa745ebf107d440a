"""Start-up: find out from the run folders where every declared trial stands.

Takes the manifest, the spec and the plans; returns the driver's trials. An attempt that ended while nobody
was there to note it is noted now. Knows nothing about Optuna or processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lorasweep.errors import ConfigError, Problem
from lorasweep.plan import for_seed
from lorasweep.records import Plan, Recipe, Status
from lorasweep.sweep.folder import TrialRecord, read_result, read_rungs, read_status, run_folder_name
from lorasweep.sweep.ledger import recover
from lorasweep.sweep.manifest import DeclaredTrial, Manifest
from lorasweep.sweep.pruning import is_exempt
from lorasweep.sweep.queue import Trial

if TYPE_CHECKING:
    from lorasweep.config import SweepSpec


def cooked_pairs(sweep_folder: Path, previous: Manifest | None) -> frozenset[tuple[str, int]]:
    """The (arm, seed) pairs that have a run folder with a status."""
    trials = previous.trials if previous is not None else ()
    return frozenset((t.arm, t.seed) for t in trials if read_status(_folder(sweep_folder, t)) is not None)


def load_trials(
    sweep_folder: Path,
    spec: SweepSpec,
    plans: Mapping[str, Plan],
    manifest: Manifest,
    compose: Callable[[Sequence[str]], tuple[Recipe, Plan]],
) -> list[Trial]:
    """Build the driver's trials from what is declared, what was asked for since, and what is on disk.

    Args:
        sweep_folder: has the run folders.
        spec: the arms, composed.
        plans: one plan per arm.
        manifest: the trials there are.
        compose: turns the overrides of a point into its recipe and plan.

    Raises:
        ConfigError: a run folder was made from something else than what is declared now.
    """
    made = {arm.name: (arm.recipe, plans[arm.name]) for arm in spec.arms}
    overrides = {arm.name: tuple(arm.overrides) for arm in manifest.arms}
    trials = []
    strangers = []
    for declared in manifest.trials:
        if declared.arm not in made:
            made[declared.arm] = compose(overrides[declared.arm])
        recipe, plan = for_seed(*made[declared.arm], declared.seed)
        folder = _folder(sweep_folder, declared)
        record = recover(folder, manifest.metric) or TrialRecord(
            number=declared.number,
            arm=declared.arm,
            seed=declared.seed,
            status=Status.WAITING,
            fingerprint=plan.fingerprint,
            steps=plan.steps,
            attempt=0,
            exempt=is_exempt(spec.pruner, declared.number),
        )
        if record.fingerprint != plan.fingerprint:
            message = "was cooked from another recipe, other images or another base than is declared now"
            strangers.append(Problem(str(folder), message, "move it away, or give the sweep another name"))
        metrics, verdict = read_result(folder)
        trials.append(
            Trial(
                record=record,
                recipe=recipe,
                plan=plan,
                folder=folder,
                overrides=overrides[declared.arm],
                step=record.step,
                metrics=metrics,
                verdict=verdict,
                rungs=read_rungs(folder),
            )
        )
    if strangers:
        raise ConfigError(strangers, subject=f"sweep `{spec.name}`")
    return trials


def _folder(sweep_folder: Path, declared: DeclaredTrial) -> Path:
    return sweep_folder / run_folder_name(declared.number, declared.arm, declared.seed)
