"""A logged model is loaded back through MLflow and draws what the sweep would have drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from lorasweep import config
from lorasweep.core import files, registry
from lorasweep.core.errors import InputError
from lorasweep.core.records import Recipe, to_dict
from lorasweep.plan.sample_requests import ImageRequest
from lorasweep.results.mlflow_model import DrawingModel
from lorasweep.results.tracking.mirror import save
from lorasweep.results.tracking.reading import read_trial
from lorasweep.trial import sample
from lorasweep.trial.resources import TrialResources

PROMPT = "zkw, 1girl, red hat"
QUICK = ["sample.steps=2", "sample.seeds=[3]", "sample.width=32", "sample.height=32"]


# As models were logged before they were saved by `mlflow.pyfunc`: the files beside MLmodel.
OLDER = """flavors:
  lorasweep: {file: adapter.safetensors, weight: 0.7, seed: 3}
  python_function: {loader_module: MODULE, python_version: 3.11.7}
signature:
  params: '[{"name": "weight", "type": "double", "default": 0.7, "shape": null},
    {"name": "seed", "type": "long", "default": 3, "shape": null}]'
model_id: m-1
run_id: r
"""


def _write_model(folder: Path, adapter: Any, recipe: Recipe, logged_by: str) -> Path:
    """Lay out a model as `tracking.model` logs it, or as it did; returns where it is."""
    files.write_text(folder / "recipe.yaml", yaml.safe_dump(to_dict(recipe), sort_keys=False))
    adapter.save(folder / "adapter.safetensors")
    if recipe.adapter.name == "loha":  # their own file has no tensors by the names of PEFT
        tensors = {key: tensor.contiguous() for key, tensor in adapter.state_dict().items()}
        save_file(tensors, folder / "weights.safetensors")
    if logged_by != "mlflow.pyfunc":
        files.write_text(folder / "MLmodel", OLDER.replace("MODULE", logged_by))
        return folder
    save(read_trial(folder), "sweep/trial", folder / "model", model_id="m-1", run_id="r")
    return folder / "model"


@pytest.mark.parametrize(
    ("kind", "logged_by"),
    [("loha", "mlflow.pyfunc"), ("lora", "lorasweep.mlflow_model"), ("locon", "lorasweep.results.mlflow_model")],
)
def test_what_mlflow_loads_draws_like_the_adapter(kind: str, logged_by: str, tmp_path: Path) -> None:
    recipe = config.compose_recipe([f"adapter={kind}", *QUICK])
    base = TrialResources().base(recipe)
    adapter = registry.load("adapter", kind).build(base, seed=0, **recipe.adapter.options)
    generator = torch.Generator().manual_seed(1)
    adapter.load_state_dict(
        {
            key: tensor + 0.05 * torch.randn(tensor.shape, generator=generator)
            for key, tensor in adapter.state_dict().items()
        }
    )
    model = _write_model(tmp_path, adapter, recipe, logged_by)

    def expected(weight: float) -> Image.Image:
        request = ImageRequest(
            tier="class", prompt=PROMPT, negative_prompt=recipe.base.negative_prompt, seed=3, weight=weight,
            width_px=32, height_px=32,
        )  # fmt: skip
        return sample.draw(base, adapter, [request], recipe.sample)[0]

    wanted, bare = np.asarray(expected(0.7)), np.asarray(expected(0.0))
    assert (wanted != bare).any(), "the adapter does something"
    (drawn,) = mlflow.pyfunc.load_model(str(model)).predict([PROMPT])
    np.testing.assert_array_equal(np.asarray(drawn), wanted)
    (drawn,) = mlflow.pyfunc.load_model(str(model)).predict([PROMPT], params={"weight": 0.0})
    np.testing.assert_array_equal(np.asarray(drawn), bare)
    (drawn,) = DrawingModel(tmp_path).predict(PROMPT, {"seed": 4})
    assert (np.asarray(drawn) != wanted).any(), "another noise"


def test_a_recipe_that_is_none_is_refused(tmp_path: Path) -> None:
    files.write_text(tmp_path / "recipe.yaml", "adapter: {name: lora, _target_: os.system}")
    with pytest.raises(InputError, match=r"recipe\.yaml"):
        DrawingModel(tmp_path)
