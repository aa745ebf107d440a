"""What a report is about: a sweep's run folders, read once into plain records.

    outputs/<sweep>/  ->  Findings

Works on a sweep that is half done, was killed, or has one trial: what is not there yet is absent, not zero.
Knows nothing about HTML, pictures or how anything came about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from lorasweep.core.run_folder import RunFolder, SweepFolder
from lorasweep.results.params import flatten
from lorasweep.results.ratings import Rated, read_rated
from lorasweep.sweep.manifest import read_manifest
from lorasweep.sweep.ranking.leaderboard import ArmRow, columns, rank_arms, rank_trials, standing
from lorasweep.sweep.ranking.noise import Ranking
from lorasweep.sweep.ranking.state import SweepState, TrialState, read_state
from lorasweep.trial.judge.score import FIDELITY, IDENTITY, SCORE, UTILITY

__all__ = ["IDENTITY", "SCORE", "UTILITY", "Findings", "Rung", "TrialFindings", "read_findings"]


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One judged checkpoint."""

    step: int
    exposures: float  # per image
    metrics: Mapping[str, float]

    @property
    def learned(self) -> float | None:
        """F in [0, 1], or what stood in for it: U = F (1 - O) holds at every rung."""
        for name in (FIDELITY, IDENTITY):  # the latter in trials from before 2026-11-29
            if name in self.metrics:
                return self.metrics[name]
        over, utility = self.metrics.get(SCORE), self.metrics.get(UTILITY)
        return None if over is None or utility is None or over >= 1.0 else utility / (1.0 - over)


@dataclass(frozen=True, kw_only=True)
class TrialFindings:
    """One trial: where it stands, what was found on the way, and what it was made of."""

    state: TrialState  # number, arm, seed, status, final metrics, verdict
    rank: int | None  # among the sweep's trials, from 1; None without a value
    run: RunFolder  # its folder, which may not exist yet; what few parts of a report show is read when it is asked
    result: Mapping[str, Any]  # what metrics.json holds
    rungs: tuple[Rung, ...]  # ascending; the curves

    @property
    def name(self) -> str:
        """The run folder's name, by which commands know the trial."""
        return self.run.path.name

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """Flat, `adapter.dim` -> 32; empty before the trial began."""
        return flatten(self.run.recipe)

    @property
    def weight(self) -> float | None:
        """The LoRA weight that was judged."""
        return self.result["weight"] if "weight" in self.result else self.recipe.get("sample.weight")

    @property
    def trigger(self) -> str | None:
        """The trigger in its prompts; None: there is none, or it is not known."""
        return self.run.plan.get("trigger") or None

    @property
    def missing(self) -> Mapping[str, Any]:
        """Symptom or number -> why it could not be measured."""
        unmeasured = self.result["verdict"].get("unmeasured")
        return unmeasured if isinstance(unmeasured, dict) else self.result["missing"]

    @property
    def wall_s(self) -> float | None:
        """How long it was worked on; None while it is not over, and where the clock was set back meanwhile.

        From the first start to the end, without what lies between attempts: days, where it was judged anew.
        """
        began, ended = self.state.started_at, self.state.ended_at
        if ended is not None and self.state.attempt > 1 and (events := list(self.run.events())):
            pairs = ((each["time"], later["time"]) for each, later in pairwise(events) if later["kind"] != "start")
            return sum(max(0.0, later_s - each_s) for each_s, later_s in pairs)
        return None if began is None or ended is None or ended < began else ended - began

    @property
    def kept(self) -> Rung | None:
        """The final numbers, at the step of the checkpoint that they are about; None before the end."""
        if not self.result["metrics"] or not self.rungs:
            return None
        step = self.result.get("step", self.rungs[-1].step)
        at = self.rung(step) or self.rungs[-1]
        exposures = self.result.get("exposures_per_image", at.exposures)
        return Rung(step=step, exposures=exposures, metrics=self.result["metrics"])

    @property
    def done_at(self) -> int | None:
        """The step at which it was best without being overcooked."""
        return _step(self.state.verdict, "done_at")

    @property
    def burned_at(self) -> int | None:
        """The first overcooked step after that."""
        return _step(self.state.verdict, "burned_at")

    @property
    def verdict(self) -> str:
        """`done`, `overcooked`, `undercooked` or `unknown`; empty while there is none."""
        return str(self.state.verdict.get("state", ""))

    def rung(self, step: int | None) -> Rung | None:
        """Return the rung at a step."""
        return next((rung for rung in self.rungs if rung.step == step), None)

    @property
    def judged(self) -> Rung | None:
        """What the trial is judged by: the checkpoint it keeps, or its latest while it has none."""
        return self.kept or (self.rungs[-1] if self.rungs else None)


