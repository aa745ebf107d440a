"""How the device computes changes results by rounding only, compiles once, and lets the host wait once a step."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pretend_cuda
import pytest
import torch
from tiny_training import make_plan, make_recipe, train
from torch._dynamo.utils import counters

from lorasweep.cli import main
from lorasweep.components import bases
from lorasweep.core import registry
from lorasweep.core.records import (
    BaseOptions,
    Component,
    ComputeOptions,
    Frame,
    Mask,
    NoiseOptions,
    Recipe,
    TrainOptions,
)
from lorasweep.trial import lora_weight
from lorasweep.trial.cache import LatentCache, Store, TextCache
from lorasweep.trial.resources import TrialResources
from lorasweep.trial.train.loop import advance
from lorasweep.trial.train.slot import Slot, make_slot

FRAMES = [Frame.whole(32, 32)] * 2


@pytest.fixture(autouse=True)
def afterwards(tiny_sd: Path) -> Iterator[None]:
    """As torch computes by itself."""
    yield
    TrialResources().base(make_recipe(tiny_sd))
    torch.compiler.reset()


def slot_in(base: Any, recipe: Recipe, folder: Path, *, masked: bool = False) -> Slot:
    plan, store = make_plan(recipe, folder / "images"), Store(folder / "cache")
    if masked:
        masks = [Mask(file=image.file, sha256=image.sha256, channel="gray", share=0.5) for image in plan.images]
        images = zip(plan.images, masks, strict=True)
        plan = dataclasses.replace(plan, images=tuple(dataclasses.replace(image, mask=mask) for image, mask in images))
    return make_slot(base, recipe, plan, latents=LatentCache(base, store), texts=TextCache(base, store))


def losses(base: Any, recipe: Recipe, folder: Path, steps: int = 6) -> list[float]:
    slot = slot_in(base, recipe, folder)
    try:
        return [row["train/loss"] for row in train(slot, base, steps)]
    finally:
        slot.close()


NOISE = {"offset": 0.05, "adaptive_noise_scale": 0.01, "multires_iterations": 6, "input_perturbation": 0.1}
MUCH = {
    "noise": NoiseOptions(**NOISE, loss_type="huber"),
    "regularization": {"ema": {}},
    "adapter": Component(name="lora", options={"dim": 2, "dropout": 0.1, "rank_dropout": 0.5, "module_dropout": 0.5}),
    "optimizer": Component(name="adamw", options={"loraplus_lr_ratio": 4.0}),
}


@pytest.mark.parametrize(("name", "knobs"), [("stable_diffusion", {}), ("sdxl", {}), ("stable_diffusion", MUCH)])
def test_the_host_waits_for_the_device_once_a_step(
    name: str, knobs: dict[str, Any], tiny_sd: Path, tiny_sdxl: Path, tmp_path: Path
) -> None:
    path = tiny_sdxl if name == "sdxl" else tiny_sd
    options = BaseOptions(name=name, path=str(path), resolution=32, bucket_step=8)
    with pretend_cuda.pretend_cuda():
        base = registry.load("base", name).load(options, device="cuda", precision="fp32")
        # To torch's clipping the pretended device is the CPU, to which it moves what on a GPU stays.
        unclipped = TrainOptions(max_steps=8, batch_size=2, max_grad_norm=0.0, device="cpu")
        recipe = dataclasses.replace(make_recipe(path, **knobs), base=options, train=unclipped)
        slot = slot_in(base, recipe, tmp_path, masked=bool(knobs))
        train(slot, base, 3)
        pretend_cuda.waits.clear()
        train(slot, base, 2)
        assert pretend_cuda.waits == ["tolist", "tolist"]  # loss and norm, by which a slot that diverges is stopped


@pytest.mark.parametrize("switch", [{"attention_backend": "math"}, {"channels_last": True}, {"allow_tf32": True}])
def test_a_switch_rounds_otherwise_and_is_told_apart(switch: dict[str, Any], tiny_sd: Path, tmp_path: Path) -> None:
    plain = make_recipe(tiny_sd)
    recipe = dataclasses.replace(plain, compute=ComputeOptions(**switch))
    resources = TrialResources()
    base = resources.base(plain)
    before, told = losses(base, plain, tmp_path), (base.fingerprint, base.text_fingerprint, base.vae_fingerprint)
    base = resources.base(recipe)
    assert base.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last) == ("channels_last" in switch)
    assert torch.backends.cuda.matmul.allow_tf32 == ("allow_tf32" in switch)
    after, now = losses(base, recipe, tmp_path), (base.fingerprint, base.text_fingerprint, base.vae_fingerprint)
    assert after == pytest.approx(before, rel=1e-5)
    assert (after == before) == ("allow_tf32" in switch)  # of which a CPU knows nothing
    assert now[0] not in told and (now[1:] == told[1:]) == ("channels_last" in switch)
    assert recipe.fingerprint() != plain.fingerprint()
    assert resources.base(plain).fingerprint == told[0] == bases.fingerprint(plain)
    assert now[0] == bases.fingerprint(recipe) and losses(resources.base(plain), plain, tmp_path) == before


@pytest.mark.slow
def test_blocks_are_compiled_once_for_all_trials(tiny_sd: Path, tmp_path: Path) -> None:
    """With another alpha and seed; and looked at, at weights in between.

    pytest -m slow tests/unit/trial/test_compute.py
    """
    train_options = TrainOptions(max_steps=8, batch_size=4, device="cpu", precision="bf16")
    recipe = make_recipe(tiny_sd, train=train_options)
    compiled = dataclasses.replace(recipe, compute=ComputeOptions(dynamo_backend="eager"))
    resources, graphs = TrialResources(), []
    noisy, t_B = torch.randn(2, 4, 4, 4), torch.tensor([10, 900])
    for trial in range(3):
        adapter = Component(name="lora", options={**recipe.adapter.options, "dim": 2, "alpha": 1.0 + trial})
        base: Any = resources.base(compiled)
        found = []
        for kind in (recipe, compiled) if trial == 0 else (compiled,):
            one = dataclasses.replace(kind, adapter=adapter, seed=trial)
            base = resources.base(one)
            slot = slot_in(base, one, tmp_path)
            found.append([row["train/loss"] for row in train(slot, base, 1)])
            for weight in (0.7, 0.4):
                with lora_weight.lora_weight(base, slot.adapter, weight):
                    base.predict(noisy, t_B, base.encode_captions(["zkw", ""]), FRAMES)
            slot.close()
        graphs.append(counters["stats"]["unique_graphs"])
        assert found[0] == pytest.approx(found[-1], rel=1e-2)
    assert graphs[0] > 0 and graphs[1:] == [graphs[0]] * 2


def test_in_compiled_blocks_what_an_adapter_drops_is_not_what_the_trial_before_did(
    tiny_sd: Path, tmp_path: Path
) -> None:
    """One block is compiled, to spare time: as others drop, so does that."""
    resources, found = TrialResources(), []
    options = {"dim": 2, "alpha": 1.0}
    for dropout in (0.0, 0.5, 0.0):
        recipe = make_recipe(
            tiny_sd,
            adapter=Component(name="lora", options={**options, "rank_dropout": dropout}),
            scheduler=Component(name="constant"),
            compute=ComputeOptions(dynamo_backend="eager"),
        )
        base: Any = resources.base(recipe)
        compiled = [module for module in base.unet.modules() if module._compiled_call_impl]
        for module in compiled[1:]:
            module._compiled_call_impl = None
        losses_of = [losses(base, recipe, tmp_path, steps=2)]
        kept, compiled[0]._compiled_call_impl = compiled[0]._compiled_call_impl, None
        losses_of.append(losses(base, recipe, tmp_path, steps=2))
        compiled[0]._compiled_call_impl = kept
        found.append(losses_of)
    assert found[0] == found[2] and found[0][0][1] != pytest.approx(found[1][0][1], rel=1e-4)
    for by_graph, by_module in found:
        assert by_graph == pytest.approx(by_module, rel=1e-5)


def test_products_in_half_precision_share_a_forward(tiny_sd: Path, tmp_path: Path) -> None:
    options = TrainOptions(max_steps=8, batch_size=2, device="cpu", precision="bf16")
    recipe = make_recipe(tiny_sd, train=options)
    base: Any = TrialResources().base(recipe)
    alone = losses(base, recipe, tmp_path, steps=1)
    slots = [slot_in(base, dataclasses.replace(recipe, seed=seed), tmp_path) for seed in (0, 1)]
    asked: list[int] = []
    handle = base.unet.register_forward_pre_hook(lambda unet, arguments: asked.append(len(arguments[0])))
    rows: dict[Slot, float] = {}
    advance(slots, base, steps=1, on_step=lambda slot, metrics: rows.update({slot: metrics["train/loss"]}))
    handle.remove()
    assert asked == [4]  # rows
    assert rows[slots[0]] == pytest.approx(alone[0], rel=1e-3)
    for slot in slots:
        slot.close()


def test_the_plan_says_how_it_computes_and_refuses_what_cannot_be(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["dataset.dollhouse.images=8"]
    assert main(["plan", "--json", *words, "compute=gpu"]) == 0
    assert json.loads(capsys.readouterr().out)["arms"][0]["compute"][-1] == "dynamo_backend=inductor"
    assert main(["plan", *words, "compute.channels_last=true"]) == 0
    assert "computed with channels_last" in " ".join(capsys.readouterr().out.split())
    assert main(["plan", *words, "base=dollhouse_flow", "compute.channels_last=true"]) == 2
    assert "compute.channels_last" in capsys.readouterr().err
    assert main(["plan", *words, "compute.dynamo_backend=eager", "memory.storage=int8"]) == 2
    assert "memory.storage must be plain where blocks are compiled" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert main(["plan", *words, "compute.dynamo_backend=inductor", "train.device=cpu"]) == 2
    assert "compiler" in " ".join(capsys.readouterr().err.split())
