"""What a tracking server that is slow, down or gone costs a sweep: the same sweep beside every trouble.

    python benchmarks/outage.py [--trials 8] [--step-seconds 0.5]

Cooks trials that only sleep, with two workers, mirrored to a real MLflow server. For each kind of trouble it
prints how long the cooking took, how long the sweep waited at its end for the mirror (bounded by
`tracking.timeout_s`), and what `sync` made of it once the server was back. Promised: cooking takes less than
10 % longer, nothing is lost, nothing is there twice.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "unit" / "sweep")]

import pretend_sweep  # noqa: E402 - found through the line above
from tracking_server import free_port, server  # noqa: E402

from lorasweep.core.files import read_json  # noqa: E402
from lorasweep.core.records import TrackingOptions  # noqa: E402
from lorasweep.results.tracking.mirror import sync_sweep  # noqa: E402
from lorasweep.results.tracking.process import Mirror  # noqa: E402

WORKERS = 2
TIMEOUT_S = 5.0  # for the mirror at the end; a person's default is 20


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--step-seconds", type=float, default=0.5)
    options = parser.parse_args()
    whole_s = options.trials / WORKERS * pretend_sweep.STEPS * options.step_seconds
    troubles: dict[str, Callable[[Any], None] | None] = {
        "no tracking": None,
        "server answers": lambda process: None,
        "gone from the start": _kill,
        "gone in the middle": lambda process: _later(whole_s / 2, lambda: _kill(process)),
        "accepts, never answers": lambda process: os.killpg(process.pid, signal.SIGSTOP),
    }
    print(f"{options.trials} trials of {pretend_sweep.STEPS} x {options.step_seconds} s on {WORKERS} workers")
    print(f"{'':24}{'cooking':>10}{'':>8}{'waiting':>10}  after sync")
    usual_s = 0.0
    for name, trouble in troubles.items():
        cooking_s, waiting_s, after = _cook(options.trials, options.step_seconds, trouble)
        usual_s = usual_s or cooking_s
        more = f"{100 * (cooking_s / usual_s - 1):+.1f}%"
        print(f"{name:24}{cooking_s:9.2f}s{more:>8}{waiting_s:9.1f}s  {after}", flush=True)


def _cook(trials: int, step_s: float, trouble: Callable[[Any], None] | None) -> tuple[float, float, str]:
    """Cook one sweep; returns seconds of cooking, seconds of waiting, and what a later sync found."""
    tracking = TrackingOptions(timeout_s=TIMEOUT_S)
    sweep = pretend_sweep.spec(pretend_sweep.numbered_arms(trials, step_s=step_s), workers=WORKERS)
    sweep = dataclasses.replace(sweep, tracking=tracking)
    with tempfile.TemporaryDirectory() as home:
        folder, served, port = Path(home) / "outputs" / "sweep", Path(home) / "server", free_port()
        served.mkdir()
        os.environ |= {"LORASWEEP_HOME": home, "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
        with server(served, port) if trouble else nullcontext() as process:
            if trouble is not None:
                trouble(process)
            mirror = Mirror(folder, tracking) if trouble else None
            pretend_sweep.cook(sweep, folder, mirror=mirror)
            over = time.time()
        records = [read_json(path) for path in folder.glob("*/status.json")]
        ended = max(record["ended_at"] for record in records)
        cooking_s = ended - min(record["started_at"] for record in records)
        if trouble is None:
            return cooking_s, over - ended, ""
        with server(served, port):
            return cooking_s, over - ended, _after_sync(folder, tracking, trials)


def _after_sync(folder: Path, tracking: TrackingOptions, trials: int) -> str:
    """Sync, and count what is missing or there twice."""
    from mlflow import MlflowClient

    problems = sync_sweep(folder, tracking).problems
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs = client.search_runs(experiments, filter_string="tags.`lorasweep.sweep` = 'sweep'")
    children = Counter(run.data.tags.get("lorasweep.trial") for run in runs)
    finished = sum(run.info.status == "FINISHED" for run in runs)
    doubled = 0
    for run in runs:
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")]
        doubled += len(steps) - len(set(steps))
    twice = len(runs) - len(children) + doubled
    said = f"{finished} of {trials + 1} runs finished, {twice} things twice"
    return f"{said}; {problems[0]}" if problems else said


def _kill(process: Any) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _later(seconds: float, act: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    main()
