"""Frozen snapshots of a sweep, for the live table, the leaderboard and `lorasweep status`.

`read_state` builds one from the run folders alone, driver or no driver. Knows nothing about torch, Optuna or
MLflow.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasweep.core.printable import visible
from lorasweep.core.records import Recipe, Status
from lorasweep.core.run_folder import RunFolder, SweepFolder, TrialRecord
from lorasweep.plan.lora_files import are_files
from lorasweep.plan.symptoms import SYMPTOMS
from lorasweep.sweep.comparable import SCORES
from lorasweep.sweep.manifest import Manifest, command_of, read_manifest
from lorasweep.sweep.queue import Live, Trial
from lorasweep.sweep.retry import DRIVER_GONE
from lorasweep.sweep.workers.lock import holder
from lorasweep.trial.judge import score

if TYPE_CHECKING:
    from lorasweep.config import SweepSpec

TAIL_BYTES = 32_768  # of events.jsonl: some hundred events, enough for the latest loss and the pace


@dataclass(frozen=True, kw_only=True)
class TrialState(TrialRecord):
    """One trial at one moment: its record, and what is known besides."""

    run_folder: str  # absolute path; may not exist yet
    overrides: tuple[str, ...] = ()  # what the arm declares, as KEY=VALUE
    judging: bool = False  # it is running, and being sampled and measured rather than trained
    loss: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict, repr=False)  # of the latest rung, or final
    verdict: Mapping[str, Any] = field(default_factory=dict, repr=False)  # `state` and `sentence`, once it has ended
    eta_s: float | None = None  # until its last step, while it is running
    mlflow_run_id: str | None = None
    extra: bool = False  # a repeat beyond the declared seeds


@dataclass(frozen=True, kw_only=True, repr=False)
class SweepState:
    """A sweep at one moment; shows itself in a line a trial."""

    name: str
    question: str
    metric: str
    goal: str
    folder: str
    trials: tuple[TrialState, ...]
    driver: str | None = None  # who is cooking it now
    activity: str = ""  # what is going on besides trials
    notes: tuple[str, ...] = ()  # what people should know
    eta_s: float | None = None
    unasked: int = 0  # trials of points that the search has yet to choose
    left_out: Mapping[str, str] = field(default_factory=dict)  # symptom -> why trials are compared without it
    has_space: bool = False  # whether it is searched, so that names of arms are numbers
    again: str = ""  # the command that continues it
    further: Mapping[str, str] = field(default_factory=dict)  # objectives besides the metric -> their goal
    seeds_tell: bool = True  # whether another seed gives another result; it does not where files are judged

    def __repr__(self) -> str:
        """Say it in a line, and one for each trial, with control characters made visible."""
        said = [f"{self.name}: {self.finished} of {self.total} trials are over; {self.spoken_counts}"]
        for trial in self.trials:
            at = f"{trial.status.spoken} at {trial.step}/{trial.steps} steps"
            said.append(f"{trial.number}  {trial.arm} (seed {trial.seed})  {at}  {trial.reason}".rstrip())
        return "\n".join(map(visible, said))

    @property
    def total(self) -> int:
        """How many trials there will be."""
        return len(self.trials) + self.unasked

    @property
    def counts(self) -> dict[str, int]:
        """Trials per status; statuses that nobody has are absent."""
        counted = Counter(trial.status.value for trial in self.trials)
        return {status.value: counted[status.value] for status in Status if counted[status.value]}

    @property
    def spoken_counts(self) -> str:
        """The same in words: `3 completed, 1 out of memory`."""
        return ", ".join(f"{count} {Status(status).spoken}" for status, count in self.counts.items())

    @property
    def finished(self) -> int:
        """Trials that will not be touched again."""
        return sum(trial.status.is_final for trial in self.trials)


def from_trial(trial: Trial, *, extra: bool = False) -> TrialState:
    """Snapshot one of the driver's trials; `extra`: it is a repeat beyond the declared seeds."""
    step = trial.step if trial.record.status is Status.RUNNING else trial.record.step
    return _snapshot(
        trial.record,
        trial.folder,
        trial,
        step=step,
        overrides=trial.overrides,
        metrics=dict(trial.metrics),
        verdict=dict(trial.verdict),
        extra=extra,
    )


