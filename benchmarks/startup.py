"""How long the commands that people type all day take, Python's own start included.

    python benchmarks/startup.py [--runs N]

Each command runs N times in a fresh process, after a bare `python -c pass`, and the fastest of each is
printed: on a shared machine the minimum is the least disturbed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time

COMMANDS = (["--help"], ["plan", "quickstart"], ["plan", "quickstart", "--json"], ["status"])


def seconds(command: list[str], home: str) -> float:
    """Wall time of one process, output discarded."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "LORASWEEP_HOME": home})
    return time.perf_counter() - began


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
    return 0


if __name__ == "__main__":
    sys.exit(main())
