"""How much trains, from headers: kohya's module counts on SD 1.5's shape, and what a plan says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import shipped

from lorasweep.cli.plan_view.tables import plan_json
from lorasweep.components.bases import stable_diffusion
from lorasweep.config import compose_recipe
from lorasweep.core.records import Component, Recipe
from lorasweep.plan.trainable import Trainable, trainable

MakeRecipe = Callable[..., Recipe]


def test_modules_of_stable_diffusion_15_are_kohyas(recipe_of: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reference: sd-scripts makes 192 LoRA modules for its UNet, 278 with conv_dim."""
    import torch
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)
    shapes = {
        name.removesuffix(".weight"): tuple(parameter.shape)
        for name, parameter in unet.named_parameters()
        if name.endswith(".weight")
    }
    monkeypatch.setattr(stable_diffusion, "weight_shapes", lambda options, part: shapes)
    for adapter, modules in (("lora", 192), ("locon", 278)):
        found = trainable(recipe_of(f"adapter={adapter}"))
        assert found is not None and found.tensors == 2 * modules


def test_a_plan_says_how_much_trains(recipe_of: MakeRecipe) -> None:
    small, large = (trainable(recipe_of(f"adapter.dim={dim}")) for dim in (4, 8))
    assert small is not None and large is not None
    assert large.parameters == 2 * small.parameters and large.tensors == small.tensors
    both = trainable(recipe_of("adapter.dim=4", "adapter.text_encoder=true"))
    assert both is not None and both.tensors > small.tensors
    told = plan_json(recipe_of("adapter.dim=4"))["trainable"]
    assert told == {"tensors": small.tensors, "parameters": small.parameters}


def test_the_shipped_base_tells_too(home: Path) -> None:
    found = trainable(compose_recipe([]))
    assert found is not None and found.parameters > 100_000


def test_one_checkpoint_file_does_not_tell(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    from lorasweep.components.bases import _files

    (tmp_path / "model.safetensors").write_bytes(b"")
    assert _files.weight_shapes(tmp_path / "model.safetensors", "unet") is None


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
