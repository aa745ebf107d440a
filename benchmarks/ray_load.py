"""What launcher=ray costs its driver: pretended trials on many hosts of one local Ray.

    python -m benchmarks.ray_load [--trials 1000] [--hosts 64]      needs pip install 'lorasweep[cluster]'

Promised: at most 150 ms of the driver's CPU a trial, its bridge to Ray included, and flat memory. Hosts are three
processes each (actor, host, worker), about 150 MB together, so that 64 of them want 10 GB.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

KITCHEN = Path(__file__).parents[1] / "tests" / "unit" / "sweep"
sys.path.insert(0, str(KITCHEN))

import pretend_sweep  # noqa: E402 - found through the line above

from lorasweep.core.records import LauncherOptions  # noqa: E402

TRIAL_MS = 150.0


def main() -> None:
    """Run the sweep once and say what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--hosts", type=int, default=64)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(KITCHEN)
    memory: dict[int, float] = {}
    bridge_s = 0.0

    def look(state: Any) -> None:
        nonlocal bridge_s
        memory.setdefault(state.finished // max(1, options.trials // 10), psutil.Process().memory_info().rss / 2**20)
        for child in psutil.Process().children():
            if any("_ray_bridge" in word for word in child.cmdline()):
                used = child.cpu_times()
                bridge_s = used.user + used.system

    with tempfile.TemporaryDirectory() as folder:
        os.environ["LORASWEEP_HOME"] = folder
        own = {"address": "local", "gpus": 1.0, "gpu_type": None, "home": f"{folder}/there"}
        own |= {"ship": "state", "ship_base": False, "insecure": False}
        launcher = LauncherOptions(name="ray", workers=options.hosts, options=own)
        arms = pretend_sweep.numbered_arms(options.trials, step_s=0.05)
        began, used_s = time.monotonic(), sum(os.times()[:2])
        declared = dataclasses.replace(pretend_sweep.spec(arms), launcher=launcher)
        result = pretend_sweep.cook(declared, Path(folder) / "outputs" / "load", on_change=_calm(look))
        wall_s, driver_s = time.monotonic() - began, sum(os.times()[:2]) - used_s
    print(f"{result.state.counts} on {options.hosts} hosts in {wall_s:.0f} s")
    for name, seconds in {"driver": driver_s, "bridge": bridge_s, "together": driver_s + bridge_s}.items():
        print(f"{name:<9} {1000 * seconds / options.trials:6.0f} ms of CPU a trial")
    print("driver's memory by tenths of the sweep, MB:", ", ".join(f"{memory[tenth]:.0f}" for tenth in sorted(memory)))
    print("kept" if 1000 * (driver_s + bridge_s) / options.trials <= TRIAL_MS else f"NOT KEPT: {TRIAL_MS:.0f} ms")


def _calm(look: Callable[[Any], None]) -> Callable[[Any], None]:
    """Once a second is enough."""
    last = 0.0

    def sometimes(state: Any) -> None:
        nonlocal last
        if time.monotonic() - last > 1.0:
            look(state)
            last = time.monotonic()

    return sometimes


if __name__ == "__main__":
    main()
