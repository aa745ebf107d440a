"""What MLflow should show of a whole sweep: the parent run.

    sweep.yaml + leaderboard.json + the trials  ->  RunContent

The trials' final numbers are repeated on the parent under `by_trial/`, over the trial's number: a chart of
how the search went. They keep a name of their own, so that the parent adds no line to the charts over steps
and no value to the trials' columns. Knows nothing about mlflow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lorasweep.core.records import Status
from lorasweep.core.run_folder import (
    LEADERBOARD_FILE,
    MANIFEST_FILE,
    REPORT_FILE,
    REPORT_TEXT_FILE,
    SHEET_FILE,
)
from lorasweep.results.tracking import notes
from lorasweep.results.tracking.content import (
    Artifact,
    DatasetLabel,
    Picture,
    Point,
    RunContent,
    RunStatus,
    datasets,
    legible,
    metric_key,
    milliseconds,
    rating_points,
)
from lorasweep.results.tracking.reading import SweepFiles, TrialFiles
from lorasweep.trial.judge.score import IDENTITY, SCORE, UTILITY

SHEET_KEY = "contact_sheet"
BY_TRIAL = "by_trial"
TOLD_BY_TRIAL = (
    UTILITY,
    SCORE,
    "overcook/done_at_step",
    "overcook/done_at_exposures",
    "overcook/burned_at_step",
    IDENTITY,
    "prompt_control/score",
    "generalisation/gap",
    "prior_drift/class",
)


def sweep_content(sweep: SweepFiles, trials: Sequence[TrialFiles]) -> RunContent:
    """Say what MLflow should show of a sweep."""
    started = [time for trial in trials if (time := milliseconds(trial.status.get("started_at"))) is not None]
    ended = [time for trial in trials if (time := milliseconds(trial.status.get("ended_at"))) is not None]
    status = _status(sweep, trials)
    rows = _ranked(sweep, trials)
    return RunContent(
        key=sweep.identity,
        name=sweep.name,
        status=status,
        started_ms=min(started, default=None),
        ended_ms=max(ended, default=None) if status in ("FINISHED", "KILLED") else None,
        tags=_tags(sweep, trials, rows),
        params={},
        points={
            f"trial {trial.status.get('number')}": _points(trial, sweep) for trial in trials if trial.state.is_final
        }
        | rating_points(sweep.rated),
        pictures=_sheet(sweep.folder, trials, done=status == "FINISHED"),
        artifacts=tuple(
            Artifact(file=sweep.folder / name)
            for name in (MANIFEST_FILE, LEADERBOARD_FILE, SHEET_FILE, REPORT_FILE, REPORT_TEXT_FILE)
            if (sweep.folder / name).exists()
        ),
        datasets=_shared_datasets(trials),
    )


def _status(sweep: SweepFiles, trials: Sequence[TrialFiles]) -> RunStatus:
    """Return FINISHED when every declared trial is final; KILLED when it was interrupted and nothing is running."""
    states = [trial.state for trial in trials]
    if len(states) >= sweep.declared and all(state.is_final for state in states):
        return "FINISHED"
    if Status.CANCELLED in states and Status.RUNNING not in states:
        return "KILLED"
    return "RUNNING"


def _shared_datasets(trials: Sequence[TrialFiles]) -> tuple[DatasetLabel, ...]:
    """Return the images that all trials share; none when they differ, as each trial then says its own."""
    planned = {tuple(datasets(trial)) for trial in trials if trial.plan}
    return planned.pop() if len(planned) == 1 else ()


def _tags(sweep: SweepFiles, trials: Sequence[TrialFiles], rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    prompts: dict[str, list[str]] = next((trial.plan["prompts"] for trial in trials if trial.plan.get("prompts")), {})
    final = sum(trial.state.is_final for trial in trials)
    found = {
        "lorasweep.sweep": sweep.name,
        "lorasweep.status": f"{final} of {sweep.declared} trials done",
        "lorasweep.question": sweep.manifest.get("question"),
        "lorasweep.decided": _decided(sweep),
        "lorasweep.best": rows[0]["name"] if rows and rows[0]["rank"] == 1 else None,
        "mlflow.source.name": f"lorasweep sweep {sweep.name}" if sweep.manifest else "lorasweep train",
        "mlflow.source.type": "LOCAL",
        "mlflow.note.content": notes.sweep_note(
            sweep.name, sweep.manifest, rows, prompts, devices=(str(trial.status.get("device", "")) for trial in trials)
        ),
    }
    return {key: str(value) for key, value in found.items() if value not in (None, "")}


def _decided(sweep: SweepFiles) -> str | None:
    """Return what repeats say about the first of the ranking; None before there is a ranking."""
    noise = sweep.leaderboard.get("noise")
    if not noise:
        return None
    tied = ", ".join(map(str, noise["tied_with_best"]))
    return f"no: {noise['best']} cannot be told apart from {tied}" if tied else "yes"


def _ranked(sweep: SweepFiles, trials: Sequence[TrialFiles]) -> list[dict[str, Any]]:
    """Return one row per trial for the note: by the leaderboard's rank, those without one last."""
    rows = [
        {
            "rank": sweep.rank(trial.status.get("number")),
            "name": trial.status.get("arm") or trial.folder.name,
            "note": sweep.arm(str(trial.status.get("arm", ""))).get("note", ""),
            "status": trial.state.value,
            "metrics": trial.result.get("metrics") or {},
            "sentence": trial.verdict.get("sentence", ""),
        }
        for trial in trials
    ]
    return sorted(rows, key=lambda row: math.inf if row["rank"] is None else row["rank"])


def _points(trial: TrialFiles, sweep: SweepFiles) -> tuple[Point, ...]:
    time_ms = milliseconds(trial.status.get("ended_at")) or 0
    told = (sweep.manifest.get("metric"), *TOLD_BY_TRIAL)
    return tuple(
        Point(
            key=f"{BY_TRIAL}/{metric_key(key)}",
            value=legible(key, value),
            step=int(trial.status.get("number") or 0),
            time_ms=time_ms,
        )
        for key, value in (trial.result.get("metrics") or {}).items()
        if key in told and math.isfinite(value)
    )


def _sheet(folder: Path, trials: Sequence[TrialFiles], *, done: bool) -> tuple[Picture, ...]:
    """Return the contact sheet as a picture, once it is complete; until then it is an artifact that is replaced."""
    path = folder / SHEET_FILE
    if not (done and path.exists()):
        return ()
    step = len(trials)  # a sweep that grew gets a new picture beside the old one
    return (Picture(file=path, key=SHEET_KEY, step=step, time_ms=int(path.stat().st_mtime * 1000)),)