def _snapshot(record: TrialRecord, folder: Path, live: Live, *, step: int, **known: Any) -> TrialState:
    running = record.status is Status.RUNNING
    return TrialState(
        **vars(record) | {"step": step},
        run_folder=str(folder),
        judging=running and live.judging,
        loss=live.loss,
        eta_s=live.pace.seconds_for(record.steps - step) if running else None,
        **known,
    )


def sweep_state(
    about: Manifest | SweepSpec, folder: Path, trials: Sequence[TrialState], *, left_out: Mapping[str, str], **now: Any
) -> SweepState:
    """Put a sweep's trials together, with values that can be compared; `now`: `driver`, `activity`, `notes`."""
    running = sum(trial.status is Status.RUNNING for trial in trials)
    unasked = max(0, about.total - sum(not trial.extra for trial in trials))
    state = SweepState(
        name=about.name,
        question=about.question,
        metric=about.metric,
        goal=about.goal,
        folder=str(folder),
        trials=tuple(trials),
        eta_s=estimate(trials, workers=running, further=unasked),
        unasked=unasked,
        left_out=left_out,
        has_space=bool(about.space if isinstance(about, Manifest) else about.search),
        again=command_of(about.name, about.typed),
        further=_further(about),
        seeds_tell=are_trained(arm.recipe for arm in about.arms),
        **now,
    )
    return agree(state)


def _further(about: Manifest | SweepSpec) -> dict[str, str]:
    if isinstance(about, Manifest):
        return {each["name"]: each["goal"] for each in about.search.get("further", ())}
    return {objective.name: objective.goal for objective in about.further}


def are_trained(recipes: Iterable[Recipe | Mapping[str, Any]]) -> bool:
    """Say whether any is trained, rather than judged as the files that it has; of points of a space nothing is said."""
    adapters = (each.adapter if isinstance(each, Recipe) else each.get("adapter") for each in recipes)
    told = (each.get("name") if isinstance(each, Mapping) else getattr(each, "name", None) for each in adapters)
    names = {each for each in told if isinstance(each, str)}
    return not names or not all(map(are_files, names))


def agree(state: SweepState) -> SweepState:
    """Give the completed trials values over the symptoms that all of them turned out to measure."""
    if state.metric not in SCORES:
        return state
    judged = {t.number: t for t in state.trials if t.status is Status.COMPLETED and t.value is not None}
    found = {}
    for symptom in SYMPTOMS:
        lacking = [t for t in judged.values() if symptom.name not in score.grades_of(t.metrics)]
        if symptom.name not in state.left_out and 0 < len(lacking) < len(judged):
            found[symptom.name] = f"trial {lacking[0].number} ({lacking[0].arm}) could not measure it"
    reading = [score.IDENTITY in trial.metrics for trial in judged.values()]
    mixed = state.metric == score.UTILITY and any(reading) and not all(reading)
    if not found and not mixed:
        return state
    trials = []
    for trial in state.trials:
        if trial.number in judged:
            value = score.without(trial.metrics, {**state.left_out, **found}).get(state.metric)
            reason = trial.reason
            if mixed and score.IDENTITY not in trial.metrics:
                value, reason = None, f"{score.IDENTITY} could not be read, other trials are ranked by it"
            trial = dataclasses.replace(trial, value=value, reason=reason)  # noqa: PLW2901
        trials.append(trial)
    return dataclasses.replace(state, trials=tuple(trials), left_out={**state.left_out, **found})


def estimate(trials: Sequence[TrialState], *, workers: int, further: int = 0) -> float | None:
    """Estimate the time until the last trial has trained, in s; None until there is a pace to go by.

    `workers` cook at the same time; `further` trials will come, taken to be as long as the others.
    """
    remaining = [t for t in trials if not t.status.is_final]
    known = [t.eta_s / (t.steps - t.step) for t in remaining if t.eta_s is not None and t.step < t.steps]
    if not known or workers < 1:
        return None
    step_s = sum(known) / len(known)
    own_s = [t.eta_s if t.eta_s is not None else step_s * (t.steps - t.step) for t in remaining]
    own_s += [step_s * sum(t.steps for t in trials) / len(trials)] * further
    return max(max(own_s), sum(own_s) / workers)


