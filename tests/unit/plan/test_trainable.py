"""How much trains, from headers: kohya's module counts on SD 1.5's shape, and what a plan says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import shipped

from lorasweep import api
from lorasweep.components.bases import dollhouse, stable_diffusion
from lorasweep.config import compose_recipe
from lorasweep.core.records import Component, Recipe
from lorasweep.plan.trainable import Trainable, trainable

MakeRecipe = Callable[..., Recipe]


@pytest.mark.parametrize(
    ("family", "adapter", "modules"),
    [("sd1", "lora", 192), ("sd1", "locon", 278), ("sdxl_configs", "lora", 722), ("sdxl_configs", "locon", 788)],
)
def test_a_checkpoint_is_counted_by_the_shapes_of_its_family(
    recipe_of: MakeRecipe, monkeypatch: pytest.MonkeyPatch, family: str, adapter: str, modules: int
) -> None:
    """Reference: the modules that sd-scripts makes for the UNets of SD 1.5 and XL, 72 and 72 + 192 for their text."""
    folder = Path(stable_diffusion.__file__).parent / family
    shapes = json.loads((folder / "weight_shapes.json").read_text())
    monkeypatch.setattr(dollhouse, "weight_shapes", lambda options: shapes)
    found, both = (trainable(recipe_of(f"adapter={adapter}", f"adapter.text_encoder={on}")) for on in (False, True))
    assert found is not None and found.tensors == 2 * modules
    assert both is not None and both.tensors == 2 * (modules + {"sd1": 72, "sdxl_configs": 264}[family])
    if (family, adapter) == ("sdxl_configs", "lora"):
        dim_32 = trainable(recipe_of("adapter=lora", "adapter.dim=32"))
        assert dim_32 is not None and round(dim_32.parameters * 2 / 2**20) == 162  # MiB in fp16


def test_a_plan_says_how_much_trains(recipe_of: MakeRecipe) -> None:
    small, large = (trainable(recipe_of(f"adapter.dim={dim}")) for dim in (4, 8))
    assert small is not None and large is not None
    assert large.parameters == 2 * small.parameters and large.tensors == small.tensors
    both = trainable(recipe_of("adapter.dim=4", "adapter.text_encoder=true"))
    assert both is not None and both.tensors > small.tensors
    told = api.plan(recipe_of("adapter.dim=4")).to_json()["trainable"]
    assert told == {"tensors": small.tensors, "parameters": small.parameters}


def test_the_shipped_base_tells_too(home: Path) -> None:
    found = trainable(compose_recipe([]))
    assert found is not None and found.parameters > 100_000


def test_a_lokr_is_split_as_peft_splits_it(tiny_sd: Path) -> None:
    """Reference: PEFT's LoKr layers, for factors that divide and that do not."""
    from tiny_training import make_recipe

    from lorasweep.components.adapters import lokr

    options = make_recipe(tiny_sd).base
    base = stable_diffusion.load(options, device="cpu", precision="fp32")
    for dim, factor, both in ((2, 8, True), (1, 6, True), (2, -1, False), (64, 4, False)):
        knobs = {
            "dim": dim,
            "alpha": 1.0,
            "factor": factor,
            "decompose_both": both,
            "targets": "full",
            "text_encoder": True,
        }
        adapter = shipped.build(lokr, base, seed=0, **knobs)
        trained = [p.numel() for part in adapter.parameters().values() for p in part]
        adapter.remove()
        counted = trainable(make_recipe(tiny_sd, adapter=Component(name="lokr", options=knobs)))
        assert counted == Trainable(tensors=len(trained), parameters=sum(trained)), knobs
