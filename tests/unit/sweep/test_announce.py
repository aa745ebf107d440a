"""When the outside hears of an end: not before those who wait for work were given some."""

from __future__ import annotations

from pathlib import Path

import pretend_sweep

from lorasweep.core.records import Status
from lorasweep.core.run_folder import TrialRecord
from lorasweep.sweep.manifest import declare
from lorasweep.sweep.queue import Trial
from lorasweep.sweep.ranking.announce import Announcer
from lorasweep.sweep.ranking.leaderboard import LEADERBOARD_FILE
from lorasweep.sweep.trials import TrialSource
from lorasweep.sweep.workers.stop import StopSignal


def one_that_ended(folder: Path) -> TrialSource:
    recipe = pretend_sweep.recipe()
    record = TrialRecord(
        number=0, arm="arm0", seed=0, status=Status.COMPLETED, fingerprint="0", step=8, steps=8, value=0.5
    )
    plan = pretend_sweep.plan(recipe)
    trial = Trial(record=record, recipe=recipe, plan=plan, folder=folder / "0000-arm0-s0", overrides=())
    spec = pretend_sweep.spec(pretend_sweep.numbered_arms(1))
    return TrialSource(spec, folder, declare(spec, {"arm0": plan}), [trial], None, lambda words: (recipe, plan))


def test_an_end_is_ranked_after_the_hand_out_and_once(tmp_path: Path) -> None:
    source, calls = one_that_ended(tmp_path), list[str]()
    announcer = Announcer(source, StopSignal(), on_trial_end=lambda: calls.append("hook"))

    announcer.trial_ended(source.trials[0])
    assert calls == [] and not (tmp_path / LEADERBOARD_FILE).exists()

    announcer.changed("")
    assert calls == ["hook"] and (tmp_path / LEADERBOARD_FILE).exists()

    announcer.changed("")
    announcer.close()
    assert calls == ["hook"]


def test_ends_that_came_too_fast_to_be_ranked_are_ranked_at_the_end(tmp_path: Path) -> None:
    source, calls = one_that_ended(tmp_path), list[str]()
    announcer = Announcer(source, StopSignal(), on_trial_end=lambda: calls.append("hook"))
    announcer.trial_ended(source.trials[0])
    announcer.close()
    assert calls == ["hook"]
