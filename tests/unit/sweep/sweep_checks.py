"""What the engine's tests ask of a sweep folder."""

from __future__ import annotations

import os
from pathlib import Path

from optuna.trial import TrialState

from lorasweep.cli import main
from lorasweep.core.records import Status
from lorasweep.core.run_folder import RunFolder
from lorasweep.sweep.manifest import read_manifest
from lorasweep.sweep.ranking.state import read_state
from lorasweep.sweep.search.study import SweepStudy, meaning

SWEEP = """\
sweep:
  question: Where?
  metric: {name: overcook/utility, goal: maximize}
  recipe: {train.max_steps: 4, train.rungs: 1, dataset.dollhouse.images: 6, tracking: none}
  arms: {a: {}}
"""
FAST_S = 5.0


def refused(home, capsys, *overrides):
    """What is said of a sweep with a launcher that cannot be used, and the seconds of CPU that it took to say so.

    By the clock it is these on a quiet machine, and at most 3 s more where somebody is waited for.
    """
    (home / "where.yaml").write_text(SWEEP)
    began = sum(os.times()[:4])
    assert main(["sweep", str(home / "where.yaml"), *overrides]) == 2
    took_s = sum(os.times()[:4]) - began
    assert not list((home / "outputs").glob("*/0*")), "nothing has begun"
    return capsys.readouterr().err, took_s


def log(folder):
    return (folder / "log.txt").read_text().splitlines()


def starts(folder):
    return [line for line in log(folder) if line.startswith("start")]


def by_arm(state):
    return {trial.arm: trial for trial in state.trials}


def last_attempts(folder):
    """Optuna's newest trial of every number."""
    found = {}
    for trial in SweepStudy(folder, read_manifest(folder)).trials():
        if "number" in trial.user_attrs:
            found[trial.user_attrs["number"]] = trial
        else:  # its driver was killed before it knew what it had asked for
            assert trial.state is TrialState.FAIL
    return found


def assert_study_agrees(folder):
    told = last_attempts(folder)
    for trial in read_state(folder).trials:
        means = meaning(RunFolder(Path(trial.run_folder)).record, read_manifest(folder))
        # Of a pruned trial Optuna keeps what it reported last.
        values = None if trial.status is Status.PRUNED else told[trial.number].values
        assert told[trial.number].state == means.state, trial
        assert values == (None if means.values is None else list(means.values)), trial
        assert told[trial.number].constraints == means.constraints
