"""What is cooked next, and who waits because an identical recipe is already on the stove.

`Trial` is the driver's working copy of one declared trial; everything durable about it is in its run folder.
Knows nothing about processes, files or Optuna.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorasweep.records import Plan, Recipe
from lorasweep.sweep.folder import TrialRecord
from lorasweep.sweep.pace import Pace


@dataclass(kw_only=True)
class Trial:
    """One declared trial while the driver runs; mutable, owned by the driver."""

    record: TrialRecord  # what status.json says, or will say when it has a run folder
    recipe: Recipe
    plan: Plan
    folder: Path
    overrides: tuple[str, ...]  # of its arm
    step: int = 0  # last finished step that was heard of; ahead of the record between rungs
    judging: bool = False
    loss: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)  # of the latest rung, or final
    verdict: dict[str, Any] = field(default_factory=dict)  # once it has ended
    pace: Pace = field(default_factory=Pace)
    optuna_number: int | None = None  # of its latest attempt

    @property
    def number(self) -> int:
        """The number by which people know it."""
        return self.record.number

    def note(self, event: Mapping[str, Any]) -> None:
        """Take in an event of `run.cook`."""
        self.step = event["step"]
        match event["kind"]:
            case "start":
                self.pace = Pace()
            case "step":
                self.loss = event["metrics"].get("train/loss", self.loss)
            case "rung":
                self.metrics = dict(event["metrics"])
        self.pace.saw(event["time"], self.step)
        # At a rung training pauses until the rung is judged.
        self.judging = event["kind"] in ("step", "samples") and self.step in self.plan.rungs


class TrialQueue:
    """Trials to cook, in order; of several with one fingerprint only the first is handed out."""

    def __init__(self, trials: Iterable[Trial]) -> None:
        self._trials = list(trials)
        originals: dict[str, Trial] = {}
        # A finished trial is the original of its twins, whatever its number.
        for trial in sorted(self._trials, key=lambda trial: not trial.record.status.is_final):
            originals.setdefault(trial.record.fingerprint, trial)
        self._original = {trial.number: originals[trial.record.fingerprint] for trial in self._trials}
        wanted = [t for t in self._trials if not t.record.status.is_final and self._original[t.number] is t]
        # What was begun goes first: its checkpoints are the work that is nearest to a result.
        self._waiting = deque(sorted(wanted, key=lambda trial: (trial.record.attempt == 0, trial.number)))

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> Trial | None:
        """Remove and return the next trial; None when there is nothing to hand out now."""
        return self._waiting.popleft() if self._waiting else None

    def put_back(self, trial: Trial) -> None:
        """Queue a trial again, after those that wait."""
        self._waiting.append(trial)

    def twins_ready(self) -> Iterator[tuple[Trial, Trial]]:
        """Yield (twin, original) for every unfinished twin whose original has ended for good."""
        for trial in self._trials:
            original = self._original[trial.number]
            if original is not trial and original.record.status.is_final and not trial.record.status.is_final:
                yield trial, original
