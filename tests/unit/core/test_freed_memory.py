"""A process that trains on a CPU keeps what it lets go of."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys

import pytest

from lorasweep.core.freed_memory import keep_freed_memory

# Three blocks of 8 MiB at once, again and again: more than glibc keeps by itself.
FAULTS = """
import ctypes, resource
import torch
from lorasweep.config import compose_recipe
from lorasweep.trial.resources import TrialResources
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        blocks = [torch.zeros(2**21).add_(1) for _ in range(3)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
ctypes.CDLL(None).mallopt(-1, 2**17)  # M_TRIM_THRESHOLD, as it is in the beginning
before = faults()
TrialResources().base(compose_recipe([]))
print(before, min(faults() for _ in range(4)))  # now and then one block is moved, and its pages are new
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")


def test_a_process_with_a_base_on_the_cpu_keeps_what_it_lets_go_of() -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", FAULTS], env=plain, capture_output=True, text=True, check=True)
    before, kept = map(int, done.stdout.split())
    assert before > 100_000 and kept < 5_000


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", None])
def test_what_somebody_has_tuned_is_left_alone(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for tuned in [each for each in os.environ if each.startswith(("MALLOC_", "GLIBC_"))]:
        monkeypatch.delenv(tuned)
    if name:
        monkeypatch.setenv(name, "")
    asked: list[str] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda library: type("C", (), {"mallopt": lambda *how: asked.append("")}))
    keep_freed_memory()
    assert bool(asked) == (name is None)
