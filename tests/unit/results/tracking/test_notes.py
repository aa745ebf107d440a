"""What MLflow's description of a sweep says of its trials."""

from __future__ import annotations

from pathlib import Path

from sweep_folders import Cooked, write_sweep

from lorasweep.results.tracking.reading import read_sweep, read_trial
from lorasweep.results.tracking.sweep_content import sweep_content
from lorasweep.sweep.ranking import leaderboard
from lorasweep.sweep.ranking.state import read_state


def note_of(folder: Path) -> str:
    """The description, once the driver has written its leaderboard."""
    leaderboard.write(folder, read_state(folder))
    sweep = read_sweep(folder)
    return sweep_content(sweep, [read_trial(trial) for trial in sweep.trials]).tags["mlflow.note.content"]


def test_ranks_are_the_leaderboards_and_what_failed_has_none(tmp_path: Path) -> None:
    failed = Cooked(arm="fell", status="CRASHED")
    trials = [Cooked(arm="first"), Cooked(arm="like"), Cooked(arm="last", identity=0.1), failed]
    told = note_of(write_sweep(tmp_path / "mine", trials))
    places = {line.split("**")[1]: line.split("|")[1].strip() for line in told.splitlines() if "| **" in line}
    assert places == {"first": "1", "like": "1", "last": "3", "fell": ""}


def test_it_tells_the_numbers_that_the_sweep_is_about(tmp_path: Path) -> None:
    goals = {"identity/score": "maximize", "overcook/score": "minimize"}
    told = note_of(write_sweep(tmp_path / "mine", [Cooked(arm="a", identity=0.9, overcook=0.6)], objectives=goals))
    assert "Best: **a** (score 0.884, overcook 0.600, burn 1.200)" in told
    assert "|  | recipe | status | score | overcook | burn | verdict |" in told
