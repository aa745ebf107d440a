"""A sweep's state as one JSON document: what `status --json` and `sweep --json` print.

Knows nothing about how the state came about.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lorasweep.core.run_folder import SweepFolder
from lorasweep.sweep.ranking.leaderboard import standing, standing_json
from lorasweep.sweep.ranking.state import SweepState, TrialState, params


def status_json(state: SweepState) -> dict[str, Any]:
    """Build the document; `noise` says which arms cannot be told apart."""
    folder = SweepFolder(Path(state.folder))
    return {
        "name": state.name,
        "question": state.question,
        "metric": state.metric,
        "goal": state.goal,
        "folder": state.folder,
        "driver": state.driver,
        "total": state.total,
        "counts": state.counts,
        "noise": standing_json(standing(state)),
        "left_out": dict(state.left_out),
        "pruning": folder.pruning or None,
        "timing": folder.timing or None,
        "trials": [_trial(trial) for trial in state.trials],
    }


def _trial(trial: TrialState) -> dict[str, Any]:
    return {
        "number": trial.number,
        "status": trial.status.value,
        "arm": trial.arm,
        "seed": trial.seed,
        "params": params(trial.overrides),
        "value": trial.value,
        "metrics": dict(trial.metrics),
        "verdict": dict(trial.verdict),
        "step": trial.step,
        "steps": trial.steps,
        "attempt": trial.attempt,
        "reason": trial.reason,
        "reused_from": trial.reused_from or None,
        "run_folder": trial.run_folder,
        "mlflow_run_id": trial.mlflow_run_id,
    }
