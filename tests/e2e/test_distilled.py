"""Train on a base and draw on what was distilled from it; train on that with an adapter which undoes it."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from oracle import pipeline_of
from PIL import Image
from safetensors.torch import load_file, save_file

from lorasweep.cli import main
from lorasweep.core.records import BaseOptions, MemoryOptions
from lorasweep.trial.sample import pictures, read_index

pytestmark = pytest.mark.usefixtures("quick_trials")
SIZE = ["base.resolution=32", "base.bucket_step=16", "buckets=kohya", "dataset.dollhouse.images=4", "tracking=none"]
QUICK = ["train.max_steps=2", "train.rungs=1", "sample.seeds=[0]", "sample.weights=[0.7]", "metrics=[prior_drift]"]
PROMPTS = ["dataset.prompts={in_distribution:[zkw],class:[1girl],unrelated:[city]}"]
RATE = ["optimizer.lr=0.05", "adapter.targets=full", "train.keep=last"]


@pytest.fixture(scope="module")
def turbo(tiny_flow: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another Z-Image: a folder of a transformer and a scheduler with a shift of its own, and nothing else."""
    source, folder = tiny_flow("z_image"), tmp_path_factory.mktemp("siblings") / "Z-Image-Turbo"
    for part in ("transformer", "scheduler"):
        shutil.copytree(source / part, folder / part)
    shutil.copy(source / "model_index.json", folder)
    (weights,) = (folder / "transformer").glob("*.safetensors")
    generator = torch.Generator().manual_seed(7)
    moved = {k: t + 0.3 * t.std() * torch.randn(t.shape, generator=generator) if t.dim() > 1 else t
             for k, t in load_file(weights).items()}  # fmt: skip
    save_file(moved, weights, {"format": "pt"})
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({**config, "shift": 2.0}))
    return folder


def train(home: Path, *words: str) -> Path:
    """The run folder of a training."""
    before = set((home / "outputs" / "train").glob("*-s0"))
    assert main(["train", "--json", *SIZE, *QUICK, *PROMPTS, *RATE, *words]) == 0
    (run,) = set((home / "outputs" / "train").glob("*-s0")) - before
    return run


def load(path: Path, **how: Any) -> Any:
    """A Z-Image in memory, as the command line loads it."""
    own = {key: how.pop(key) for key in ("adapter",) if key in how}
    options = BaseOptions(name="z_image", path=str(path), resolution=32, bucket_step=16, **own)
    module = importlib.import_module("lorasweep.components.bases.z_image")
    return module.load(options, device="cpu", precision="fp32", **how)


def drawn_by_pipeline(base: Any, run: Path, *, lora: Path, place: int = 0) -> Image.Image:
    """A picture of a run's index by diffusers' own pipeline of a base, with the run's LoRA at the judged weight."""
    index = json.loads((run / "samples" / "index.json").read_text())
    entry = index["images"][place]
    pipeline = pipeline_of(base, entry["sampler"], steps=entry["steps"])
    assert pipeline.scheduler.config.shift == index["how"]["scheduler_config"]["shift"]
    pipeline.load_lora_weights(lora.parent, weight_name=lora.name, adapter_name="it")
    pipeline.set_adapters(["it"], [entry["weight"]])
    shape = (1, *base.latent.of(entry["width"], entry["height"]))
    with torch.no_grad():
        pixels = pipeline(
            prompt=entry["prompt"],
            width=entry["width"],
            height=entry["height"],
            num_inference_steps=entry["steps"],
            guidance_scale=entry["guidance"] - 1,
            latents=torch.randn(shape, generator=torch.Generator().manual_seed(entry["seed"])),
            output_type="pt",
        ).images
    (picture,) = pictures(pixels * 2 - 1)
    return picture


def difference(first: Image.Image, second: Image.Image) -> float:
    """The largest, in levels of 255."""
    one, other = (torch.frombuffer(bytearray(each.tobytes()), dtype=torch.uint8).float() for each in (first, second))
    return float((one - other).abs().max())


