"""The best adapter of a finished sweep as an MLflow model, so that it is in the Models tab beside its run.

    run folder of the best trial  ->  ModelContent  ->  a logged model: adapter, recipe, metrics

`mlflow.pyfunc` draws with it through `lorasweep.results.mlflow_model`, whatever kind of adapter it is (MLflow's
own flavour for diffusers knows LoRA only, and loads the base to log it). It is saved here and sent by the client,
since `log_model` changes the tracking address of the whole process and opens the run again. Knows nothing about
how runs are mirrored.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lorasweep
from lorasweep.core.run_folder import ADAPTER_FILE, RECIPE_FILE, RESULT_FILE
from lorasweep.results.tracking import notes
from lorasweep.results.tracking.content import Point
from lorasweep.results.tracking.reading import SweepFiles, TrialFiles
from lorasweep.results.tracking.store import Store
from lorasweep.results.tracking.trial_content import FINAL, points

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

KEY_TAG = "lorasweep.key"
DOCUMENTS = (ADAPTER_FILE, RECIPE_FILE, RESULT_FILE)
DATA = "lora"  # the folder of these among the model's files
MODEL_TYPE = "lora adapter"
LOADER = "lorasweep.results.mlflow_model"
HEADLINE = (notes.UTILITY, notes.SCORE, "identity/score")


@dataclass(frozen=True, kw_only=True)
class ModelContent:
    """What the model of a sweep is made of."""

    run_folder: Path  # of the trial
    key: str  # says which trial and which weights; a model with this key is not logged twice
    name: str
    flavor: Mapping[str, Any]  # what `lorasweep` in the file MLmodel says of it
    params: Mapping[str, str]
    tags: Mapping[str, str] = field(default_factory=dict)
    points: tuple[Point, ...] = ()  # the run's own numbers that are the model's too


def best_model(sweep: SweepFiles, trials: Sequence[TrialFiles]) -> ModelContent | None:
    """Describe the best trial's adapter; None while none is ranked first or it has no weights."""
    best = next((trial for trial in trials if sweep.rank(trial.status.get("number")) == 1), None)
    if best is None or not (best.folder / ADAPTER_FILE).exists():
        return None
    adapter, base, sampling = (best.recipe.get(group) or {} for group in ("adapter", "base", "sample"))
    name, trigger = f"{sweep.name}/{best.folder.name}", best.plan.get("trigger")
    flavor = {
        "adapter": adapter.get("name"),
        "base": base.get("path") or base.get("name"),
        "file": f"data/{DATA}/{ADAPTER_FILE}",
        "weight": sampling.get("weight"),
        "seed": next(iter(sampling.get("seeds") or ()), None),
        "trigger": trigger,
        "trial": name,
    }
    note = notes.model_note(name, sentence=str(best.verdict.get("sentence", "")), trigger=str(trigger or ""))
    told = (sweep.manifest.get("metric"), *HEADLINE)
    return ModelContent(
        run_folder=best.folder,
        key=f"{sweep.identity}/{best.folder.name}/{best.status.get('fingerprint')}",
        name=f"{sweep.name}-best".replace(".", "-"),
        flavor={key: value for key, value in flavor.items() if value is not None},
        params={key: str(value) for key, value in (adapter.get("options") or {}).items()},
        tags={"lorasweep.sweep": sweep.name, "lorasweep.trial": best.folder.name, "mlflow.note.content": note},
        points=tuple(point for point in points(best).get(FINAL, ()) if point.key in told),
    )


def push_model(store: Store, content: ModelContent, *, run_id: str) -> None:
    """Log the model under the run that it came from, unless it is there.

    One that a kill left half sent is not READY, and one of a run that was made anew names the old run: both are
    made again.
    """
    client = store.client
    held = client.search_logged_models(
        [store.experiment_id], filter_string=f"tags.`{KEY_TAG}` = '{content.key}'", max_results=10
    )
    if any(str(model.status) == "READY" and model.source_run_id == run_id for model in held):
        return
    for stale in held:
        client.delete_logged_model(stale.model_id)
    model = client.create_logged_model(
        store.experiment_id,
        name=content.name,
        source_run_id=run_id,
        tags={**content.tags, KEY_TAG: content.key},
        params=dict(content.params),
        model_type=MODEL_TYPE,
    )
    with tempfile.TemporaryDirectory() as folder:
        save(content, Path(folder) / "model", model_id=model.model_id, run_id=run_id)
        client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
    _join(store, content, model_id=model.model_id, run_id=run_id)
    client.finalize_logged_model(model.model_id, "READY")


def save(content: ModelContent, folder: Path, *, model_id: str, run_id: str) -> None:
    """Write the folder that MLflow loads the model from."""
    import mlflow.pyfunc
    from mlflow.models import Model

    described = Model(model_id=model_id, run_id=run_id, signature=_signature(content.flavor))
    described.add_flavor("lorasweep", **content.flavor)
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / DATA
        data.mkdir()
        for name in DOCUMENTS:
            if (content.run_folder / name).exists():
                shutil.copy(content.run_folder / name, data)
        mlflow.pyfunc.save_model(
            str(folder),
            mlflow_model=described,
            loader_module=LOADER,
            data_path=str(data),
            pip_requirements=[f"lorasweep=={lorasweep.__version__}"],
        )


def _signature(flavor: Mapping[str, Any]) -> ModelSignature | None:
    """What `predict` takes beside prompts; MLflow drops params that no signature names."""
    from mlflow.models import ModelSignature
    from mlflow.types import ParamSchema, ParamSpec

    types = {"weight": "double", "seed": "long"}
    params = [ParamSpec(name, kind, flavor[name]) for name, kind in types.items() if name in flavor]
    return ModelSignature(params=ParamSchema(params)) if params else None


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
