"""What is traded for room changes no number, but for storage in fewer bits, which is another base."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fresh_bases import fresh
from pretend_cuda import OnCuda, _Pretend, pretend_cuda
from tiny_training import make_plan, make_recipe

from lorasweep import api
from lorasweep.cli import main
from lorasweep.components.adapters import file
from lorasweep.components.bases import _files, _stored, dollhouse, sdxl, z_image
from lorasweep.components.bases._families import FAMILIES, SDXL
from lorasweep.components.bases._footprint import footprint
from lorasweep.config import compose_recipe
from lorasweep.core.protocols import frozen_weight
from lorasweep.core.records import (
    BaseOptions,
    Component,
    Footprint,
    Frame,
    MemoryOptions,
    NoiseOptions,
    Recipe,
    TrainOptions,
)
from lorasweep.plan import memory
from lorasweep.plan.trainable import trainable
from lorasweep.trial import lora_weight
from lorasweep.trial.cache import LatentCache, Store, TextCache
from lorasweep.trial.resources import build_adapter
from lorasweep.trial.train.loop import advance
from lorasweep.trial.train.slot import make_slot

HAS_BITSANDBYTES = importlib.util.find_spec("bitsandbytes") is not None
BITSANDBYTES = pytest.mark.skipif(not HAS_BITSANDBYTES, reason="needs bitsandbytes: pip install 'lorasweep[cuda]'")
NF4 = pytest.param("nf4", marks=BITSANDBYTES)
FRAMES = [Frame.whole(32, 32)] * 2


def load(folder: Path, *, precision: str = "fp32", **memory: Any) -> Any:
    options = BaseOptions(name="sdxl", path=str(folder), resolution=32, bucket_step=8)
    return fresh(options, precision=precision, memory=MemoryOptions(**memory))


def losses(base: Any, folder: Path, tmp_path: Path, *, adapter: str = "lora") -> list[float]:
    """Train a fresh adapter; the base at weight 0 must be what it was."""
    options = {"text_encoder": not base.memory.offload_text_encoders}
    recipe = make_recipe(folder, adapter=Component(name=adapter, options=options), noise=NoiseOptions(offset=0.1))
    plan, store = make_plan(recipe, tmp_path / "images"), Store(tmp_path / "cache")
    before = look(base)
    slot = make_slot(base, recipe, plan, latents=LatentCache(base, store), texts=TextCache(base, store))
    rows: list[dict[str, float]] = []
    try:
        advance([slot], base, steps=3, on_step=lambda slot, metrics: rows.append(metrics))
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


@pytest.mark.parametrize(
    ("adapter", "storage"),
    [
        *((adapter, "fp8") for adapter in ("lora", "locon", "loha", "lokr", "ia3", "dylora")),
        *((adapter, "int8") for adapter in ("locon", "loha", "ia3")),
        *(pytest.param(adapter, "nf4", marks=BITSANDBYTES) for adapter in ("lora", "locon", "ia3")),
    ],
)
def test_weights_in_fewer_bits_are_another_base_that_trains(
    tiny_sdxl: Path, tmp_path: Path, adapter: str, storage: str
) -> None:
    base, plain = load(tiny_sdxl, storage=storage, gradient_checkpointing=True), load(tiny_sdxl)
    stored = {p.dtype for name, p in base.unet.named_parameters() if name.endswith("to_q.weight")}
    assert stored == {"fp8": {torch.float8_e4m3fn}, "int8": {torch.int8}, "nf4": {torch.uint8}}[storage]
    assert base.fingerprint != plain.fingerprint
    low, high = {"fp8": (0.005, 0.1), "int8": (0.001, 0.02), "nf4": (0.02, 0.3)}[storage]
    assert low < (look(base) - look(plain)).abs().mean() / look(plain).abs().mean() < high
    found = losses(base, tiny_sdxl, tmp_path, adapter=adapter)
    if adapter in ("locon", "dylora"):  # every kind of layer, and what is drawn per batch
        assert found == losses(load(tiny_sdxl, storage=storage), tiny_sdxl, tmp_path, adapter=adapter)


@pytest.mark.parametrize("storage", ["fp8", "int8", NF4])
def test_gradients_are_those_of_the_weights_that_bits_stand_for(tiny_sdxl: Path, tmp_path: Path, storage: str) -> None:
    stored, plain = load(tiny_sdxl, storage=storage), load(tiny_sdxl)
    with torch.no_grad():
        for name, layer in plain.unet.named_modules():
            if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
                layer.weight.copy_(frozen_weight(stored.unet.get_submodule(name)))
    assert torch.allclose(look(stored), look(plain), atol=1e-5)
    found = losses(stored, tiny_sdxl, tmp_path), losses(plain, tiny_sdxl, tmp_path)
    assert found[0] == pytest.approx(found[1], rel=1e-4)


@pytest.mark.parametrize(("memory", "most"), [({"offload_denoiser": True}, 0.0), ({"storage": "int8"}, 0.1)])
def test_a_file_adds_as_much_to_weights_that_wait_or_are_stored(
    tiny_sdxl: Path, tmp_path: Path, memory: dict[str, Any], most: float
) -> None:
    base = load(tiny_sdxl)
    adapter: Any = build_adapter(base, make_recipe(tiny_sdxl, adapter=Component(name="locon")))
    with torch.no_grad():
        for _, parameter in adapter.named_parameters():
            parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(0))
    adapter.save(tmp_path / "made.safetensors")

    def gained(base: Any) -> torch.Tensor:
        before = look(base)
        file.build(base, seed=0, path=str(tmp_path / "made.safetensors"))
        return look(base) - before

    plain, found = gained(load(tiny_sdxl, precision="bf16")), gained(load(tiny_sdxl, precision="bf16", **memory))
    assert (found - plain).norm() <= most * plain.norm() and plain.norm() > 0.1


def test_a_transformer_without_blocks_by_name_is_stored_too(tiny_flow: Callable[[str], Path]) -> None:
    options = BaseOptions(name="z_image", path=str(tiny_flow("z_image")), resolution=32, bucket_step=8)
    base: Any = z_image.load(options, device="cpu", precision="fp32", memory=MemoryOptions(storage="int8"))
    named = base.denoiser.named_parameters()
    stored = [weight.dtype == torch.int8 for name, weight in named if name.endswith(".weight") and weight.ndim == 2]
    assert sum(stored) > 0.7 * len(stored)


def test_blocks_that_wait_in_memory_visit_the_device_on_the_way_back_too(
    tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved(*arguments: Any) -> Any:
        """An adapter whose tensors are on the pretended device, to which `.data` takes none that began elsewhere."""
        adapter: Any = build_adapter(*arguments)
        for layer in adapter.layers.values():
            layer.lora_A.to(base.device), layer.lora_B.to(base.device)
        return adapter

    plain, waiting = load(tiny_sdxl), {"offload_denoiser": True}
    expected = losses(plain, tiny_sdxl, tmp_path)
    assert losses(load(tiny_sdxl, **waiting), tiny_sdxl, tmp_path) == pytest.approx(expected, rel=1e-5)
    assert load(tiny_sdxl, **waiting).fingerprint == plain.fingerprint

    def on_the_way_back(context: Any, gradient: torch.Tensor) -> Any:
        with _Pretend():  # which autograd leaves outside
            return backward(context, gradient)

    backward = _stored._Stored.backward
    monkeypatch.setattr(_stored._Stored, "backward", staticmethod(on_the_way_back))
    monkeypatch.setattr("lorasweep.trial.train.slot.build_adapter", moved)
    with pretend_cuda():
        for memory in (waiting, {**waiting, "storage": "int8"}):
            options = BaseOptions(name="sdxl", path=str(tiny_sdxl), resolution=32, bucket_step=8)
            base: Any = sdxl.load(options, device="cuda", precision="fp32", memory=MemoryOptions(**memory))
            named = base.unet.named_parameters()
            where = [
                isinstance(weight, OnCuda) for name, weight in named if name.endswith(".weight") and weight.ndim > 1
            ]
            assert 0 < sum(where) < 0.2 * len(where)
            recipe = make_recipe(tiny_sdxl, train=TrainOptions(max_steps=8, batch_size=2, device="cpu"))
            recipe = dataclasses.replace(recipe, base=options)
            store = Store(tmp_path / "there")
            plan = make_plan(recipe, tmp_path / "images")
            slot = make_slot(base, recipe, plan, latents=LatentCache(base, store), texts=TextCache(base, store))
            found: list[float] = []
            advance([slot], base, steps=2, on_step=lambda slot, metrics: found.append(metrics["train/loss"]))  # noqa: B023
            slot.close()
            assert len(found) == 2


def test_without_a_way_back_a_base_is_asked_about_few_pixels_at_a_time(
    tiny_sdxl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, asked = load(tiny_sdxl), []
    base.unet.register_forward_pre_hook(lambda unet, arguments: asked.append(len(arguments[0])))
    noisy, t_B = torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 9, 90, 900, 999])
    with torch.no_grad():
        text, frames = (
            base.encode_captions(["zkw", "", "1girl", "hat", "red"]),
            [Frame.whole(32, 32 + n) for n in range(5)],
        )
        whole = base.predict(noisy, t_B, text, frames)
        monkeypatch.setattr("lorasweep.components.bases._loaded.ASKED_PX", 2 * 32 * 32)
        assert torch.allclose(base.predict(noisy, t_B, text, frames), whole, atol=1e-5)
    base.predict(noisy, t_B, text, frames)
    assert asked == [5, 2, 2, 1, 5]


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
        (["memory=8gb", "adapter=dora"], "memory.storage  must be plain for dora"),
        (
            ["memory.offload_denoiser=true", "adapter=dora"],
            "memory.offload_denoiser  must be false for dora",
        ),
        (["memory.storage=nf4", "adapter=lokr"], "memory.storage  nf4 cannot be trained on by lokr"),
        (["memory=12gb", "adapter.text_encoder=true"], "memory.offload_text_encoders  must be false"),
        (
            ["memory.gradient_checkpointing=true", "train.device=mps", "adapter.rank_dropout=0.1"],
            "memory.gradient_checkpointing  must be false on mps with adapter.rank_dropout",
        ),
        (["noise.min_snr_gamma=5", "noise.debiased=true"], "noise.min_snr_gamma  must stand alone"),
        (["noise.adaptive_noise_scale=0.1"], "noise.adaptive_noise_scale  is added to noise.offset"),
        (["noise.low=0.6", "noise.high=0.5"], "noise.low  must be below noise.high"),
    ],
)
def test_what_does_not_go_together_is_refused(
    words: list[str], said: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--json", "dataset.dollhouse.images=8", *words]) == 2
    assert said in " ".join(capsys.readouterr().err.split("\n")).replace("   ", "  ")


def test_nf4_without_its_package_is_refused_before_anything_runs(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    hidden = lambda name, *where: None if name == "bitsandbytes" else found(name, *where)  # noqa: E731
    monkeypatch.setattr("importlib.util.find_spec", hidden)
    assert main(["plan", "--json", "dataset.dollhouse.images=8", "memory.storage=nf4"]) == 2
    assert "pip install 'lorasweep[cuda]'" in " ".join(capsys.readouterr().err.split())


AT_1024 = ["dataset.dollhouse.images=8", "train.precision=bf16", "train.batch_size=1", "adapter.dim=16"]
AT_1024 += ["base.resolution=1024", "base.bucket_step=64"]


@pytest.fixture
def of_sdxls_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dollhouse is said to be as large as an SDXL."""
    file = Path("some.safetensors")
    monkeypatch.setattr(dollhouse, "weight_shapes", lambda options: _files.weight_shapes(file, SDXL))
    monkeypatch.setattr(dollhouse, "footprint", lambda options: footprint(file, SDXL))


