"""One recipe cooked in this process, with a progress line: what `train` and `fork` share."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasweep import config, files, paths
from lorasweep.cli import progress
from lorasweep.records import Outcome, Plan, Recipe, Status, to_dict
from lorasweep.tracking.process import Mirror

HEADLINE = (
    "overcook/utility",
    "overcook/score",
    "identity/score",
    "prompt_control/score",
    "prior_drift/class",
    "generalisation/held_out",
    "burn/score",
)
PARENT_FILE = "parent.json"
_EXIT_CODES = {Status.COMPLETED: 0, Status.PRUNED: 0, Status.CANCELLED: 130}


@dataclass(frozen=True, kw_only=True)
class Cooked:
    """How it ended."""

    status: Mapping[str, Any]  # status.json
    mirror_message: str

    @property
    def exit_code(self) -> int:
        """0 when there is an answer, 130 when interrupted, else 1."""
        return _EXIT_CODES.get(Status(self.status["status"]), 1)


def run_folder(recipe: Recipe, planned: Plan) -> Path:
    """Where a single recipe is cooked: equal recipes on equal images share a folder."""
    return paths.outputs() / "train" / f"{planned.fingerprint[:12]}-s{recipe.seed}"


def cook_one(recipe: Recipe, planned: Plan, folder: Path, *, quiet: bool) -> Cooked:
    """Cook a recipe in `folder`, go on where it stopped, or leave what is already cooked; mirror it."""
    mirror = _start_mirror(recipe)
    status = _read_status(folder)
    if status is None or not Status(status["status"]).is_final:
        status = _cook(recipe, planned, folder, quiet=quiet)
    elif not quiet:
        print(f"already cooked: {folder}")
    message = mirror.finish(recipe.tracking.timeout_s).message if mirror else ""
    return Cooked(status=status, mirror_message=message)


def remember_parent(folder: Path, parent: str, overrides: list[str]) -> None:
    """Record that a run is a variation, and what it changed."""
    files.write_json(folder / PARENT_FILE, {"parent": parent, "overrides": overrides})


def result_json(folder: Path, cooked: Cooked) -> dict[str, Any]:
    """What `--json` prints about a run."""
    result, status = _read_result(folder), cooked.status
    return {
        "run_folder": str(folder),
        "status": status["status"],
        "reason": status["reason"],
        "step": status["step"],
        "metrics": result["metrics"],
        "missing": result["missing"],
        "verdict": result["verdict"],
    }


def print_result(folder: Path, cooked: Cooked) -> None:
    """Print how it came out."""
    result, status = _read_result(folder), cooked.status
    print(f"{status['status']}  {status['reason']}".rstrip())
    if sentence := result["verdict"].get("sentence"):
        print(sentence)
    for name in HEADLINE:
        if name in result["metrics"]:
            print(f"  {name:<24} {result['metrics'][name]:6.3f}{_error(result['metrics'], name)}")
    if doubt := result.get("calibration", {}).get("reason"):
        print(f"note        {doubt}")
    print(f"run folder  {folder}  (every metric in metrics.json)")
    if cooked.mirror_message:
        print(f"MLflow      {cooked.mirror_message}")
    if cooked.exit_code == 0:
        name = f"{folder.parent.name}/{folder.name}"
        print(f"next        lorasweep report {folder.parent.name}; lorasweep export {name}")
    elif Status(status["status"]) is Status.CANCELLED:
        print("next        the same command goes on where it stopped")


def _cook(recipe: Recipe, planned: Plan, folder: Path, *, quiet: bool) -> dict[str, Any]:
    """Cook in this process and keep `status.json` true at every moment."""
    files.write_text(folder / "recipe.yaml", config.to_yaml(recipe))
    files.write_json(folder / "plan.json", to_dict(planned))
    started_at = time.time()
    attempt = (_read_status(folder) or {}).get("attempt", 0) + 1
    row = {
        "status": Status.RUNNING.value,
        "arm": "train",
        "seed": recipe.seed,
        "number": 0,
        "step": 0,
        "steps": planned.steps,
        "attempt": attempt,
        "reason": "",
        "value": None,
        "fingerprint": planned.fingerprint,
        "started_at": started_at,
        "ended_at": None,
    }
    files.write_json(folder / "status.json", row)
    with progress.shown(planned.steps, quiet=quiet) as report, _one_interrupt_is_polite() as interrupted:
        outcome = _outcome(recipe, planned, folder, report, interrupted)
    row |= {
        "status": outcome.status.value,
        "step": outcome.step,
        "reason": outcome.reason,
        "value": outcome.metrics.get("overcook/utility"),
        "ended_at": time.time(),
    }
    files.write_json(folder / "status.json", row)
    return row


def _outcome(recipe: Recipe, planned: Plan, folder: Path, report: Any, interrupted: list[bool]) -> Outcome:
    import torch

    from lorasweep.kitchen import Kitchen
    from lorasweep.run import cook

    try:
        return cook(recipe, planned, folder, Kitchen(), report=report, should_stop=lambda: bool(interrupted))
    except (MemoryError, torch.OutOfMemoryError) as error:
        return Outcome(status=Status.OUT_OF_MEMORY, step=0, reason=f"{error}; try train.batch_size=1")


@contextmanager
def _one_interrupt_is_polite() -> Iterator[list[bool]]:
    """Within: the first Ctrl-C makes the list true, the second raises KeyboardInterrupt."""
    asked: list[bool] = []

    def on_interrupt(*_: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(True)

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def _error(metrics: Mapping[str, float], name: str) -> str:
    error = metrics.get(f"{name}_se")
    return "" if error is None else f" +- {error:.3f}"


def _start_mirror(recipe: Recipe) -> Mirror | None:
    """Start it before the cooking, which hides the seconds that importing MLflow takes."""
    if recipe.tracking.name != "mlflow":
        return None
    mirror = Mirror(paths.outputs() / "train", recipe.tracking)
    mirror.start()
    return mirror


def _read_status(folder: Path) -> dict[str, Any] | None:
    path = folder / "status.json"
    return files.read_json(path) if path.exists() else None


def _read_result(folder: Path) -> dict[str, Any]:
    path = folder / "metrics.json"
    empty: dict[str, Any] = {"metrics": {}, "missing": {}, "verdict": {}}
    return files.read_json(path) if path.exists() else empty
