"""How long a sweep was said to take, and how long it took."""

from __future__ import annotations

import itertools

import pytest

from lorasweep.core.files import read_json, write_text
from lorasweep.sweep import driver
from lorasweep.sweep.driver import TIMING_FILE, Stopwatch


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Every look at the clock is ten seconds after the one before."""
    ticks = itertools.count(0, 10)
    monkeypatch.setattr(driver.time, "monotonic", lambda: float(next(ticks)))


def test_the_error_is_known_at_the_end_over_all_sittings(tmp_path):
    Stopwatch(tmp_path, 40.0).stop(done=False)
    assert read_json(tmp_path / TIMING_FILE) == {"estimated_s": 40.0, "real_s": 10.0, "done": False}
    # What is estimated once half of it is cooked is not what the person was told.
    Stopwatch(tmp_path, 1.0).stop(done=True)
    found = {"estimated_s": 40.0, "real_s": 20.0, "done": True, "error": -0.5}
    assert read_json(tmp_path / TIMING_FILE) == found
    Stopwatch(tmp_path, 7.0).stop(done=True)  # somebody looks at the finished sweep again
    assert read_json(tmp_path / TIMING_FILE) == found


def test_an_extended_sweep_is_timed_on(tmp_path):
    Stopwatch(tmp_path, 40.0).stop(done=True)
    Stopwatch(tmp_path, 60.0).stop(done=False)
    assert read_json(tmp_path / TIMING_FILE) == {"estimated_s": 40.0, "real_s": 20.0, "done": False}


def test_without_an_estimate_there_is_no_error_and_a_broken_file_is_none(tmp_path):
    write_text(tmp_path / TIMING_FILE, "{")
    Stopwatch(tmp_path, None).stop(done=True)
    assert read_json(tmp_path / TIMING_FILE) == {"estimated_s": None, "real_s": 10.0, "done": True}
