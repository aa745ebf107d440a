"""How long the commands that people type all day take, Python's own start included, and a sweep to its first step.

    python benchmarks/startup.py [--runs N]

Each command runs N times in a fresh process, after a bare `python -c pass`, and the fastest of each is
printed: on a shared machine the minimum is the least disturbed. The sweep is of two trials on warm caches; events carry
the time of its first step.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMANDS = (["--help"], ["plan", "quickstart"], ["plan", "quickstart", "--json"], ["status"])

SWEEP = """
sweep:
  question: How soon does it train?
  metric: {name: norms/relative, goal: maximize}
  seeds: [0, 1]
  recipe: {train.max_steps: 2, train.rungs: 1, train.log_every: 1, metrics: [norms], tracking: none}
  arms: {a: {}}
"""


def seconds(command: list[str], home: str) -> float:
    """Wall time of one process, output discarded."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "LORASWEEP_HOME": home})
    return time.perf_counter() - began


def seconds_to_first_step(home: str) -> float:
    """Wall time from the start of `lorasweep sweep` to the end of the first step of any trial."""
    file, folder = Path(home, "first_step.yaml"), Path(home, "outputs", "first_step")
    file.write_text(SWEEP)
    shutil.rmtree(folder, ignore_errors=True)
    began = time.time()
    seconds([sys.executable, "-m", "lorasweep", "sweep", str(file), "--fresh"], home)
    rows = [json.loads(line) for log in folder.glob("*/events.jsonl") for line in log.read_text().splitlines()]
    return min(row["time"] for row in rows if row["kind"] == "step") - began


def main() -> int:
    """Time and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as home:
        bare = min(seconds([sys.executable, "-c", "pass"], home) for _ in range(runs))
        print(f"{'python -c pass':<30}{bare:7.3f} s")
        for words in COMMANDS:
            command = [sys.executable, "-m", "lorasweep", *words]
            seconds(command, home)  # the first plan draws the dataset
            best = min(seconds(command, home) for _ in range(runs))
            print(f"{'lorasweep ' + ' '.join(words):<30}{best:7.3f} s")
        seconds_to_first_step(home)  # which fills the caches
        print(f"{'a sweep to its first step':<30}{min(seconds_to_first_step(home) for _ in range(runs)):7.3f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