def read_state(sweep_folder: Path) -> SweepState:
    """Read where a sweep stands from its folder.

    A trial that is RUNNING on disk while nobody drives the sweep is shown as CANCELLED: that is what it is.

    Raises:
        ConfigError: sweep.yaml cannot be read.
    """
    manifest = read_manifest(sweep_folder)
    if manifest is None:
        return _single_runs(sweep_folder)
    driver = holder(sweep_folder)
    overrides = {arm.name: arm.overrides for arm in manifest.arms}
    trials = []
    for declared in manifest.trials:
        run = SweepFolder(sweep_folder).run(declared.number, declared.arm, declared.seed)
        trials.append(
            _read_trial(
                run,
                run.record or _waiting(run, declared.number, declared.arm, declared.seed),
                overrides.get(declared.arm, ()),
                driven=driver is not None,
                extra=declared.extra,
            )
        )
    return sweep_state(manifest, sweep_folder, trials, left_out=manifest.left_out, driver=driver)


def read_record(run: RunFolder) -> TrialRecord | None:
    """Read what a run's status.json says, as `read_state` does of a whole sweep; None when it says nothing."""
    sweep = SweepFolder(run.path.parent)
    held = sweep.path if sweep.is_declared else run.path
    return _of_now(run.record, driven=holder(held) is not None) if run.record else None


def _of_now(record: TrialRecord, *, driven: bool) -> TrialRecord:
    """Return the record of a trial, which is not running without a driver."""
    if driven or record.status is not Status.RUNNING:
        return record
    return dataclasses.replace(record, status=Status.CANCELLED, reason=DRIVER_GONE)


def _waiting(run: RunFolder, number: int, arm: str, seed: int) -> TrialRecord:
    """Return what is said of a run whose status.json says nothing."""
    steps = run.plan.get("steps", 0)
    return TrialRecord(number=number, arm=arm, seed=seed, status=Status.WAITING, steps=steps, attempt=0)


def params(overrides: Iterable[str]) -> dict[str, Any]:
    """Turn `KEY=VALUE` overrides into a dict; numbers, booleans and null are read as such."""
    pairs = (override.lstrip("+").partition("=") for override in overrides)
    return {key: _scalar(text) for key, _, text in pairs}


def _scalar(text: str) -> Any:
    for read in (json.loads, float):
        try:
            value = read(text)
        except ValueError:
            continue
        # What JSON cannot say stays text.
        return text if isinstance(value, float) and not math.isfinite(value) else value
    return text


def _read_trial(
    run: RunFolder, record: TrialRecord, overrides: tuple[str, ...], *, driven: bool, extra: bool = False
) -> TrialState:
    record, live = _of_now(record, driven=driven), Live()
    for event in run.last_events(TAIL_BYTES):
        live.note(event)
    done = record.status.is_final
    result = run.result if done else {}
    return _snapshot(
        record,
        run.path,
        live,
        step=record.step if done else max(record.step, live.step),
        overrides=overrides,
        metrics=result.get("metrics") or live.metrics,
        verdict=result.get("verdict") or {},
        mlflow_run_id=run.mlflow_run_id,
        extra=extra,
    )


def single_runs(folder: Path) -> list[tuple[RunFolder, TrialRecord]]:
    """List the run folders of a folder without sweep.yaml, such as `outputs/train`.

    Returns:
        The oldest first, so that a run keeps its place when others come; last, those that were not begun.
    """
    found = [(run, run.record or _waiting(run, 0, run.path.name, 0)) for run in SweepFolder(folder).runs]
    return sorted(found, key=lambda each: (each[1].started_at or math.inf, each[0].path))


def _single_runs(folder: Path) -> SweepState:
    """Take single runs as the trials of a sweep, each an arm by the name of its folder."""
    trials = []
    drivers = []
    runs = single_runs(folder)
    for number, (run, record) in enumerate(runs):
        drivers.append(holder(run.path))
        named = dataclasses.replace(record, number=number, arm=run.path.name)
        trials.append(_read_trial(run, named, (), driven=drivers[-1] is not None))
    return SweepState(
        name=folder.name,
        question="",
        metric=score.UTILITY,
        goal="maximize",
        folder=str(folder),
        trials=tuple(trials),
        driver="; ".join(filter(None, drivers)) or None,
        notes=_of_several(run.recipe for run, _ in runs),
        seeds_tell=are_trained(run.recipe for run, _ in runs),
    )


def _of_several(recipes: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Say so when single runs are on several bases or folders of images, which nobody declared to be comparable."""
    parts = ([recipe.get(name) for name in ("base", "dataset")] for recipe in recipes if recipe)
    places = {tuple(str(part.get("path")) if isinstance(part, Mapping) else "" for part in each) for each in parts}
    words = "these runs are on several bases or folders of images: their scores do not compare"
    return (words,) if len(places) > 1 else ()
