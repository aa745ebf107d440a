"""Train runs with the product's own `run.cook`, a witness at every rung, N processes, within a budget.

    cook_all(runs, home, ...)  ->  home/runs/<run>/{recipe.yaml, events.jsonl, truth/step_000040.json, ...}

A run that ended is never trained again; one that was interrupted goes on from its checkpoint. Knows nothing
about what is made of it.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from benchmarks.overcooking.grid import Run
from benchmarks.overcooking.witness import Counts, Witness
from lorasweep import config
from lorasweep.core import files
from lorasweep.core.records import Status, to_dict
from lorasweep.dollhouse.reader.reader import Reader
from lorasweep.plan import make_plan
from lorasweep.sweep.workers.worker import end_with_driver
from lorasweep.trial.resources import TrialResources
from lorasweep.trial.run import cook

RANDOM_IS_LIKE = "centre_zkw_s0"  # the first run of the grid
FINAL = {Status.COMPLETED.value, Status.DIVERGED.value, Status.PRUNED.value}


def cook_all(runs: Sequence[Run], home: Path, *, processes: int, until: float, counts: Counts) -> Iterator[str]:
    """Train, in order of their worth, what is not trained yet; yields how each ended or was cut short, in one line.

    `home` is the `LORASWEEP_HOME` of the worker processes, one thread each, and has the run folders in `runs`; after
    `until`, unix time, nothing starts and what trains saves and stops; `counts` are the witness's pictures at a rung.
    """
    os.environ |= {"LORASWEEP_HOME": str(home), "OMP_NUM_THREADS": "1"}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_set_up) as pool:
        waiting = [run for run in runs if status_of(home / "runs" / run.name) not in FINAL]
        begun = [pool.submit(cook_one, run, home, until=until, counts=counts) for run in waiting]
        yield from (line for future in as_completed(begun) if (line := future.result()))


def run_folders(home: Path) -> list[Path]:
    """List every run that was begun, by name."""
    return [path.parent for path in sorted((home / "runs").glob("*/run.json"))]


def status_of(folder: Path) -> str | None:
    """Read how a run stands; None when it was never begun."""
    path = folder / "status.json"
    return str(files.read_json(path)["status"]) if path.exists() else None


def cook_one(run: Run, home: Path, *, until: float, counts: Counts) -> str:
    """Train one run in this process; an error is kept in `error.txt` and does not stop the others.

    Returns status, seconds and name; empty when there is no time left to begin.
    """
    began, began_cpu, folder = time.time(), time.process_time(), home / "runs" / run.name
    if began > until:
        return ""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        status = _cook(run, folder, home, should_stop=lambda: time.time() > until, counts=counts)
    except Exception:
        files.write_text(folder / "error.txt", traceback.format_exc())
        status = "ERROR"
    spent = {"wall_s": time.time() - began, "cpu_s": time.process_time() - began_cpu, "status": status}
    files.append_jsonl(folder / "times.jsonl", spent)
    files.write_json(folder / "status.json", {"status": status})
    return f"{status:<10} {spent['wall_s']:6.0f} s  {run.name}"


@functools.cache
def _resources() -> TrialResources:
    """What this worker process keeps between its runs."""
    return TrialResources()


def _set_up() -> None:
    import torch

    end_with_driver()
    torch.set_num_threads(1)


def _cook(run: Run, folder: Path, home: Path, *, should_stop: Callable[[], bool], counts: Counts) -> str:
    resources, like = _resources(), home / "runs" / RANDOM_IS_LIKE / "adapter.safetensors"
    if run.planted == "random" and not like.exists():
        return Status.WAITING.value  # for the first trained adapter, whose norms it takes
    recipe = config.compose_recipe(run.overrides)
    planned = make_plan(recipe)
    files.write_text(folder / "recipe.yaml", config.to_yaml(recipe))
    files.write_json(folder / "plan.json", to_dict(planned))
    files.write_json(folder / "run.json", to_dict(run))
    witness = Witness(recipe, planned, run.identity, resources, Reader.load(), home=home, counts=counts)

    def report(event: dict[str, Any]) -> bool:
        path = folder / "truth" / f"step_{event['step']:06d}.json"
        if event["kind"] == "rung" and not path.exists():
            began = time.process_time()
            files.write_json(folder / "truth" / "base.json", witness.base_testimony(resources.adapters[-1]))
            testimony = witness.testify(resources.adapters[-1])
            files.write_json(path, {**testimony, "cpu_s": time.process_time() - began})
        return True

    if run.planted:
        from benchmarks.overcooking import planted

        planted.judge(run.planted, recipe, planned, folder, resources, report=report, like=like)
        return Status.COMPLETED.value
    return cook(recipe, planned, folder, resources, report=report, should_stop=should_stop).status.value
