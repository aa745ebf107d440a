"""The one owner of run folders and sweep folders: what their files are called, and how each is read.

    outputs/<sweep>/<trial>/   RunFolder     one recipe that was, or is being, trained and judged
    outputs/<sweep>/           SweepFolder   its trials and what they say together; `outputs/train` too

A folder may be half written, damaged, or a stranger's. Whatever is not there, or is not what it should be,
reads as empty. What is read is plain data: a recipe is checked by `config.read_recorded` before it is used.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import re
import typing
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lorasweep.core import files
from lorasweep.core.records import Outcome, Recipe, Status, from_dict, to_dict
from lorasweep.core.safetensors_header import read_header

# Of a run, in the order in which they come to be.
RECIPE_FILE = "recipe.yaml"  # in full, as it was resolved
PLAN_FILE = "plan.json"
STATUS_FILE = "status.json"  # a `TrialRecord`, written only by the driver
EVENTS_FILE = "events.jsonl"  # a line per `kind`: start, step, rung, samples, system, end
PROVENANCE_FILE = "provenance.json"  # versions, code and machine
RESULT_FILE = "metrics.json"  # see `trial.finish`
ADAPTER_FILE = "adapter.safetensors"  # of the checkpoint that is kept; and in each checkpoint its own
OUTCOME_FILE = "outcome.json"  # written only by the worker, so that an end is not lost with the driver
ERROR_FILE = "error.txt"  # the last traceback
PARENT_FILE = "parent.json"  # of a single run: what it is a variation of
MLFLOW_FILE = "mlflow.json"  # what MLflow has of it, or of the sweep
LOCK_FILE, OWNER_FILE = "lock", "lock.owner"  # of who drives it, or the sweep
# What is the driver's, and nothing of the recipe's result.
DRIVERS_FILES = (STATUS_FILE, RECIPE_FILE, PLAN_FILE, PARENT_FILE, MLFLOW_FILE, LOCK_FILE, OWNER_FILE)
CHECKPOINTS, SAMPLES = "checkpoints", "samples"  # folders: step_000100/ each
STATE_FILE, TENSORS_FILE = "state.json", "state.safetensors"  # of the newest checkpoint: what training goes on from
EXPORTS = "export"  # a folder: files for other programs
INDEX_FILE = "index.json"  # of a folder of pictures

# Of a sweep.
MANIFEST_FILE = "sweep.yaml"  # what it was declared to hold
ASKED_FILE = "asked.jsonl"  # the trials that it came to hold since
STUDY_FILE = "study.db"  # Optuna's
SET_ASIDE_FILE = "study.broken.db"  # one that could not be read
LOG_FOLDER = "workers"  # what each worker printed
BASE_SAMPLES = "base_samples"  # the base model's own pictures
CACHED_AS_FILE = "cached_as.json"  # in it: the folder of `cache/base_samples/` that they were taken from
PROBES_FILE = "probes.json"  # in it: what every rung is asked
LEADERBOARD_FILE = "leaderboard.json"
PRUNING_FILE = "pruning.json"  # what pruning saved and cost
TIMING_FILE = "timing.json"  # how long it was said to take, and took
SHEET_FILE = "contact_sheet.png"
MIRROR_LOG_FILE, MIRROR_LOCK_FILE, MIRROR_ID_FILE = "mirror.log", ".mirror.lock", ".mirror_id"  # of what follows it
JUDGED_FILE = "judged.json"  # of a harmless control
REPORT_FILE, REPORT_TEXT_FILE = "report.html", "report.md"

# Of either.
RATINGS = "ratings"  # a folder: what people said of its pictures, NAME.jsonl each, a line an answer

_NUMBERS = {"weight", "step", "exposures_per_image"}  # of a result, beside its parts
_RUNG = {"kind": "rung", "time": 0}  # makes an event of a row of its rungs


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """The content of status.json."""

    number: int  # stable over the life of the sweep, from 0
    arm: str
    seed: int
    status: Status
    fingerprint: str = ""  # of recipe, seed, images, captions and base: equal means that the results are equal
    step: int = 0  # last finished optimizer step that the driver knows of
    steps: int = 0  # planned optimizer steps
    attempt: int = 1  # how many times it was handed to a worker, from 1
    crashes: int = 0  # attempts lost to a dead worker or an unexpected error, since the last rung
    reason: str = ""
    value: float | None = None  # the sweep's metric
    measured: dict[str, float] = field(default_factory=dict)  # the second objective, constrained metrics
    broken: str = ""  # the bounds that it does not keep: it has a value, and is not ranked
    exempt: bool = False  # by lot: it runs its course whatever a pruner says
    spared: str = ""  # why a pruner would have stopped it, had it not been exempt
    reused_from: str = ""  # a run folder here, or `<sweep>/<run folder>`: it was cooked there, not here
    node: str = ""  # the machine of its latest attempt, as its launcher calls it; "" for the driver's own
    device: str = ""  # what it has there: the GPU's model, or "CPU"
    started_at: float | None = None  # unix s, first attempt
    ended_at: float | None = None  # unix s


@dataclass(frozen=True)
class RunFolder:
    """One run's files."""

    path: Path

    @property
    def name(self) -> str:
        """SWEEP/TRIAL, as every command takes it."""
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def exists(self) -> bool:
        """Whether one recipe was, or is being, trained here."""
        return any(os.path.isfile(self.path / name) for name in (STATUS_FILE, PLAN_FILE))

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe as data, unchecked."""
        try:
            data = load_yaml((self.path / RECIPE_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            return {}
        return _in_shape(Recipe, data) if isinstance(data, dict) else {}

    @property
    def plan(self) -> dict[str, Any]:
        """The plan as data."""
        return files.read_object(self.path / PLAN_FILE)

    @property
    def result(self) -> dict[str, Any]:
        """What metrics.json holds; `metrics`, `missing` and `verdict` are there, and empty before the end.

        What should be a number, or a rung, and is none is left out.
        """
        data = files.read_object(self.path / RESULT_FILE)
        for name in _NUMBERS & data.keys():
            if not _is_number(data[name]):
                del data[name]
        if "rungs" in data:
            rows = data["rungs"] if isinstance(data["rungs"], list) else []
            data["rungs"] = [each for each in rows if isinstance(each, dict) and _is_event(_RUNG | each)]
        parts = ((name, data.get(name)) for name in ("metrics", "missing", "verdict"))
        data |= {name: part if isinstance(part, dict) else {} for name, part in parts}
        data["metrics"] = {name: value for name, value in data["metrics"].items() if _is_number(value)}
        return data

    @property
    def lost(self) -> str:
        """The file that a completed run has lost, or that was cut short, as far as that is seen; empty when none."""
        result = files.find_object(self.path / RESULT_FILE)
        if result is None:
            return RESULT_FILE
        step = result.get("step")
        copied = self.weights(step if isinstance(step, int) else 0)
        sizes = [file.stat().st_size if file.is_file() else 0 for file in (self.adapter, copied)]
        return ADAPTER_FILE if sizes[0] < sizes[1] and _torn(self.adapter) else ""

    @property
    def judged_by(self) -> str | None:
        """The digest of the limits that its result was judged by; None where none are told."""
        limits = self.result.get("calibration")
        return limits.get("digest") if isinstance(limits, dict) else None

    @property
    def provenance(self) -> dict[str, Any]:
        """Versions, code and machine."""
        return files.read_object(self.path / PROVENANCE_FILE)

    @property
    def parent(self) -> dict[str, Any]:
        """`parent` and `overrides` of a variation."""
        return files.read_object(self.path / PARENT_FILE)

    @property
    def mlflow_run_id(self) -> str | None:
        """Its run in MLflow; None when it has none."""
        return files.read_object(self.path / MLFLOW_FILE).get("run_id")

    @property
    def status(self) -> dict[str, Any]:
        """What status.json holds, as data."""
        return files.read_object(self.path / STATUS_FILE)

    @property
    def record(self) -> TrialRecord | None:
        """What status.json says; None when it says nothing, as if the run was never begun."""
        known = {field.name for field in dataclasses.fields(TrialRecord)}
        try:
            return from_dict(TrialRecord, {key: value for key, value in self.status.items() if key in known})
        except ValueError:
            return None

    def write_record(self, record: TrialRecord, *, durable: bool = True) -> None:
        """Write status.json, flushed to disk before returning; `durable` as in `files.write_atomic`."""
        files.write_json(self.path / STATUS_FILE, to_dict(record), durable=durable)

    def outcome(self, *, attempt: int) -> Outcome | None:
        """Tell what the worker left for this attempt; None when the attempt did not end, or nothing readable."""
        data = files.read_object(self.path / OUTCOME_FILE)
        try:
            return from_dict(Outcome, data.get("outcome")) if data.get("attempt") == attempt else None
        except ValueError:
            return None

    def write_outcome(self, outcome: Outcome, *, attempt: int) -> None:
        """Leave the outcome of an attempt for a driver that may be gone."""
        files.write_json(self.path / OUTCOME_FILE, {"attempt": attempt, "outcome": to_dict(outcome)})

    def events(self) -> Iterator[dict[str, Any]]:
        """Return everything that was logged."""
        return files.read_jsonl(self.path / EVENTS_FILE, fits=_is_event)

    def last_events(self, tail_bytes: int) -> Iterator[dict[str, Any]]:
        """Return the whole lines among the last bytes of the log."""
        path = self.path / EVENTS_FILE
        try:
            with open(path, "rb") as file:
                start = max(0, file.seek(0, os.SEEK_END) - tail_bytes)
                file.seek(start)
                lines = file.read().splitlines()
        except OSError:
            return
        yield from files.rows_of(lines[1:] if start else lines, path, fits=_is_event)

    def rungs(self) -> list[dict[str, Any]]:
        """Tell what was measured at the rungs so far: `step`, `exposures_per_image`, `metrics`, ..."""
        return [event for event in self.events() if event.get("kind") == "rung"]

    @property
    def adapter(self) -> Path:
        """The file of the checkpoint that is kept."""
        return self.path / ADAPTER_FILE

    @property
    def checkpoints(self) -> Path:
        """The folder with a checkpoint per rung."""
        return self.path / CHECKPOINTS

    def weights(self, step: int) -> Path:
        """Return the adapter of a rung's checkpoint."""
        return self.checkpoints / step_name(step) / ADAPTER_FILE

    def damage(self, rungs: Collection[int], *, trained: bool) -> str:
        """Say why nobody can go on from its checkpoints: one was cut short, or what was judged on the way is lost.

        Weights that somebody removed are none that were cut. `rungs` are the planned steps; without `trained` they are
        files, of which there is no state.
        """
        steps = steps_in(self.checkpoints)
        if trained:
            steps = [step for step in steps if os.path.exists(self.weights(step).with_name(STATE_FILE))]
        reached = [rung for rung in rungs if steps and rung <= steps[-1]]
        if lost := set(reached) - {row["step"] for row in self.rungs()} - set(steps[-1:]):
            return f"{EVENTS_FILE} lacks what was judged at step {min(lost)}"
        newest = self.weights(steps[-1]) if trained and steps else None
        if newest and "fingerprint" not in files.read_object(newest.with_name(STATE_FILE)):
            return f"{STATE_FILE} cannot be read"
        there = [file for file in map(self.weights, reached) if file.exists()]
        for file in [*there, *([newest.with_name(TENSORS_FILE)] if newest else ())]:
            if why := _torn(file):
                return f"{file.relative_to(self.path).as_posix()}, {why}"
        return ""

    def samples(self, step: int | None = None) -> Path:
        """Return the folder of a rung's pictures; None: of those of the checkpoint that is kept, by their index."""
        folder = self.path / SAMPLES
        return folder if step is None else folder / step_name(step)


