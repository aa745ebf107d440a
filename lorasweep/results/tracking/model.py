"""The best adapter of a finished sweep as an MLflow model, so that it is in the Models tab beside its run.

    run folder of the best trial  ->  ModelContent  ->  a logged model: MLmodel, adapter, recipe, metrics

The flavour is our own, `lorasweep`, for every kind of adapter: MLflow's diffusers flavour knows LoRA only and
loads the base to log it. The flavour `python_function` beside it names `lorasweep.results.mlflow_model`, by which
`mlflow.pyfunc.load_model` draws; `lorasweep export` makes a file for other programs. Knows nothing about how
runs are mirrored.
"""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import lorasweep
from lorasweep.core import files
from lorasweep.core.run_folder import ADAPTER_FILE, RECIPE_FILE, RESULT_FILE
from lorasweep.results.tracking import notes
from lorasweep.results.tracking.content import Point
from lorasweep.results.tracking.reading import SweepFiles, TrialFiles
from lorasweep.results.tracking.store import Store
from lorasweep.results.tracking.trial_content import FINAL, points

KEY_TAG = "lorasweep.key"
DOCUMENTS = (ADAPTER_FILE, RECIPE_FILE, RESULT_FILE)
MODEL_TYPE = "lora adapter"
LOADER = "lorasweep.results.mlflow_model"
HEADLINE = (notes.UTILITY, notes.SCORE, "identity/score")


@dataclass(frozen=True, kw_only=True)
class ModelContent:
    """What the model of a sweep is made of."""

    run_folder: Path  # of the trial
    key: str  # says which trial and which weights; a model with this key is not logged twice
    name: str
    flavor: dict[str, Any]
    params: dict[str, str]
    tags: dict[str, str] = field(default_factory=dict)
    points: tuple[Point, ...] = ()  # the run's own numbers that are the model's too
    artifacts: tuple[Path, ...] = ()


def best_model(sweep: SweepFiles, trials: Sequence[TrialFiles]) -> ModelContent | None:
    """Describe the best trial's adapter; None while none is ranked first or it has no weights."""
    best = next((trial for trial in trials if sweep.rank(trial.status.get("number")) == 1), None)
    if best is None or not (best.folder / DOCUMENTS[0]).exists():
        return None
    recipe = best.recipe
    adapter = recipe.get("adapter") or {}
    base, sampling = recipe.get("base") or {}, recipe.get("sample") or {}
    flavor = {
        "adapter": adapter.get("name"),
        "base": base.get("path") or base.get("name"),
        "file": DOCUMENTS[0],
        "weight": sampling.get("weight"),
        "seed": next(iter(sampling.get("seeds") or ()), None),
        "trigger": best.plan.get("trigger"),
        "trial": f"{sweep.name}/{best.folder.name}",
    }
    return ModelContent(
        run_folder=best.folder,
        key=f"{sweep.identity}/{best.folder.name}/{best.status.get('fingerprint')}",
        name=f"{sweep.name}-best".replace(".", "-"),
        flavor={key: value for key, value in flavor.items() if value is not None},
        params={key: str(value) for key, value in (adapter.get("options") or {}).items()},
        tags={
            "lorasweep.sweep": sweep.name,
            "lorasweep.trial": best.folder.name,
            "mlflow.note.content": notes.model_note(
                f"{sweep.name}/{best.folder.name}",
                sentence=str(best.verdict.get("sentence", "")),
                trigger=str(best.plan.get("trigger") or ""),
            ),
        },
        points=tuple(
            point for point in points(best).get(FINAL, ()) if point.key in (sweep.manifest.get("metric"), *HEADLINE)
        ),
        artifacts=tuple(path for name in DOCUMENTS if (path := best.folder / name).exists()),
    )


def push_model(store: Store, content: ModelContent, *, run_id: str) -> bool:
    """Log the model under the run that it came from, unless it is there; returns whether it was logged now.

    A model that a kill left half sent is not READY; the next call makes a whole one.
    """
    client = store.client
    held = client.search_logged_models(
        [store.experiment_id], filter_string=f"tags.`{KEY_TAG}` = '{content.key}'", max_results=10
    )
    if any(str(model.status) == "READY" for model in held):
        return False
    for half in held:
        client.delete_logged_model(half.model_id)
    model = client.create_logged_model(
        store.experiment_id,
        name=content.name,
        source_run_id=run_id,
        tags={**content.tags, KEY_TAG: content.key},
        params=content.params,
        model_type=MODEL_TYPE,
    )
    with tempfile.TemporaryDirectory() as folder:
        for path in (*_describe(content, Path(folder), model.model_id, run_id), *content.artifacts):
            client.log_model_artifact(model.model_id, str(path))
    _join(store, content, model_id=model.model_id, run_id=run_id)
    client.finalize_logged_model(model.model_id, "READY")
    return True


def _describe(content: ModelContent, folder: Path, model_id: str, run_id: str) -> list[Path]:
    """Write what MLflow reads to load a model."""
    loader = {"loader_module": LOADER, "python_version": platform.python_version()}
    described = {
        "flavors": {"lorasweep": content.flavor, "python_function": loader},
        "signature": _signature(content.flavor),
        "model_id": model_id,
        "run_id": run_id,
    }
    files.write_text(folder / "MLmodel", yaml.safe_dump(described, sort_keys=False))
    files.write_text(folder / "requirements.txt", f"lorasweep=={lorasweep.__version__}\n")
    return [folder / "MLmodel", folder / "requirements.txt"]


def _signature(flavor: Mapping[str, Any]) -> dict[str, str]:
    """What `predict` takes beside prompts; MLflow drops params that no signature names."""
    types = {"weight": "double", "seed": "long"}
    params = [
        {"name": name, "type": kind, "default": flavor[name], "shape": None}
        for name, kind in types.items()
        if name in flavor
    ]
    return {"params": json.dumps(params)} if params else {}


def _join(store: Store, content: ModelContent, *, model_id: str, run_id: str) -> None:
    """Show the model on its run, and the run's numbers on the model; MLflow drops what it has already."""
    from mlflow.entities import LoggedModelOutput, Metric

    store.client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    metrics = [
        Metric(point.key, point.value, point.time_ms, point.step, model_id=model_id, run_id=run_id)
        for point in content.points
    ]
    if metrics:
        store.client.log_batch(run_id, metrics=metrics)
