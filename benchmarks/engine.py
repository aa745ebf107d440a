"""What the sweep engine costs: trials that cook nothing, so that all the time is the engine's own.

    python benchmarks/engine.py [--trials 100] [--workers 4]

Prints the wall time per trial (with workers in parallel), the driver's own CPU time per trial, and how long
it takes to find a finished sweep finished. Uses the kitchen and the sweeps of the engine's tests.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit" / "sweep"))

import pretend_sweep  # noqa: E402 - found through the line above


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--workers", type=int, default=4)
    options = parser.parse_args()
    sweep = pretend_sweep.spec(pretend_sweep.numbered_arms(options.trials), workers=options.workers)
    with tempfile.TemporaryDirectory() as folder:
        wall_s, cpu_s = _timed(sweep, Path(folder), options.trials)
        again_s, _ = _timed(sweep, Path(folder), options.trials)
    print(f"{options.trials} trials on {options.workers} workers, {pretend_sweep.STEPS} empty steps each")
    print(
        f"  wall time per trial         {1000 * wall_s / options.trials:8.1f} ms (start of workers included)"
    )
    print(f"  driver CPU time per trial   {1000 * cpu_s / options.trials:8.1f} ms")
    print(f"  second call, nothing to do  {again_s:8.2f} s")


def _timed(sweep: object, folder: Path, trials: int) -> tuple[float, float]:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    result = pretend_sweep.cook(sweep, folder)
    assert result.state.counts == {"COMPLETED": trials}, result.state.counts
    return time.perf_counter() - wall_s, time.process_time() - cpu_s


if __name__ == "__main__":
    main()