def test_a_lora_is_trained_on_the_base_and_drawn_and_judged_on_its_sibling(
    tiny_flow: Callable[[str], Path], turbo: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny_flow("z_image")
    words = ["base=z_image", f"base.path={path}", "sample=distilled", "sample.steps=3", "noise=dynamic_shift"]
    run = train(home, *words, f"sample.base={turbo}")
    plain = train(home, *words)
    # The same weights were learned, and the same losses measured, whatever draws.
    ours, theirs = (load_file(each / "adapter.safetensors") for each in (run, plain))
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())
    samples, others = read_index(run / "samples"), read_index(plain / "samples")
    assert difference(samples[0].open(), others[0].open()) > 3
    how = json.loads((run / "samples" / "index.json").read_text())["how"]
    assert how["drawn_with"] == "Z-Image-Turbo" and how["scheduler_config"]["shift"] == 2.0

    whole = shutil.copytree(path, home / "whole")  # what a pipeline of the sibling has beside its transformer
    for part in ("transformer", "scheduler"):
        shutil.rmtree(whole / part)
        shutil.copytree(turbo / part, whole / part)
    for place in (0, len(samples) - 1):
        wanted = drawn_by_pipeline(load(whole), run, lora=run / "adapter.safetensors", place=place)
        assert difference(samples[place].open(), wanted) <= 1
    capsys.readouterr()
    file, out = run / "adapter.safetensors", home / "out.safetensors"
    assert (
        main(["judge", str(file), "--json", *words, *SIZE, *PROMPTS, "metrics=[prior_drift]", f"sample.base={turbo}"])
        == 0
    )
    capsys.readouterr()
    for_kohya = home / "kohya.safetensors"
    assert main(["export", f"train/{run.name}", "--out", str(for_kohya), "--for", "comfyui", "--for", "kohya"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "--for must be of ComfyUI and diffusers, which read an adapter of z_image, got kohya" in told
    assert not for_kohya.exists()
    assert main(["export", f"train/{run.name}", "--out", str(out), "--for", "comfyui"]) == 0
    from safetensors import safe_open

    with safe_open(out, "pt") as exported:
        recipe = json.loads(exported.metadata()["lorasweep.recipe"])
    assert (recipe["sample"]["base"], recipe["base"]["path"]) == ("Z-Image-Turbo", path.name)


def test_a_distilled_base_is_trained_with_an_adapter_that_is_out_while_drawing(
    tiny_flow: Callable[[str], Path], turbo: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = shutil.copytree(tiny_flow("z_image"), home / "Z-Image-Turbo")
    shutil.rmtree(whole / "transformer")
    shutil.copytree(turbo / "transformer", whole / "transformer")
    words = ["base=z_image", f"base.path={whole}", "sample=distilled", "sample.steps=2"]
    assert main(["plan", *words, *SIZE]) == 2
    assert "give base.adapter, which undoes it" in " ".join(capsys.readouterr().err.split())

    file, generator = home / "training_adapter.safetensors", torch.Generator().manual_seed(1)
    names = [f"layers.{block}.attention.{each}" for block in (0, 1) for each in ("to_q", "to_out.0")]
    factors = {f"diffusion_model.{name}.lora_{side}.weight": 0.3 * torch.randn(shape, generator=generator)
               for name in names for side, shape in {"A": (4, 64), "B": (64, 4)}.items()}  # fmt: skip
    save_file(factors, file)
    base, plain = load(whole, adapter=str(file)), load_file(next((whole / "transformer").glob("*.safetensors")))
    for name, tensor in base.denoiser.state_dict().items():
        wanted, key = plain[name].double(), f"diffusion_model.{name.removesuffix('.weight')}"
        if f"{key}.lora_A.weight" in factors:
            product = factors[f"{key}.lora_B.weight"].double() @ factors[f"{key}.lora_A.weight"].double()
            wanted = wanted + product
            assert product.abs().max() > 0.3
        assert torch.allclose(tensor.double(), wanted, atol=1e-6), name
    with base.drawing():
        assert all(torch.equal(tensor, plain[name]) for name, tensor in base.denoiser.state_dict().items())

    run = train(home, *words, f"base.adapter={file}")
    picture = read_index(run / "samples")[0].open()
    still = shutil.move(whole, home / "whole")  # by another name it is a base like any other
    for adapter, same in ((str(file), False), (None, True)):
        wanted = drawn_by_pipeline(load(still, adapter=adapter), run, lora=run / "adapter.safetensors")
        assert (difference(picture, wanted) <= 1) == same
    capsys.readouterr()
    save_file({f"diffusion_model.{names[0]}.lora_A.weight": torch.ones(4, 3)}, file)
    assert main(["plan", "base=z_image", f"base.path={still}", *SIZE, f"base.adapter={file}"]) == 2
    assert "base.adapter  must be a LoRA of the denoiser" in capsys.readouterr().err
    save_file({key: tensor * torch.nan for key, tensor in factors.items()}, file)
    assert main(["plan", "base=z_image", f"base.path={still}", *SIZE, f"base.adapter={file}"]) == 2
    assert "tensors hold NaN" in capsys.readouterr().err


def test_what_cannot_draw_in_a_bases_place_is_refused_and_fp8_keeps_both(
    tiny_flow: Callable[[str], Path], turbo: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, words = tiny_flow("z_image"), [*SIZE, "sample=distilled"]

    def told(*more: str, code: int = 2) -> str:
        assert main(["plan", *words, *more]) == code
        said = capsys.readouterr()
        return " ".join((said.err if code else said.out).split())

    here = ["base=z_image", f"base.path={path}"]
    assert "sample.base must exist, got" in told(*here, "sample.base=nowhere")
    assert "must hold a ZImagePipeline (Z-Image), got Flux2KleinPipeline" in told(
        *here, f"sample.base={tiny_flow('flux2_klein')}"
    )
    other = shutil.copytree(turbo, home / "other")
    (weights,) = (other / "transformer").glob("*.safetensors")
    save_file({key: tensor for key, tensor in load_file(weights).items() if "layers.1." not in key}, weights)
    assert "must have the modules of z_image, got others in other: layers.1." in told(*here, f"sample.base={other}")
    assert "must be null: Stable Diffusion" in told("base=dollhouse", "sample.base=it")
    assert "sample.guidance=4 on what was distilled" in told(
        *here, f"sample.base={turbo}", "sample.guidance=4", "train.max_steps=2", code=0
    )

    alone = home / "turbo.safetensors"  # the transformer as one file, which has no scheduler of its own
    shutil.copy(next((turbo / "transformer").glob("*.safetensors")), alone)
    noisy, level = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0.4])
    small = MemoryOptions(storage="fp8")
    for sibling, memory in ((turbo, small), (alone, MemoryOptions())):
        base, text = load(path, sibling=str(sibling), memory=memory), None
        text = base.encode_captions(["zkw"])
        with torch.no_grad():
            trained = base.predict(noisy, level, text, [])
            with base.drawing() as drawn:
                found = drawn.predict(noisy, level, text, [])
            assert torch.equal(base.predict(noisy, level, text, []), trained)
            whole = shutil.copytree(path, home / f"like-{sibling.is_file()}")
            shutil.rmtree(whole / "transformer")
            shutil.copytree(turbo / "transformer", whole / "transformer")
            assert torch.equal(found, load(whole, memory=memory).predict(noisy, level, text, []))
        assert drawn.path.shift((8, 8)) == pytest.approx(2.0 if sibling == turbo else 3.0)
        assert (found - trained).abs().max() > 0.05 and base.fingerprint != load(path, memory=memory).fingerprint