@dataclass(frozen=True)
class SweepFolder:
    """A sweep's files, or those of the single runs."""

    path: Path

    @property
    def is_declared(self) -> bool:
        """Whether it is a sweep's, rather than one of single runs."""
        return os.path.isfile(self.path / MANIFEST_FILE)

    @property
    def exists(self) -> bool:
        """Whether runs are listed here: a sweep's folder, or one of single runs, as `outputs/train` is."""
        return self.is_declared or (not RunFolder(self.path).exists and bool(self.runs))

    @property
    def runs(self) -> list[RunFolder]:
        """The run folders in it, by name."""
        return [run for path in folders_in(self.path) if (run := RunFolder(path)).exists]

    def run(self, number: int, arm: str, seed: int) -> RunFolder:
        """Return the run folder of a trial, e.g. `0003-adamw_cosine-s1`; what file systems dislike becomes `-`."""
        return RunFolder(self.path / f"{number:04d}-{re.sub(r'[^A-Za-z0-9._-]+', '-', arm)}-s{seed}")

    @property
    def pruning(self) -> dict[str, Any]:
        """What was stopped early and what that saved; empty without a pruner."""
        return files.read_object(self.path / PRUNING_FILE)

    @property
    def timing(self) -> dict[str, Any]:
        """`estimated_s`, `real_s`, `done`, `error`; empty before the driver's end."""
        return files.read_object(self.path / TIMING_FILE)


