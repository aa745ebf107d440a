"""A real recipe on the embedded base, in a process of its own and a folder that is removed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time

from lorasweep.cli.doctor import Check, fail, ok, warn

NAME = "cook"
LONG_S, PATIENCE_S = 60.0, 600.0
RECIPE = (
    "train.max_steps=10",
    "train.rungs=1",
    "train.batch_size=2",
    "adapter.dim=4",
    "dataset.dollhouse.images=8",
    "sample.steps=4",
    "sample.seeds=[0]",
    "sample.weights=[0.7]",
    "metrics=[burn]",
    "tracking=none",
)


def cook() -> Check:
    """Train, sample and judge for some seconds; most of them are imports."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="lorasweep-doctor-") as home:
        command = [sys.executable, "-m", "lorasweep", "train", "--json", *RECIPE]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=PATIENCE_S, env={**os.environ, "LORASWEEP_HOME": home}
            )
        except subprocess.TimeoutExpired:
            return fail(NAME, f"not done after {PATIENCE_S:.0f} s", "is the machine busy? try again")
    seconds = time.perf_counter() - started
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return fail(NAME, f"exit code {done.returncode}: {last[:200]}", "the checks above may tell why")
    step = json.loads(done.stdout)["step"]
    told = f"{step} steps, sampled and judged, in {seconds:.0f} s"
    if seconds > LONG_S:
        return warn(NAME, told, "slow: is the machine busy? OMP_NUM_THREADS set?")
    return ok(NAME, told)
