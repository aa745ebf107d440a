"""What is cooked next, and who waits because an identical recipe is already on the stove.

Trials may be added while others cook. `Trial` is the driver's working copy of one trial; everything durable
about it is in its run folder. Knows nothing about processes or Optuna.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorasweep.core.records import Plan, Recipe, to_dict
from lorasweep.core.run_folder import RunFolder, TrialRecord
from lorasweep.plan.packing import share_key


class Pace:
    """Mean seconds per step since the first observation, the judging between steps included."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int] | None = None

    def saw(self, time_s: float, step: int) -> None:
        """Note that it had finished `step` steps at `time_s` (any clock, as long as it is one clock)."""
        self._first = self._first or (time_s, step)
        self._last = (time_s, step)

    def seconds_for(self, steps: int) -> float | None:
        """Estimate the time that `steps` more steps take, in s; None before a step was seen, or if no clock tells."""
        if self._first is None or self._last is None:
            return None
        (first_s, first), (last_s, last) = self._first, self._last
        if last <= first or last_s < first_s:  # the clock was set back meanwhile
            return None
        return (last_s - first_s) / (last - first) * max(0, steps)


@dataclass(kw_only=True)
class Live:
    """What the events of `run.cooking` say of a trial so far."""

    step: int = 0  # last finished step that was heard of; ahead of the record between rungs
    judging: bool = False
    loss: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)  # of the latest rung, or final
    pace: Pace = field(default_factory=Pace)

    def note(self, event: Mapping[str, Any]) -> None:
        """Take in an event."""
        kind, step = event.get("kind"), event.get("step", 0)
        # The checkpoint that is kept is looked at after the last rung, and is usually an earlier one.
        self.step = step if kind == "start" else max(self.step, step)
        match kind:
            case "start":
                self.pace = Pace()
            case "step":
                self.loss = event["metrics"].get("train/loss", self.loss)
            case "rung":
                self.metrics = dict(event["metrics"])
        self.pace.saw(event["time"], self.step)
        self.judging = kind == "samples"


@dataclass(kw_only=True)
class Trial(Live):
    """One declared trial while the driver runs; mutable, owned by the driver."""

    record: TrialRecord  # what status.json says, or will say when it has a run folder
    recipe: Recipe | None  # None, as the plan: it is INVALID, for its point of the space makes no recipe
    plan: Plan | None
    folder: Path
    overrides: tuple[str, ...]  # of its arm
    verdict: dict[str, Any] = field(default_factory=dict)  # once it has ended
    stopped: str = ""  # why it was told to stop at its last rung
    lost: int = 0  # attempts whose machine went away
    rungs: dict[float, dict[str, float]] = field(default_factory=dict)  # exposures per image -> metrics

    @property
    def number(self) -> int:
        """The number by which people know it."""
        return self.record.number

    def take_results(self) -> None:
        """Take in what its run folder holds."""
        run = RunFolder(self.folder)
        result = run.result
        self.metrics, self.verdict = result["metrics"], result["verdict"]
        self.rungs = {row["exposures_per_image"]: row["metrics"] for row in run.rungs()}

    def note(self, event: Mapping[str, Any]) -> None:
        """Take in an event."""
        super().note(event)
        if event["kind"] == "start" and self.plan is not None:  # what is later will happen again
            reached = self.plan.exposures_per_image * self.step / self.plan.steps
            self.rungs = {at: metrics for at, metrics in self.rungs.items() if at <= reached}
        if event["kind"] == "rung":
            self.rungs[event["exposures_per_image"]] = self.metrics
        # At a rung training pauses until the rung is judged.
        rungs = () if self.plan is None else self.plan.rungs
        self.judging = event["kind"] in ("step", "samples") and self.step in rungs


def job_of(trial: Trial, kind: str, folder: Path) -> dict[str, Any]:
    """Tell what a worker is told to do for a trial: `cook` it, or draw its base's samples, into a folder.

    It may work at the same time on those whose `shares` are equal, and not None.
    """
    assert trial.recipe is not None, "only what can be cooked is handed out"
    return {
        "kind": kind,
        "recipe": to_dict(trial.recipe),
        "plan": to_dict(trial.plan),
        "folder": str(folder),
        "attempt": trial.record.attempt,
        "shares": share_key(trial.recipe),
    }


class TrialQueue:
    """Trials to cook, in order; of several with one fingerprint only the first is handed out."""

    def __init__(self, trials: Iterable[Trial]) -> None:
        self._original: dict[str, Trial] = {}  # by fingerprint
        self._duplicates: list[Trial] = []  # unfinished, each with an original
        self._waiting: deque[Trial] = deque()
        # A finished trial is the original of its duplicates, whatever its number; what was begun goes first: its
        # checkpoints are the work that is nearest to a result.
        for trial in sorted(trials, key=_urgency):
            self.add(trial)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, trial: Trial) -> None:
        """Queue a trial, after those that wait; one whose recipe is there already waits for its end."""
        original = self._original.setdefault(trial.record.fingerprint, trial)
        if trial.record.status.is_final:
            return
        if original is trial:
            self._waiting.append(trial)
        else:
            self._duplicates.append(trial)

    def take(self) -> Trial | None:
        """Remove and return the next trial; None when there is nothing to hand out now."""
        return self._waiting.popleft() if self._waiting else None

    def put_back(self, trial: Trial) -> None:
        """Queue a trial again, after those that wait."""
        self._waiting.append(trial)

    def duplicates_ready(self) -> Iterator[tuple[Trial, Trial]]:
        """Remove and yield (duplicate, original) for every duplicate whose original has ended for good."""
        duplicates, self._duplicates = self._duplicates, []
        for duplicate in duplicates:
            original = self._original[duplicate.record.fingerprint]
            if original.record.status.is_final:
                yield duplicate, original
            else:
                self._duplicates.append(duplicate)


def in_exposures(exposures_per_image: float) -> int:
    """Return exposures per image as the whole number in which Optuna counts; at least 1."""
    return max(1, round(exposures_per_image))


def _urgency(trial: Trial) -> tuple[bool, bool, int]:
    return not trial.record.status.is_final, trial.record.attempt == 0, trial.number