@dataclass(frozen=True, kw_only=True)
class Findings:
    """A whole sweep."""

    state: SweepState
    folder: Path
    arms: tuple[ArmRow, ...]  # best first
    trials: tuple[TrialFindings, ...]  # best first
    notes: Mapping[str, str]  # arm -> what it is there for
    overrides: Mapping[str, tuple[str, ...]]  # arm -> what it declares
    timing: Mapping[str, Any]  # how long it was said to take, and took; empty before the driver's end

    @property
    def clock_s(self) -> float | None:
        """How long it took by the clock, s; None where no driver has told, and of single runs."""
        seconds = self.timing.get("real_s")
        return seconds if isinstance(seconds, int | float) else None

    @cached_property
    def columns(self) -> list[tuple[str, str]]:
        """What stands beside the arms' values: heading, metric."""
        return columns(self.state.metric, self.state.further, (row.metrics for row in self.arms))

    @cached_property
    def noise(self) -> Ranking | None:
        """What seeds say about the order of the arms; None while no trial has a value."""
        return standing(self.state)

    @cached_property
    def rated(self) -> list[Rated]:
        """What people said of the arms, and of the steps of the trials by which arms are shown."""
        folders = [self.folder, *(trial.run.path for trial in self.shown)]
        return [rated for folder in folders for rated in read_rated(folder)]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds that were declared, ascending."""
        return tuple(sorted({trial.state.seed for trial in self.trials}))

    def of_arm(self, arm: str) -> tuple[TrialFindings, ...]:
        """Return an arm's trials by seed."""
        found = (trial for trial in self.trials if trial.state.arm == arm)
        return tuple(sorted(found, key=lambda trial: (trial.state.seed, trial.state.number)))

    def shown_trial(self, arm: str) -> TrialFindings:
        """Return the trial by which pictures show an arm: its first that has any rung."""
        trials = self.of_arm(arm)
        return next((trial for trial in trials if trial.rungs), trials[0])

    @cached_property
    def shown(self) -> list[TrialFindings]:
        """The trial by which each arm is shown, the best arm's first."""
        return [self.shown_trial(row.arm) for row in self.arms]


def read_findings(sweep_folder: Path) -> Findings:
    """Read a sweep's folder, or `outputs/train`, whose single runs count as arms of their own.

    Raises:
        ConfigError: its sweep.yaml cannot be read.
    """
    manifest = read_manifest(sweep_folder)
    state = read_state(sweep_folder)
    declared = {arm.name: arm for arm in manifest.arms} if manifest else {}
    return Findings(
        state=state,
        folder=sweep_folder,
        arms=tuple(rank_arms(state)),
        trials=tuple(_trial(rank, trial) for rank, trial in rank_trials(state)),
        notes={name: arm.note for name, arm in declared.items() if arm.note},
        overrides={name: arm.overrides for name, arm in declared.items()},
        timing=SweepFolder(sweep_folder).timing,
    )


def _trial(rank: int | None, state: TrialState) -> TrialFindings:
    run = RunFolder(Path(state.run_folder))
    result = run.result
    # From metrics.json once it has ended, from its log before that.
    rungs = {
        row["step"]: Rung(step=row["step"], exposures=row["exposures_per_image"], metrics=row["metrics"])
        for row in result.get("rungs") or run.rungs()
    }
    ascending = tuple(rungs[step] for step in sorted(rungs))
    return TrialFindings(state=state, rank=rank, run=run, result=result, rungs=ascending)


def _step(verdict: Mapping[str, Any], key: str) -> int | None:
    value = verdict.get(key)
    return value if isinstance(value, int) else None