@pytest.mark.usefixtures("of_sdxls_size")
def test_the_plan_says_how_much_of_a_card_is_taken(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SDXL's real shapes; kohya's docs give 8 to 10 GB with checkpointing and cached texts, and over 16 without."""
    words = [*AT_1024, "memory=fast"]
    assert main(["plan", "--json", *words]) == 0
    found = json.loads(capsys.readouterr().out)["arms"][0]["estimated_gpu_gib"]
    assert found[""] == found["fast"] and 16 < found["fast"] < 20
    assert 7.5 < found["12gb"] < 10 and 5 < found["8gb"] < 8
    assert main(["plan", *words]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"a GPU needs about {found['fast']} GiB (memory=12gb {found['12gb']}" in said
    recipe = compose_recipe(AT_1024)
    dora = dataclasses.replace(recipe, adapter=dataclasses.replace(recipe.adapter, name="dora"))
    checkpointed = ["gradient_checkpointing", "offload_text_encoders", "tile_vae"]
    assert turned_on(recipe, None) == turned_on(recipe, 40.0) == []
    assert turned_on(recipe, 15.5) == ["offload_text_encoders"]
    assert turned_on(recipe, 10.0) == checkpointed
    assert turned_on(recipe, 17.0, slots=2) != turned_on(recipe, 17.0)
    assert turned_on(recipe, 5.0) == sorted([*checkpointed, "offload_denoiser"])
    assert turned_on(dora, 6.0) == checkpointed  # it refuses the fourth
    assert turned_on(recipe, 6.0, on_gpu=False) == ["gradient_checkpointing", "tile_vae"]
    assert turned_on(compose_recipe(["base=dollhouse_flow"]), 0.1) == []  # nothing makes it fit, or helps


@pytest.mark.usefixtures("of_sdxls_size")
def test_the_plan_counts_the_average_of_the_weights(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    words = [*(word for word in AT_1024 if not word.startswith("adapter.dim")), "adapter.dim=128"]
    for more in ([], ["regularization=ema"], ["regularization=scale_norm"]):
        assert main(["plan", "--json", *words, "memory=fast", *more]) == 0
        (arm,) = json.loads(capsys.readouterr().out)["arms"]
        found.append(arm["estimated_gpu_gib"]["fast"])
    trained = trainable(compose_recipe(words))
    assert trained is not None and trained.parameters * 4 / 2**30 > 1
    assert found[1] - found[0] == pytest.approx(trained.parameters * 4 / 2**30, abs=0.11)  # each to a tenth
    assert found[2] == found[0]


def turned_on(recipe: Recipe, gib: float | None, *, slots: int = 1, on_gpu: bool = True) -> list[str]:
    room = None if gib is None else memory.Room(gib=gib, workers=1, on_gpu=on_gpu)
    return sorted(knob for knob, value in vars(memory.resolve(recipe, room, slots=slots)).items() if value is True)


@pytest.mark.usefixtures("of_sdxls_size")
@pytest.mark.parametrize(
    ("workers", "total_mib", "said", "on"),
    [
        (1, 24_564, "24.0 GiB of a GPU", []),
        (2, 24_564, "12.0 GiB of a GPU that 2 workers share", ["gradient_checkpointing", "tile_vae"]),
        (2, 12_282, "6.0 GiB of a GPU that 2 workers share", ["offload_denoiser"]),
    ],
)
def test_workers_that_share_a_card_each_trade_for_their_part_and_the_plan_says_so(
    workers: int,
    total_mib: int,
    said: str,
    on: list[str],
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    nvidia_smi: Callable[[str], None],
) -> None:
    nvidia_smi(f"echo '0, GPU-1, {total_mib}'")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    (home / "q.yaml").write_text(json.dumps({"sweep": {"question": "?", "seeds": [0, 1], "arms": {"a": {}}}}))
    words = [str(home / "q.yaml"), *AT_1024, f"launcher.workers={workers}"]
    assert main(["plan", "--json", *words]) == 0
    arm = json.loads(capsys.readouterr().out)["arms"][0]
    assert arm["memory"]["room"] == said and set(on) <= set(arm["memory"]["turned_on"])
    assert bool(on) == bool(arm["memory"]["turned_on"])
    assert main(["plan", *words]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert (f"to fit {said}, turned on: " in shown) == bool(on)
    assert main(["plan", "--json", *words, "memory=fast"]) == 0
    warnings = json.loads(capsys.readouterr().out)["arms"][0]["warnings"]
    assert any(f"and a worker has {said}" in warning for warning in warnings) == bool(on)


def test_a_driver_that_hangs_is_told_instead_of_planning_for_no_gpu(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    nvidia_smi: Callable[[str], None],
) -> None:
    nvidia_smi("exec sleep 60")
    monkeypatch.setattr("lorasweep.sweep.workers.pool._DRIVER_PATIENCE_S", 0.2)
    assert main(["plan", *AT_1024]) == 2
    assert "does not answer" in capsys.readouterr().err
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main(["plan", *AT_1024]) == 0


def test_a_machine_that_is_too_small_is_told_of_by_a_plan_and_before_any_work(
    home: Path, on_tiny_sd: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorasweep.core.machine.total_bytes", lambda: 2**29)
    words = [*on_tiny_sd, "train.max_steps=4", "train.rungs=1", "tracking=none", "launcher.workers=1"]
    (home / "q.yaml").write_text(json.dumps({"sweep": {"question": "?", "seeds": [0], "arms": {"a": {}}}}))
    said = "GiB of memory are needed, and a worker has 0.5 GiB of this machine"
    for planned in (api.plan(*words), api.plan(home / "q.yaml", *words)):
        (warning,) = [each for each in planned.warnings if said in each]
        assert f"warning: {warning}" in str(planned)

        def hear(heard: str, warning: str = warning) -> None:
            if heard == warning:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            api.run_trial(api.compose(words), warn=hear)
        with pytest.raises(KeyboardInterrupt):
            api.run_sweep(home / "q.yaml", *words, warn=hear)


# Billions of the denoiser and of each text encoder, as their files have them, and MiB of a LoRA of dim 16 in bf16.
FULL_SIZE = {
    "anima": [(1.96, (0.596, 0.13), 44)],
    "sd35": [(2.24, (0.124, 0.695, 4.76), 45), (8.06, (0.124, 0.695, 4.76), 101)],
    "flux2_klein": [(3.88, (4.02,), 46), (9.08, (8.19,), 83)],
    "z_image": [(6.15, (4.02,), 67)],
    "chroma": [(8.9, (4.76,), 125)],
    "flux1_dev": [(11.9, (0.123, 4.76), 125)],
    "krea2": [(12.82, (4.44,), 102)],
    "qwen_image": [(20.43, (8.29,), 202)],
    "ernie_image": [(2.81, (3.85,), 43)],
    "ideogram4": [(9.28, (8.77,), 91)],
    "qwen_image_21": [(7.12, (8.77,), 80)],
    "lumina2": [(2.61, (2.61,), 46)],
}
VAES = {  # pixels along the side of a latent, most channels, numbers; else (8, 512, 84,000,000)
    **dict.fromkeys(("anima", "krea2", "qwen_image"), (8, 384, 84_000_000)),
    "qwen_image_21": (16, 768, 338_000_000),
}
LEVERS = ["fast", "12gb", "8gb", "8gb memory.storage=nf4", "12gb memory.offload_denoiser=true"]


@pytest.mark.parametrize("name", FULL_SIZE)
def test_the_room_that_transformers_take_is_that_of_the_docs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)  # nf4's package
    docs = (Path(__file__).parents[3] / "docs" / "bases.md").read_text(encoding="utf-8").splitlines()
    row = [line for line in docs if line.startswith(f"| `{name}`") and line.rstrip(" |")[-1].isdigit()][-1]
    told = [[int(each) for each in cell.split(",")] for cell in row.strip("|").split("|")[1:]]
    words = ["train.precision=bf16", "train.batch_size=1", "base.resolution=1024"]
    family = next(family for family in FAMILIES if family.name == name)
    px, widest, vae = VAES.get(name, (8, 512, 84_000_000))
    for lever, cell in zip(LEVERS, told, strict=True):
        recipe = compose_recipe([*words, *f"memory={lever}".split()])
        for (denoiser, texts, mib), (_, kept, recomputed, asked), gib in zip(
            FULL_SIZE[name], family.kept, cell, strict=True
        ):
            base = Footprint(
                denoiser=int(denoiser * 1e9),
                texts=tuple(int(each * 1e9) for each in texts),
                vae=vae,
                kept=kept / px**2,
                recomputed=recomputed / px**2,
                asked=asked / px**2,
                widest=widest,
                beside=int(denoiser * 1e9) if name == "ideogram4" else 0,
            )
            found = memory.peak_gib(recipe, recipe.memory, base, trained=mib * 2**20 // 2)
            assert abs(found - gib) <= 0.6, (lever, denoiser)
