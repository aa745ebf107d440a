"""Where a study lies: one SQLite file beside the run folders, opened, made, or found to be unusable.

    open_study(path, manifest)    the study in it, made when there is no file; None when it cannot be read
    create_study(path, manifest)  a study in a new file
    same(axis, axis)              whether two distributions are equal

Knows nothing about trials' meaning.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial
from sqlalchemy.exc import SQLAlchemyError

from lorasweep.sweep.manifest import Manifest

LOCKED_PATIENCE_S = 60
WRITTEN_FOR = "5.0"  # Optuna


def open_study(path: Path, manifest: Manifest) -> Study | None:
    """Open or create; None when the file is there but is not a study that can be read."""
    existed = path.exists()
    try:
        study = create_study(path, manifest)
        study.get_trials(deepcopy=False)
    except (SQLAlchemyError, StorageInternalError, optuna.exceptions.DuplicatedStudyError, RuntimeError, KeyError):
        if not existed:
            raise
        return None
    return study


def create_study(path: Path, manifest: Manifest) -> Study:
    """Make the study, or open the one that is there."""
    study = optuna.create_study(
        storage=_Sharing(
            f"sqlite:///{path}",
            engine_kwargs={
                # A dashboard that reads the file may hold it for a moment.
                "connect_args": {"timeout": LOCKED_PATIENCE_S, "factory": _Unhurried}
            },
        ),
        study_name=manifest.name,
        directions=directions(manifest),
        # For what is enqueued: nothing is sampled then, and this one costs nothing.
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=optuna.pruners.NopPruner(),
        load_if_exists=True,
    )
    study.set_user_attr("metric", manifest.metric)
    return study


def directions(manifest: Manifest) -> list[StudyDirection]:
    """Which way each objective is better, the first one first."""
    goals = [manifest.goal, *(each["goal"] for each in manifest.search.get("further", ()))]
    return [StudyDirection.MINIMIZE if goal == "minimize" else StudyDirection.MAXIMIZE for goal in goals]


def same(one: BaseDistribution | None, other: BaseDistribution) -> bool:
    """Whether two axes are equal; Optuna's own `==` takes seconds for a thousand arms."""
    if isinstance(one, CategoricalDistribution) and isinstance(other, CategoricalDistribution):
        return one.choices == other.choices
    return one == other


class _Sharing(RDBStorage):
    """Lets all trials share one copy of each axis.

    Optuna reads an axis from the file anew for every trial, with all its choices, and keeps the trials: of a
    thousand arms that is a thousand copies of their thousand names, 60 KB for each trial. The method is Optuna's
    own affair: where a version has none of this name (`WRITTEN_FOR` has), memory grows and nothing else changes.
    """

    def __init__(self, url: str, *, engine_kwargs: dict[str, Any]) -> None:
        super().__init__(url, engine_kwargs=engine_kwargs)
        self._axes: dict[str, BaseDistribution] = {}

    def _build_frozen_trial_from_trial_model(self, trial: Any) -> FrozenTrial:
        frozen = super()._build_frozen_trial_from_trial_model(trial)
        frozen.distributions = {name: self._shared(name, axis) for name, axis in frozen.distributions.items()}
        return frozen

    def _shared(self, name: str, axis: BaseDistribution) -> BaseDistribution:
        if not same(self._axes.get(name), axis):
            self._axes[name] = axis
        return self._axes[name]


class _Unhurried(sqlite3.Connection):
    """Leaves it to the system when to write to the disk, instead of waiting for it a dozen times a trial.

    A killed process loses nothing by that; a power cut may break the file, which is then told again from the
    run folders.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.execute("PRAGMA synchronous = OFF")
