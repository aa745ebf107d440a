"""What the sweep engine costs: trials that cook nothing, so that all the time is the engine's own.

    python benchmarks/engine.py [--trials 1000] [--workers 8]

Prints, for the first tenth of the trials and for the last, the wall time per trial (with workers in parallel)
and the driver's own CPU time per trial; the driver's memory at both places; and how long it takes to find a
finished sweep finished. On a busy machine the CPU time is the one to compare. Promised for 1,000 trials on 8
workers: at most 0.3 s a trial, the last hundred at most 1.3 times the first, memory flat.

Uses the kitchen and the sweeps of the engine's tests.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit" / "sweep"))

import pretend_sweep  # noqa: E402 - found through the line above

from lorasweep.footprint import taken_mb  # noqa: E402


@dataclass(frozen=True)
class Mark:
    """The driver at one moment."""

    wall_s: float
    cpu_s: float
    memory_mb: float

    @classmethod
    def now(cls) -> Mark:
        """Look at the clock."""
        return cls(time.perf_counter(), time.process_time(), taken_mb().get("memory", float("nan")))


class Watch:
    """Looks at the driver whenever it shows a snapshot, and notes the moment when trials have ended."""

    def __init__(self) -> None:
        self.at: dict[int, Mark] = {0: Mark.now()}

    def __call__(self, state: object) -> None:
        """Take a snapshot in."""
        self.at.setdefault(state.finished, Mark.now())  # type: ignore[attr-defined]

    def between(self, first: int, last: int) -> tuple[int, Mark, Mark]:
        """The marks nearest to two counts of finished trials, and how many trials lie between them."""
        low, high = (min(self.at, key=lambda count: abs(count - wanted)) for wanted in (first, last))
        return max(1, high - low), self.at[low], self.at[high]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=8)
    options = parser.parse_args()
    sweep = pretend_sweep.spec(pretend_sweep.numbered_arms(options.trials), workers=options.workers)
    tenth = options.trials // 10
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        began = Mark.now()
        result = pretend_sweep.cook(sweep, Path(folder) / "sweep", on_change=watch)
        ended = Mark.now()
        assert result.state.counts == {"COMPLETED": options.trials}, result.state.counts
        pretend_sweep.cook(sweep, Path(folder) / "sweep")
        again_s = time.perf_counter() - ended.wall_s
    print(f"{options.trials} trials on {options.workers} workers, {pretend_sweep.STEPS} empty steps each")
    print(f"{'':28}{'wall':>10}{'driver CPU':>12}{'memory':>10}")
    parts = {
        f"trials {tenth // 10} to {tenth}": watch.between(tenth // 10, tenth),
        f"trials {options.trials - tenth} to {options.trials}": watch.between(
            options.trials - tenth, options.trials
        ),
        "all, start included": (options.trials, began, ended),
    }
    for name, (count, first, last) in parts.items():
        wall_ms, cpu_ms = (
            1000 * (getattr(last, which) - getattr(first, which)) / count for which in ("wall_s", "cpu_s")
        )
        print(f"{name:28}{wall_ms:8.1f}ms{cpu_ms:10.1f}ms{last.memory_mb:8.0f}MB")
    print(f"second call, nothing to do: {again_s:.2f} s")


if __name__ == "__main__":
    main()
