"""Signs of life and appetite, without a driver."""

import subprocess
import sys

import pytest

from lorasweep.sweep.workers import worker
from lorasweep.sweep.workers.worker import MemoryWatch, beat_every_s, kernel_oom_kills

# A process of its own: that another thread computes is a sign of life too, and pytest's process has many.
ALONE = """
import threading, time
from lorasweep.sweep.workers.worker import Heartbeat

beats = []
Heartbeat(lambda: beats.append(time.monotonic()), every_s=0.02)
deadline = time.monotonic() + 20
numbers = 0
while len(beats) < 3 and time.monotonic() < deadline:
    numbers += sum(range(500))
working = len(beats)
threading.Event().wait(0.6)
print(working, len(beats) - working)
"""


def test_a_working_thread_beats_and_a_stuck_one_does_not():
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=120, check=True)
    working, stuck = map(int, done.stdout.split())
    assert working >= 3
    assert stuck <= 2, "one beat for having come here, and no more"


def test_beats_come_often_enough_for_any_deadline():
    assert beat_every_s(1.0) == pytest.approx(0.05)
    assert beat_every_s(600.0) == 5.0


def test_memory_is_compared_with_that_after_the_first_job():
    readings = iter([{"memory": 900.0}, {"memory": 950.0, "GPU memory": 10.0}, {"memory": 1001.0}])
    watch = MemoryWatch(100.0, taken_mb=lambda: next(readings))
    assert [watch.overgrown() for _ in range(3)] == ["", "", "its memory grew by 101 MB"]


def test_every_kind_of_memory_counts_and_no_limit_is_no_limit():
    readings = iter([{"memory": 1.0, "GPU memory": 0.0}, {"memory": 1.0, "GPU memory": 500.0}])
    watch = MemoryWatch(100.0, taken_mb=lambda: next(readings))
    assert [watch.overgrown(), watch.overgrown()] == ["", "its GPU memory grew by 500 MB"]
    assert MemoryWatch(None, taken_mb=lambda: pytest.fail("must not measure")).overgrown() == ""


def test_the_kernels_kills_are_counted(tmp_path, monkeypatch):
    file = tmp_path / "vmstat"
    monkeypatch.setattr(worker, "VMSTAT", file)
    assert kernel_oom_kills() is None
    file.write_text("nr_free_pages 5\noom_kill 3\n")
    assert kernel_oom_kills() == 3
