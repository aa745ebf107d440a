"""A trial module that cooks nothing, to test the engine: steps that sleep, a checkpoint file, ways to misbehave.

How an arm behaves is in `recipe.regularization["pretend"]`: `ends` (a Status, or one of `raise`, `invalid`,
`memory`, `cuda_memory`, `no_space`, `hang`, `die`), `die_once`, `hang_once`, `dies_in`, `grow_mb`,
`lingers`, `judging_s`, `step_s`, `value`, `noise`, `unmeasured`, `room`; `sick_on`, `no_room_on` a node.
Every cook appends to `<sweep>/log.txt`, to be counted.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from lorasweep.core import files
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.provenance import code_digest
from lorasweep.core.records import Outcome, Plan, Recipe, Status
from lorasweep.core.run_folder import RunFolder


class TrialResources:
    def __init__(self, **shares: int) -> None:
        self.cooked, self.shares = 0, shares
        self.leak: list[bytes] = []


def train(wanted: list[dict[str, Any]], *, until: Callable[[], bool]) -> None:
    """Nothing is: the steps are where they are asked for. There may be no memory for so many."""
    if len(wanted) > min(ways.get("room", len(wanted)) for ways in wanted):
        raise MemoryError(f"no room for {len(wanted)}")


def cooking(
    recipe: Recipe,
    plan: Plan,
    folder: Path,
    resources: TrialResources,
    *,
    report: Callable[[dict[str, Any]], bool],
    should_stop: Callable[[], bool],
) -> Generator[dict[str, Any], None, Outcome]:
    ways = recipe.regularization["pretend"]
    resources.cooked += 1
    resources.leak.append(b"x" * (1_000_000 * ways.get("grow_mb", 0)))
    checkpoint = folder / "checkpoints" / "step.json"
    step = files.read_json(checkpoint)["step"] if checkpoint.exists() else 0
    _log(folder, f"start {folder.name} {step}")
    surroundings = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
    told = {"pid": os.getpid(), **resources.shares, **{k: os.environ.get(k) for k in surroundings}}
    files.write_json(folder / "worker.json", told)
    files.write_json(folder / "provenance.json", {"code": code_digest()})
    _die_in("start", ways, folder)
    _event(folder, report, "start", step)
    while step < plan.steps:
        yield ways
        time.sleep(ways.get("step_s", 0.0))
        step += 1
        _misbehave(ways, folder, step)
        if step == 6:
            _die_in("train", ways, folder)
        _event(folder, report, "step", step, metrics={"train/loss": 1.0 / step})
        if step in plan.rungs:
            _die_in("half a checkpoint", ways, folder)
            _die_in("judge", ways, folder)
            _judge(ways.get("judging_s", 0.0))
            files.write_json(checkpoint, {"step": step})
            metrics = {"overcook/utility": ways.get("value", 0.5) * step / plan.steps}
            exposures = plan.exposures_per_image * step / plan.steps
            if not _event(folder, report, "rung", step, metrics=metrics, missing={}, exposures_per_image=exposures):
                return Outcome(status=Status.PRUNED, step=step)
        if should_stop():
            files.write_json(checkpoint, {"step": step})
            return Outcome(status=Status.CANCELLED, step=step, reason="stopped on request")
    status = Status(ways.get("ends", "COMPLETED"))
    metrics = {"overcook/utility": _value(recipe), "overcook/score": 0.25}
    if ways.get("unmeasured"):
        metrics = {}
    _die_in("with its checkpoints", ways, folder)
    _die_in("half a result", ways, folder)
    verdict = {"state": "done", "sentence": "nothing was cooked"}
    files.write_json(folder / "metrics.json", {"metrics": metrics, "missing": {}, "rungs": [], "verdict": verdict})
    files.write_text(folder / "adapter.safetensors", f"{recipe.seed}")
    _event(folder, report, "end", step)
    _log(folder, f"end {folder.name} {step}")
    _die_in("result", ways, folder)
    _die_in("outcome left", ways, folder)
    return Outcome(status=status, step=step, metrics=metrics, reason="NaN loss" if status == "DIVERGED" else "")


def draw_base_samples(recipe: Recipe, plan: Plan, folder: Path, resources: TrialResources) -> None:
    _log(folder, "base")
    files.write_json(folder / "index.json", {"images": []})


def _value(recipe: Recipe) -> float:
    """What the arm is worth, give or take a noise that is the seed's and the arm's own."""
    ways = recipe.regularization["pretend"]
    value: float = ways.get("value", 0.5)
    return value + ways.get("noise", 0.0) * random.Random(f"{recipe.seed} {value}").uniform(-1, 1)


def _judge(seconds: float) -> None:
    """Long, without an event, but getting on."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        sum(range(1000))


def _misbehave(ways: dict[str, Any], folder: Path, step: int) -> None:
    ends, node = ways.get("ends", ""), os.environ.get("PRETEND_NODE")
    if node is not None and ways.get("sick_on") == node:
        raise RuntimeError(f"the GPU fell off the bus at step {step}")
    if node is not None and ways.get("no_room_on") == node:
        ends = "no_space"
    if ends == "die" or (ways.get("die_once") and step == 6 and _first_time(folder)):
        os.kill(os.getpid(), signal.SIGKILL)
    if ends == "hang" or (ways.get("hang_once") and step == 6 and _first_time(folder)):
        threading.Event().wait()
    if ways.get("lingers") and step == 1:  # a thread of some library, for which the process waits when it ends
        threading.Thread(target=threading.Event().wait).start()
    if ends == "no_space":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "adapter.safetensors")
    if ends == "cuda_memory":
        raise RuntimeError("CUDA error: out of memory")
    if ends == "raise":
        raise ValueError(f"no luck at step {step}")
    if ends == "invalid":
        raise ConfigError([Problem("adapter.dim", "must be >= 1, got 0")])
    if ends == "memory":
        raise MemoryError("no more")


def _die_in(phase: str, ways: dict[str, Any], folder: Path) -> None:
    """Die the first time that this phase comes."""
    if ways.get("dies_in") != phase or not _first_time(folder):
        return
    if phase == "half a checkpoint":
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / ".step.torn.json").write_text('{"ste')
    if phase == "with its checkpoints":  # as a machine that goes away with launcher.ship=kept
        shutil.rmtree(folder / "checkpoints")
    if phase == "half a result":
        (folder / "metrics.json").write_text('{"metr')  # as a program would leave it that does not rename
    if phase == "outcome left":
        # Nothing here comes after it, so the worker's own last deed is where to wait.
        write = RunFolder.write_outcome

        def write_and_die(*arguments: Any, **options: Any) -> None:
            write(*arguments, **options)
            os.kill(os.getpid(), signal.SIGKILL)

        RunFolder.write_outcome = write_and_die  # type: ignore[method-assign]
        return
    os.kill(os.getpid(), signal.SIGKILL)


def _first_time(folder: Path) -> bool:
    mark = folder / "died"
    if mark.exists():
        return False
    mark.touch()
    return True


def _event(folder: Path, report: Callable[[dict[str, Any]], bool], kind: str, step: int, **details: Any) -> bool:
    row = {"kind": kind, "time": time.time(), "step": step, **details}
    files.append_jsonl(folder / "events.jsonl", row)
    return report(row)


def _log(folder: Path, line: str) -> None:
    with open(folder.parent / "log.txt", "a", encoding="utf-8") as file:
        file.write(line + "\n")
