"""The best adapter of a finished sweep as an MLflow model, so that it is in the Models tab beside its run.

    run folder of the best trial  ->  a logged model: adapter, recipe, metrics

`mlflow.pyfunc` draws with it through `lorasweep.results.mlflow_model`, whatever kind of adapter it is (MLflow's
own flavour for diffusers knows LoRA only, and loads the base to log it). It is saved here and sent by the client,
since `log_model` changes the tracking address of the whole process and opens the run again. Knows nothing about
how runs are mirrored.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lorasweep
from lorasweep.core.run_folder import ADAPTER_FILE, RECIPE_FILE, RESULT_FILE
from lorasweep.results.tracking import notes
from lorasweep.results.tracking.content import FINAL, Point, points
from lorasweep.results.tracking.reading import SweepFiles, TrialFiles
from lorasweep.results.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

KEY_TAG = "lorasweep.key"
DOCUMENTS = (ADAPTER_FILE, RECIPE_FILE, RESULT_FILE)
DATA = "lora"  # the folder of these among the model's files
MODEL_TYPE = "lora adapter"
LOADER = "lorasweep.results.mlflow_model"
HEADLINE = (notes.UTILITY, notes.SCORE, "identity/score")


def push_model(store: Store, sweep: SweepFiles, best: TrialFiles, *, run_id: str) -> None:
    """Log the adapter of a sweep's best trial under that trial's run, unless it is there.

    One that a kill left half sent is not READY, and one of a run that was made anew names the old run: both are
    made again.
    """
    client, key = store.client, model_key(sweep, best)
    held = client.search_logged_models(
        [store.experiment_id], filter_string=f"tags.`{KEY_TAG}` = '{key}'", max_results=10
    )
    if any(str(model.status) == "READY" and model.source_run_id == run_id for model in held):
        return
    for stale in held:
        client.delete_logged_model(stale.model_id)
    name = f"{sweep.name}/{best.folder.name}"
    sentence, trigger = str(best.verdict.get("sentence", "")), str(best.plan.get("trigger") or "")
    model = client.create_logged_model(
        store.experiment_id,
        name=f"{sweep.name}-best".replace(".", "-"),
        source_run_id=run_id,
        tags={
            KEY_TAG: key,
            "lorasweep.sweep": sweep.name,
            "lorasweep.trial": best.folder.name,
            "mlflow.note.content": notes.model_note(name, sentence=sentence, trigger=trigger),
        },
        params={key: str(value) for key, value in ((best.recipe.get("adapter") or {}).get("options") or {}).items()},
        model_type=MODEL_TYPE,
    )
    with tempfile.TemporaryDirectory() as folder:
        save(best, name, Path(folder) / "model", model_id=model.model_id, run_id=run_id)
        client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
    told = (sweep.manifest.get("metric"), *HEADLINE)
    shown = [point for point in points(best).get(FINAL, ()) if point.key in told]
    _join(store, shown, model_id=model.model_id, run_id=run_id)
    client.finalize_logged_model(model.model_id, "READY")


def model_key(sweep: SweepFiles, best: TrialFiles) -> str:
    """Say which trial and which weights; a model with this key is not logged twice."""
    return f"{sweep.identity}/{best.folder.name}/{best.status.get('fingerprint')}"


def save(best: TrialFiles, name: str, folder: Path, *, model_id: str, run_id: str) -> None:
    """Write the folder that MLflow loads the model from.

    Args:
        best: the trial.
        name: SWEEP/TRIAL.
        folder: to be made.
        model_id: MLflow's.
        run_id: of the trial, in MLflow.
    """
    import mlflow.pyfunc
    from mlflow.models import Model

    adapter, base, sampling = (best.recipe.get(group) or {} for group in ("adapter", "base", "sample"))
    told = {
        "adapter": adapter.get("name"),
        "base": base.get("path") or base.get("name"),
        "file": f"data/{DATA}/{ADAPTER_FILE}",
        "weight": sampling.get("weight"),
        "seed": next(iter(sampling.get("seeds") or ()), None),
        "trigger": best.plan.get("trigger"),
        "trial": name,
    }
    flavor = {key: value for key, value in told.items() if value is not None}
    described = Model(model_id=model_id, run_id=run_id, signature=_signature(flavor))
    described.add_flavor("lorasweep", **flavor)
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / DATA
        data.mkdir()
        for document in DOCUMENTS:
            if (best.folder / document).exists():
                shutil.copy(best.folder / document, data)
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


def _join(store: Store, shown: Sequence[Point], *, model_id: str, run_id: str) -> None:
    """Show the model on its run, and the run's numbers on the model; MLflow drops what it has already."""
    from mlflow.entities import LoggedModelOutput, Metric

    store.client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    metrics = [
        Metric(point.key, point.value, point.time_ms, point.step, model_id=model_id, run_id=run_id) for point in shown
    ]
    if metrics:
        store.client.log_batch(run_id, metrics=metrics)