_hints = functools.cache(typing.get_type_hints)


def _in_shape(kind: type, data: dict[str, Any]) -> dict[str, Any]:
    """Return a record's data with nothing where something else stands than the keys and values that belong there."""
    found = dict(data)
    for key, hint in _hints(kind).items():
        is_record = dataclasses.is_dataclass(hint)
        if key in data and (is_record or typing.get_origin(hint) is dict):
            value = data[key] if isinstance(data[key], dict) else {}
            found[key] = _in_shape(hint, value) if isinstance(hint, type) and is_record else value
    return found


def _is_event(row: dict[str, Any]) -> bool:
    """Tell whether a row is what a run logs: a kind at a time and a step, and the numbers that go with the kind."""
    kind, metrics = row.get("kind"), row.get("metrics", None if row.get("kind") in ("step", "rung") else {})
    numbers = [row.get("time"), row.get("step"), row.get("exposures_per_image", None if kind == "rung" else 0)]
    return isinstance(kind, str) and isinstance(metrics, dict) and all(map(_is_number, (*numbers, *metrics.values())))


def _is_number(value: Any) -> bool:
    """Tell whether a value is a finite number, as all are that lorasweep writes."""
    return isinstance(value, int | float) and abs(value) < math.inf


def _torn(file: Path) -> str:
    """Say why weights are not there, or not whole; empty when they are."""
    try:
        read_header(file)
    except ValueError as error:
        return str(error)
    return ""


