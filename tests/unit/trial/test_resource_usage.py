"""What the process takes of the machine, against psutil and the clock."""

from __future__ import annotations

import mmap
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from lorasweep.trial import resource_usage
from lorasweep.trial.resource_usage import ResourceUsage, taken_mb

ON_LINUX = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")


@ON_LINUX
def test_memory_that_is_taken_shows() -> None:
    before = taken_mb()["memory"]
    # A mapping of its own: malloc might hand out pages that this process has had all along.
    with mmap.mmap(-1, 50_000_000) as held:
        held.write(b"x" * 50_000_000)
        assert 40 < taken_mb()["memory"] - before < 120
        resident_mb = psutil.Process().memory_info().rss / 1e6
        assert taken_mb()["memory"] == pytest.approx(resident_mb, rel=0.1)


@ON_LINUX
def test_a_look_tells_computing_from_waiting() -> None:
    looks = ResourceUsage(every_s=0.0)
    time.sleep(0.3)
    waited = looks.look()
    began_s = time.process_time()
    while time.process_time() - began_s < 0.3:
        sum(range(1000))
    computed = looks.look()
    assert set(waited) == {"memory_megabytes", "cpu_percentage"}
    assert waited["cpu_percentage"] < 20
    assert computed["cpu_percentage"] > 2 * waited["cpu_percentage"]


def test_looks_are_rare_unless_asked_for() -> None:
    looks = ResourceUsage(every_s=3600.0)
    time.sleep(0.001)
    assert looks.look() == {}
    assert looks.look(now=True) != {}
    assert looks.look() == {}


def test_a_gpu_is_told_of_only_when_it_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    def utilization() -> int:
        raise ModuleNotFoundError("pynvml")

    cuda = SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: False,
        memory_allocated=lambda: 3_000_000,
        utilization=lambda: 87,
    )
    monkeypatch.setitem(resource_usage.sys.modules, "torch", SimpleNamespace(cuda=cuda))
    looks = ResourceUsage(every_s=0.0)
    assert not [kind for kind in looks.look(now=True) if kind.startswith("gpu")]
    cuda.is_initialized = lambda: True
    found = looks.look(now=True)
    assert (found["gpu_memory_megabytes"], found["gpu_utilization_percentage"]) == (3.0, 87.0)
    cuda.utilization = utilization
    assert "gpu_utilization_percentage" not in looks.look(now=True), "without NVML's package"
