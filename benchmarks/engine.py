"""What the sweep engine costs: trials that cook nothing, so that all the time is the engine's own.

    python benchmarks/engine.py [--trials 1000] [--workers 8]

Promised for 1,000 trials on 8 workers: at most 0.3 s a trial, the last hundred at most 1.3 times the first,
memory flat. For the first tenth of the trials and for the last this prints the wall time per trial (with
workers in parallel) and where it went in the driver: computing, waiting for its workers, waiting for the
disk, and the rest, in which it could have run but other programs did, or waited for files otherwise. Then the
driver's memory and its slope, how soon a worker that is done has its next trial (two workers, so that the
driver is not in demand), how long it takes to find a finished sweep finished, and which promises were kept.
On a busy machine wall times say little; CPU times hold.

Uses the pretend trial and the sweeps of the engine's tests.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit" / "sweep"))

import pretend_sweep  # noqa: E402 - found through the line above

from lorasweep.core.files import read_json, read_jsonl  # noqa: E402
from lorasweep.sweep.workers import pool  # noqa: E402
from lorasweep.trial.resource_usage import taken_mb  # noqa: E402

TRIAL_S = 0.3
GROWTH = 1.3
SLOPE_KB = 10.0  # of the driver's memory, per trial: what is kept of a trial to rank and to show it
HAND_OUTS, HAND_OUT_STEP_S = 40, 0.05


@dataclass(frozen=True)
class Mark:
    """What the driver took: since it began, in seconds; or `a_trial`, in milliseconds."""

    wall: float
    cpu: float
    workers: float  # asleep until a worker says something
    disk: float  # asleep until the disk has what was flushed
    memory_mb: float  # at its end

    def a_trial(self, first: Mark, trials: int) -> Mark:
        """What lies between an earlier mark and this one, for each of so many trials."""
        names = ("wall", "cpu", "workers", "disk")
        spent = {name: 1000 * (getattr(self, name) - getattr(first, name)) / trials for name in names}
        return Mark(**spent, memory_mb=self.memory_mb)

    def __str__(self) -> str:
        rest = max(0.0, self.wall - self.cpu - self.workers - self.disk)
        parts = "".join(f"{each:9.1f}" for each in (self.wall, self.cpu, self.workers, self.disk, rest))
        return f"{parts} ms{self.memory_mb:7.0f} MB"


class Watch:
    """Looks at the driver whenever it shows a snapshot, and notes the moment when trials have ended."""

    def __init__(self) -> None:
        self.workers, self.disk = _Asleep(), _Asleep()
        self.at: dict[int, Mark] = {}

    def __call__(self, state: Any) -> None:
        """Take a snapshot in."""
        if state.finished not in self.at:
            self.at[state.finished] = self.now()

    def now(self) -> Mark:
        """Look at the clocks."""
        memory_mb = taken_mb().get("memory", float("nan"))
        return Mark(time.perf_counter(), time.process_time(), self.workers.s, self.disk.s, memory_mb)

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """Time the two calls in which the driver sleeps."""
        waiting = mock.patch.object(pool, "wait", self.workers.timed(wait))
        with waiting, mock.patch.object(os, "fsync", self.disk.timed(os.fsync)):
            yield

    def part(self, first: int, last: int) -> Mark:
        """What each of the trials `first` to `last` cost, by the marks nearest to these counts."""
        low, high = (min(self.at, key=lambda count: abs(count - wanted)) for wanted in (first, last))
        return self.at[high].a_trial(self.at[low], max(1, high - low))

    def slope_kb(self, first: int) -> float:
        """How much the driver's memory grows with each trial, from `first` on."""
        counts = [count for count in sorted(self.at) if count >= first]
        return 1000 * statistics.linear_regression(counts, [self.at[n].memory_mb for n in counts]).slope


class _Asleep:
    """Seconds that one function sleeps: wall time without CPU time."""

    def __init__(self) -> None:
        self.s = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            try:
                return function(*arguments)
            finally:
                self.s += max(0.0, time.perf_counter() - wall - (time.process_time() - cpu))

        return run


def hand_outs_ms(folder: Path) -> list[float]:
    """How long each worker stood between two trials of its own, by the times that it wrote down itself."""
    cooked: dict[int, list[tuple[float, float]]] = {}
    for path in folder.glob("*/worker.json"):
        events = list(read_jsonl(path.parent / "events.jsonl"))
        cooked.setdefault(read_json(path)["pid"], []).append((events[0]["time"], events[-1]["time"]))
    return [
        1000 * (began - ended)
        for trials in map(sorted, cooked.values())
        for (_, ended), (began, _) in zip(trials, trials[1:], strict=False)
    ]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=8)
    options = parser.parse_args()
    trials, tenth = options.trials, options.trials // 10
    sweep = pretend_sweep.spec(pretend_sweep.numbered_arms(trials), workers=options.workers)
    watch = Watch()
    with tempfile.TemporaryDirectory() as home, watch.asleep():
        began = watch.now()
        result = pretend_sweep.cook(sweep, Path(home) / "sweep", on_change=watch)
        ended = watch.now()
        assert result.state.counts == {"COMPLETED": trials}, result.state.counts
        pretend_sweep.cook(sweep, Path(home) / "sweep")
        again = watch.now()
        few = pretend_sweep.spec(pretend_sweep.numbered_arms(HAND_OUTS, step_s=HAND_OUT_STEP_S), workers=2)
        pretend_sweep.cook(few, Path(home) / "few")
        gaps = hand_outs_ms(Path(home) / "few")
    print(f"{trials} trials on {options.workers} workers, {pretend_sweep.STEPS} empty steps each")
    print(f"{'per trial':24}     wall      CPU  workers     disk     rest      memory")
    first, last = watch.part(tenth // 10, tenth), watch.part(trials - tenth, trials)
    everything = ended.a_trial(began, trials)
    print(f"{f'trials {tenth // 10} to {tenth}':24}{first}")
    print(f"{f'trials {trials - tenth} to {trials}':24}{last}")
    print(f"{'all, start included':24}{everything}")
    median_ms, longest_ms = statistics.median(gaps), max(gaps)
    print(f"next trial in hand after {median_ms:.0f} ms (median of {len(gaps)}), at most {longest_ms:.0f} ms")
    again_s, again_cpu_s = again.wall - ended.wall, again.cpu - ended.cpu
    print(f"second call, nothing to do: {again_s:.1f} s, {again_cpu_s:.1f} s of it CPU")
    slope_kb = watch.slope_kb(tenth)
    promise("a trial costs at most", everything.wall / 1000, TRIAL_S, "s wall")
    promise("a trial costs at most", everything.cpu / 1000, TRIAL_S, "s CPU")
    promise("the last tenth costs at most", last.wall / first.wall, GROWTH, "x the first, wall")
    promise("the last tenth costs at most", last.cpu / first.cpu, GROWTH, "x the first, CPU")
    promise("memory grows by at most", slope_kb, SLOPE_KB, "KB a trial")


def promise(words: str, found: float, most: float, unit: str) -> None:
    """Print whether a promise was kept."""
    print(f"{'kept  ' if found <= most else 'BROKEN'} {words} {most:g} {unit}: {found:.3g}")


if __name__ == "__main__":
    main()
