"""What a report is about: a sweep's run folders, read once into plain records.

    outputs/<sweep>/  ->  Findings

Works on a sweep that is half done, was killed, or has one trial: what is not there yet is absent, not zero.
Knows nothing about HTML, pictures or how anything came about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from lorasweep.core import files
from lorasweep.results.params import flatten
from lorasweep.sweep.manifest import read_manifest
from lorasweep.sweep.ranking.leaderboard import ArmRow, rank_arms, rank_trials, standing
from lorasweep.sweep.ranking.noise import Ranking
from lorasweep.sweep.ranking.state import SweepState, TrialState, read_state
from lorasweep.sweep.ranking.timing import TIMING_FILE
from lorasweep.trial.judge.score import IDENTITY, SCORE, UTILITY

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
        if IDENTITY in self.metrics:
            return self.metrics[IDENTITY]
        over, utility = self.metrics.get(SCORE), self.metrics.get(UTILITY)
        return None if over is None or utility is None or over >= 1.0 else utility / (1.0 - over)


@dataclass(frozen=True, kw_only=True)
class TrialFindings:
    """One trial: where it stands, what was found on the way, and what it was made of.

    Attributes:
        state: number, arm, seed, status, final metrics, verdict.
        rank: among the sweep's trials, from 1; None without a value.
        folder: the run folder; may not exist yet.
        rungs: ascending; the curves.
        kept: the checkpoint that `adapter.safetensors` and the final numbers are about; None before the end.
        ladder: the kept checkpoint's numbers by LoRA weight, ascending.
        missing: symptom or number -> why it could not be measured.
        recipe: flat, `adapter.dim` -> 32; empty before the trial began.
        weight: the LoRA weight that was judged.
        fingerprint: of recipe, images and base.
        provenance: versions, commit, machine.
        wall_s: from the first start to the end; None while it is not over.
        parent: the trial that it was forked from.
    """

    state: TrialState
    rank: int | None
    folder: Path
    rungs: tuple[Rung, ...] = ()
    kept: Rung | None = None
    ladder: tuple[tuple[float, Mapping[str, float]], ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    weight: float | None = None
    fingerprint: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    wall_s: float | None = None
    parent: str | None = None

    @property
    def name(self) -> str:
        """The run folder's name, by which commands know the trial."""
        return self.folder.name

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
        """The rung at a step."""
        return next((rung for rung in self.rungs if rung.step == step), None)

    @property
    def last(self) -> Rung | None:
        """The last rung so far."""
        return self.rungs[-1] if self.rungs else None

    @property
    def judged(self) -> Rung | None:
        """What the trial is judged by: the checkpoint it keeps, or its latest while it has none."""
        return self.kept or self.last


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

    @cached_property
    def noise(self) -> Ranking | None:
        """What seeds say about the order of the arms; None while no trial has a value."""
        return standing(self.state)

    @property
    def calibrations(self) -> tuple[str, ...]:
        """Digests of the limits that trials were judged by; scores under different ones do not compare."""
        found = {str(trial.state.verdict.get("calibration", "")) for trial in self.trials}
        return tuple(sorted(found - {""}))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds that were declared, ascending."""
        return tuple(sorted({trial.state.seed for trial in self.trials}))

    @property
    def ended(self) -> int:
        """Trials that will not be touched again."""
        return self.state.finished

    def of_arm(self, arm: str) -> tuple[TrialFindings, ...]:
        """An arm's trials by seed."""
        found = (trial for trial in self.trials if trial.state.arm == arm)
        return tuple(sorted(found, key=lambda trial: (trial.state.seed, trial.state.number)))

    def shown_trial(self, arm: str) -> TrialFindings | None:
        """The trial by which pictures show an arm: its first that has any rung."""
        trials = self.of_arm(arm)
        return next((trial for trial in trials if trial.rungs), trials[0] if trials else None)


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
        timing=_object(sweep_folder / TIMING_FILE),
    )


def _trial(rank: int | None, state: TrialState) -> TrialFindings:
    folder = Path(state.run_folder)
    status, result = _object(folder / "status.json"), _object(folder / "metrics.json")
    recipe = _recipe(folder / "recipe.yaml")
    rungs = _rungs(folder, result)
    verdict = result.get("verdict") or {}
    started, ended = status.get("started_at"), status.get("ended_at")
    return TrialFindings(
        state=state,
        rank=rank,
        folder=folder,
        rungs=rungs,
        kept=_kept(result, rungs),
        ladder=tuple((float(row["weight"]), row["metrics"]) for row in result.get("ladder") or ()),
        missing={str(k): str(why) for k, why in verdict.get("unmeasured", result.get("missing") or {}).items()},
        recipe=flatten(recipe),
        weight=result.get("weight", (recipe.get("sample") or {}).get("weight")),
        fingerprint=str(status.get("fingerprint") or ""),
        provenance=_object(folder / "provenance.json"),
        wall_s=ended - started if started is not None and ended is not None else None,
        parent=_object(folder / "parent.json").get("parent"),
    )


def _rungs(folder: Path, result: Mapping[str, Any]) -> tuple[Rung, ...]:
    """From metrics.json once a trial has ended, from its log before that."""
    rows: Sequence[Mapping[str, Any]] = result.get("rungs") or [
        row for row in files.read_jsonl(folder / "events.jsonl") if row.get("kind") == "rung"
    ]
    found = {
        row["step"]: Rung(step=row["step"], exposures=row["exposures_per_image"], metrics=row["metrics"])
        for row in rows
    }
    return tuple(found[step] for step in sorted(found))


def _kept(result: Mapping[str, Any], rungs: Sequence[Rung]) -> Rung | None:
    """The final numbers as a rung, at the step they are about."""
    if not result.get("metrics") or not rungs:
        return None
    step = result.get("step", rungs[-1].step)
    exposures = next((rung.exposures for rung in rungs if rung.step == step), rungs[-1].exposures)
    return Rung(step=step, exposures=result.get("exposures_per_image", exposures), metrics=result["metrics"])


def _recipe(path: Path) -> Mapping[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster, and as safe
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), loader)  # noqa: S506 - both are safe
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return data if isinstance(data, dict) else {}


def _object(path: Path) -> dict[str, Any]:
    try:
        data = files.read_json(path)
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _step(verdict: Mapping[str, Any], key: str) -> int | None:
    value = verdict.get(key)
    return value if isinstance(value, int) else None
