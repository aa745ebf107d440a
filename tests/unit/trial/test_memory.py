"""What is traded for room changes no number, but for storage in 8 bits, which is another base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import make_plan, make_recipe

from lorasweep.cli import main
from lorasweep.components.bases import dollhouse, sdxl
from lorasweep.config import compose_recipe
from lorasweep.core.records import BaseOptions, Component, Frame, MemoryOptions, NoiseOptions
from lorasweep.plan import memory
from lorasweep.trial import lora_weight
from lorasweep.trial.cache.latents import LatentCache
from lorasweep.trial.cache.store import Store
from lorasweep.trial.cache.texts import TextCache
from lorasweep.trial.train.loop import advance
from lorasweep.trial.train.slot import make_slot

FRAMES = [Frame.whole(32, 32)] * 2


def load(folder: Path, **memory: Any) -> Any:
    options = BaseOptions(name="sdxl", path=str(folder), resolution=32, bucket_step=8)
    return sdxl.load(options, device="cpu", precision="fp32", memory=MemoryOptions(**memory))


def losses(base: Any, folder: Path, tmp_path: Path, *, adapter: str = "lora", steps: int = 4) -> list[float]:
    """Train a fresh adapter; the base at weight 0 must be what it was."""
    options = {"text_encoder": not base.memory.offload_text_encoders}
    recipe = make_recipe(folder, adapter=Component(name=adapter, options=options), noise=NoiseOptions(offset=0.1))
    plan, store = make_plan(recipe, tmp_path / "images"), Store(tmp_path / "cache")
    before = look(base)
    slot = make_slot(base, recipe, plan, latents=LatentCache(base, store), texts=TextCache(base, store))
    rows: list[dict[str, float]] = []
    try:
        advance([slot], base, steps=steps, on_step=lambda slot, metrics: rows.append(metrics))
        with lora_weight.lora_weight(base, slot.adapter, 0.0):
            assert torch.equal(look(base), before)
        with lora_weight.lora_weight(base, slot.adapter, 0.7):
            assert not torch.equal(look(base), before)
    finally:
        slot.close()
    assert torch.equal(look(base), before)
    return [row["train/loss"] for row in rows]


@torch.no_grad()
def look(base: Any) -> torch.Tensor:
    noisy = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    found: torch.Tensor = base.predict(noisy, torch.tensor([10, 900]), base.encode_captions(["zkw", ""]), FRAMES)
    return found


def test_checkpointing_and_offloading_change_no_loss(tiny_sdxl: Path, tmp_path: Path) -> None:
    plain = losses(load(tiny_sdxl), tiny_sdxl, tmp_path)
    assert losses(load(tiny_sdxl, gradient_checkpointing=True), tiny_sdxl, tmp_path) == plain
    frozen = {"offload_text_encoders": True, "gradient_checkpointing": True}
    assert losses(load(tiny_sdxl, **frozen), tiny_sdxl, tmp_path) != plain  # only the denoiser is trained here
    assert load(tiny_sdxl, **frozen).fingerprint == load(tiny_sdxl).fingerprint


@pytest.mark.parametrize("adapter", ["lora", "locon", "loha", "lokr", "ia3", "dylora"])
def test_weights_in_8_bits_are_another_base_that_trains(tiny_sdxl: Path, tmp_path: Path, adapter: str) -> None:
    base, plain = load(tiny_sdxl, storage="fp8", gradient_checkpointing=True), load(tiny_sdxl)
    stored = {p.dtype for name, p in base.unet.named_parameters() if name.endswith("to_q.weight")}
    assert stored == {torch.float8_e4m3fn} and base.fingerprint != plain.fingerprint
    assert 1e-4 < (look(base) - look(plain)).abs().mean() < 0.1 * look(plain).abs().mean()
    found = losses(base, tiny_sdxl, tmp_path, adapter=adapter)
    assert found == losses(load(tiny_sdxl, storage="fp8"), tiny_sdxl, tmp_path, adapter=adapter)


def test_gradients_on_8_bits_are_those_of_the_weights_that_they_stand_for(tiny_sdxl: Path, tmp_path: Path) -> None:
    stored, plain = load(tiny_sdxl, storage="fp8"), load(tiny_sdxl)
    with torch.no_grad():
        for kept, weight in zip(stored.unet.parameters(), plain.unet.parameters(), strict=True):
            weight.copy_(kept.float())
    assert torch.allclose(look(stored), look(plain), atol=1e-5)
    found = losses(stored, tiny_sdxl, tmp_path), losses(plain, tiny_sdxl, tmp_path)
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_tiles_are_for_drawing_only(tiny_sdxl: Path) -> None:
    tiled, plain = load(tiny_sdxl, tile_vae=True), load(tiny_sdxl)
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = [base.encode_images(pixels)[0] for base in (tiled, plain)]
    assert torch.equal(*latents)
    drawn = [base.decode_latents(latents[0]) for base in (tiled, plain)]
    assert not torch.equal(*drawn) and drawn[0].shape == drawn[1].shape
    assert torch.equal(tiled.encode_images(pixels)[0], latents[1])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["memory=8gb", "adapter=dora"], "memory.storage  fp8 cannot be trained on by dora"),
        (["memory=12gb", "adapter.text_encoder=true"], "memory.offload_text_encoders  must be false"),
        (["noise.min_snr_gamma=5", "noise.debiased=true"], "noise.min_snr_gamma  must stand alone"),
        (["noise.low=0.6", "noise.high=0.5"], "noise.low  must be below noise.high"),
    ],
)
def test_what_does_not_go_together_is_refused(
    words: list[str], said: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--json", "dataset.dollhouse.images=8", *words]) == 2
    assert said in " ".join(capsys.readouterr().err.split("\n")).replace("   ", "  ")


def test_the_plan_says_how_much_of_a_card_is_taken(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SDXL's real shapes; kohya's docs give 8 to 10 GB with checkpointing and cached texts, and over 16 without."""
    shapes = json.loads((Path(sdxl.__file__).parent / "sdxl_configs" / "weight_shapes.json").read_text())
    monkeypatch.setattr(dollhouse, "weight_shapes", lambda options: shapes)
    words = ["dataset.dollhouse.images=8", "train.precision=bf16", "train.batch_size=1", "adapter.dim=16"]
    words += ["base.resolution=1024", "base.bucket_step=64"]
    assert main(["plan", "--json", *words]) == 0
    found = json.loads(capsys.readouterr().out)["arms"][0]["estimated_gpu_gib"]
    assert found[""] == found["fast"] and 16 < found["fast"] < 20
    assert 7.5 < found["12gb"] < 10 and 5 < found["8gb"] < 7
    assert main(["plan", *words]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"a GPU needs about {found['fast']} GiB (memory=12gb {found['12gb']}" in said
    recipe = compose_recipe([*words, "memory=auto"])
    assert memory.resolve(recipe, None) == memory.resolve(recipe, 40.0) == MemoryOptions()
    on = [knob for knob, value in vars(memory.resolve(recipe, 16.0)).items() if value is True]
    assert on == ["offload_text_encoders", "tile_vae"]
    assert memory.resolve(recipe, 12.0).gradient_checkpointing and memory.resolve(recipe, 12.0).storage == "plain"
