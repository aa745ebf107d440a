"""SD 1.x, 2.x and XL train as diffusers' scripts do: the same images and draws, step after step.

Of an epoch's last step, which may have fewer batches, the loss is their mean, where accelerate divides by as many as a
full step has.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_sd import make_tiny_sd
from tiny_training import make_plan, make_recipe
from training_script import ADAMW, ALPHA, MAX_NORM, OFFSET, RANK, STEPS, Script

from lorasweep.core import registry
from lorasweep.core.records import Component, NoiseOptions, PlannedImage, TrainOptions
from lorasweep.trial.cache import LatentCache, Store, TextCache
from lorasweep.trial.train.loop import advance
from lorasweep.trial.train.slot import make_slot

LR, TEXT_LRS = 1e-2, (3e-3, 2e-3)
WIDTH, HEIGHT = 50, 70  # of the files, before they are resized and cut


@pytest.mark.parametrize(
    ("base_name", "kind", "gamma", "accumulation", "text_encoder"),
    [
        ("stable_diffusion", "epsilon", None, 1, True),
        ("stable_diffusion", "epsilon", 5.0, 3, False),
        ("stable_diffusion", "v_prediction", None, 3, False),
        ("stable_diffusion", "v_prediction", 5.0, 1, False),
        ("sdxl", "epsilon", 5.0, 1, True),
        ("sdxl", "v and zero terminal SNR", 5.0, 3, False),
    ],
)
def test_losses_gradients_and_weights_are_those_of_the_script(
    base_name: str,
    kind: str,
    gamma: float | None,
    accumulation: int,
    text_encoder: bool,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    if base_name == "sdxl":
        folder = request.getfixturevalue("tiny_sdxl" if kind == "epsilon" else "tiny_sdxl_v")
    else:
        folder = make_tiny_sd(tmp_path / "base", prediction_type=kind)
    text_lrs = TEXT_LRS[: 2 if base_name == "sdxl" else 1]
    recipe = make_recipe(
        folder,
        adapter=Component(
            name="lora", options={"dim": RANK, "alpha": ALPHA, "targets": "attn", "text_encoder": text_encoder}
        ),
        optimizer=Component(name="adamw", options={"lr": LR, "text_encoder_lr": text_lrs, **ADAMW}),
        scheduler=Component(name="cosine_with_restarts", options={"num_cycles": 2, "warmup": 2}),
        noise=NoiseOptions(min_snr_gamma=gamma, offset=OFFSET),
        train=TrainOptions(
            max_steps=STEPS, batch_size=2, device="cpu", gradient_accumulation=accumulation, max_grad_norm=MAX_NORM
        ),
    )
    recipe = dataclasses.replace(recipe, base=dataclasses.replace(recipe.base, name=base_name))
    plan = make_plan(recipe, tmp_path / "images", images=8)
    plan = dataclasses.replace(plan, steps=STEPS, images=tuple(map(cut_from_a_larger_one, plan.images)))
    base: Any = registry.load("base", base_name).load(recipe.base, device="cpu", precision="fp32")
    store = Store(tmp_path / "cache")
    slot = make_slot(base, recipe, plan, latents=LatentCache(base, store), texts=TextCache(base, store))
    rates = {"unet": LR}
    if text_encoder:
        rates |= dict(zip(("text_encoder", "text_encoder_2"), text_lrs, strict=False))
    script = Script(folder, slot.adapter.state_dict(), rates, gamma)
    ours: dict[str, torch.Tensor] = {}  # XL asks nothing of its text encoders' last layers, which have no gradient

    def remember(*_: Any) -> None:
        ours.update({name: p.grad.clone() for name, p in slot.adapter.named_parameters() if p.grad is not None})

    slot.optimizer.register_step_pre_hook(remember)
    rows: list[dict[str, float]] = []
    sizes = set()
    for _ in range(STEPS):
        batches = slot.batches()
        sizes.add(tuple(map(len, batches)))
        draws = [torch.Generator().manual_seed(slot.seed_of("noise", n)) for n in range(len(batches))]
        loss, norm, lr, gradients = script.step(batches, draws)
        ours.clear()
        advance([slot], base, steps=1, on_step=lambda slot, metrics: rows.append(metrics))
        assert rows[-1]["train/loss"] == pytest.approx(loss, rel=1e-5)
        assert rows[-1]["train/grad_norm"] == pytest.approx(norm, rel=1e-4)
        assert rows[-1]["train/lr/unet"] == pytest.approx(lr, rel=1e-6)
        assert norm > MAX_NORM, "gradients are clipped"
        assert ours.keys() == gradients.keys()
        for name, mine in ours.items():
            torch.testing.assert_close(mine, gradients[name], rtol=1e-3, atol=1e-6, msg=name)
    assert accumulation == 1 or len({len(each) for each in sizes}) > 1, "the last step of an epoch has fewer batches"
    for part, lr in rates.items():
        own = [tensor for name, tensor in script.trained.items() if name.startswith(f"{part}.") and "lora_B" in name]
        assert max(float(tensor.detach().abs().max()) for tensor in own) > lr
    for name, tensor in slot.adapter.state_dict().items():
        torch.testing.assert_close(tensor, script.trained[name].detach(), rtol=1e-3, atol=LR / 100, msg=name)


def cut_from_a_larger_one(image: PlannedImage) -> PlannedImage:
    """The same with a file of 50 x 70 px, which is resized and then cut neither at the corner nor in the middle."""
    bucket, file = image.bucket, Path(image.file)
    pixels = np.random.default_rng(int(file.stem)).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(pixels).save(file)
    return dataclasses.replace(
        image,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        width_px=WIDTH,
        height_px=HEIGHT,
        resize_px=(bucket.width_px + 8, bucket.height_px + 8),
        crop_px=(3, 5),
    )
