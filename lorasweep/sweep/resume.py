"""Start-up: find out from the run folders where every declared trial stands.

Takes the manifest, the spec and the plans; returns the driver's trials. An attempt that ended while nobody
was there to note it is noted now. Knows nothing about Optuna or processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lorasweep.core.errors import ConfigError, InputError, Problem
from lorasweep.core.records import Plan, Recipe, Status
from lorasweep.core.run_folder import SweepFolder, TrialRecord
from lorasweep.plan import for_seed
from lorasweep.sweep.manifest import Manifest
from lorasweep.sweep.queue import Trial
from lorasweep.sweep.search.pruning import is_exempt
from lorasweep.sweep.trial_writer import recover, write_invalid
from lorasweep.sweep.workers.failure import one_line

if TYPE_CHECKING:
    from lorasweep.config import SweepSpec

Compose = Callable[[Sequence[str]], tuple[Recipe, Plan]]


def cooked_pairs(sweep_folder: Path, previous: Manifest | None) -> frozenset[tuple[str, int]]:
    """The (arm, seed) pairs that have a run folder with a status."""
    trials = previous.trials if previous is not None else ()
    folder = SweepFolder(sweep_folder)
    return frozenset((t.arm, t.seed) for t in trials if folder.run(t.number, t.arm, t.seed).record is not None)


def load_trials(
    sweep_folder: Path,
    spec: SweepSpec,
    plans: Mapping[str, Plan],
    manifest: Manifest,
    compose: Compose,
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
    found: dict[str, tuple[Recipe | None, Plan | None, str]] = {
        arm.name: (arm.recipe, plans[arm.name], "") for arm in spec.arms
    }
    overrides = {arm.name: tuple(arm.overrides) for arm in manifest.arms}
    trials = []
    strangers = []
    for declared in manifest.trials:
        if declared.arm not in found:
            found[declared.arm] = made(compose, overrides[declared.arm])
        recipe, plan, reason = found[declared.arm]
        if recipe is not None and plan is not None:
            recipe, plan = for_seed(recipe, plan, declared.seed)
        folder = SweepFolder(sweep_folder).run(declared.number, declared.arm, declared.seed).path
        wanted = new_record(
            declared.number,
            declared.arm,
            declared.seed,
            recipe,
            plan,
            exempt=is_exempt(spec.pruner, declared.number),
            reason=reason,
        )
        record = recover(folder, manifest.metric)
        if record is None:
            record = wanted
            if record.status is Status.INVALID:  # its driver died before it could write that down
                write_invalid(folder, record)
        elif record.fingerprint and record.fingerprint != wanted.fingerprint:
            message = "was cooked from another recipe, other images or another base than is declared now"
            message = f"cannot be cooked any more: {reason}" if reason else message
            strangers.append(Problem(str(folder), message, "move it away, or give the sweep another name"))
        trial = Trial(
            record=record,
            recipe=recipe,
            plan=plan,
            folder=folder,
            overrides=overrides[declared.arm],
            step=record.step,
        )
        trial.take_results()
        trials.append(trial)
    if strangers:
        raise ConfigError(strangers, subject=f"sweep `{spec.name}`")
    return trials


def made(compose: Compose, overrides: Sequence[str]) -> tuple[Recipe | None, Plan | None, str]:
    """Compose and plan a point of the space.

    Returns:
        Recipe, plan and ""; or None, None and why the point makes no recipe.
    """
    try:
        return *compose(overrides), ""
    except InputError as error:
        return None, None, one_line(error)


def new_record(
    number: int,
    arm: str,
    seed: int,
    recipe: Recipe | None,
    plan: Plan | None,
    *,
    exempt: bool,
    reason: str = "",
) -> TrialRecord:
    """Make the record of a trial that nobody has begun: WAITING, or INVALID when there is no recipe."""
    lacking = recipe is None or plan is None
    return TrialRecord(
        number=number,
        arm=arm,
        seed=seed,
        status=Status.INVALID if lacking else Status.WAITING,
        fingerprint="" if plan is None else plan.fingerprint,
        steps=0 if plan is None else plan.steps,
        attempt=0,
        reason=reason,
        exempt=exempt,
        ended_at=time.time() if lacking else None,
    )