def ratings_file(folder: Path, rater: str) -> Path:
    """Find where the answers of a person about a sweep's arms, or a run's steps, are kept."""
    return folder / RATINGS / f"{rater}.jsonl"


def raters(folder: Path) -> list[str]:
    """List who has rated a sweep's arms, or a run's steps."""
    return [path.stem for path in files.matching(folder / RATINGS, "*.jsonl")]


def step_name(step: int) -> str:
    """Return the name of a step's folder: `step_000320`."""
    return f"step_{step:06d}"


def steps_in(folder: Path) -> list[int]:
    """Return the steps that have a folder here, ascending."""
    names = [re.fullmatch(r"step_(\d{6,})", path.name) for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name[1]) for name in names if name)


NO_INDEX = (OSError, ValueError, KeyError, TypeError)  # of `pictures_in`: there is none, or it is damaged


def pictures_in(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Read the index of a folder of pictures: each one's file, absolute, and what was asked for it.

    An index that came from somebody else may only name what lies beside or below it; all else is left out.

    Raises:
        Any of `NO_INDEX`: there is no index, or none that can be read.
    """
    inside = folder.resolve()
    found = [((folder / entry["file"]).resolve(), entry) for entry in files.read_json(folder / INDEX_FILE)["images"]]
    return [(file, entry) for file, entry in found if file.is_relative_to(inside)]


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in a folder, by name, but hidden ones; none when it cannot be read."""
    try:
        inside = sorted(folder.iterdir())
    except OSError:
        return []
    return [path for path in inside if not path.name.startswith(".") and os.path.isdir(path)]


def load_yaml(text: str) -> Any:
    """Parse YAML as plain data; by the C loader, which is ten times faster and as safe."""
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
