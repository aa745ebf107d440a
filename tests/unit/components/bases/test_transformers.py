"""The transformers that people train on, on tiny random weights: against diffusers' pipelines and examples."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fresh_bases import fresh
from oracle import both_losses, flux_example, pipeline_of
from peft.tuners.tuners_utils import BaseTunerLayer
from tiny_flow import PIPELINES
from tiny_sdxl import change_json

from benchmarks.memory import SHAPES_OF
from lorasweep.components.bases import detect, qwen_image
from lorasweep.core.records import BaseOptions, Frame, MemoryOptions, NoiseOptions
from lorasweep.trial.denoise import denoise
from lorasweep.trial.train import loss

PROMPTS, NEGATIVES = ["zkw, red hair, blue dress", "1girl"], ["", ""]
WIDTH, HEIGHT = 40, 24
FRAMES = [Frame.whole(WIDTH, HEIGHT)] * 2
Load = Callable[[str], Any]


@pytest.fixture(scope="module")
def load(tiny_flow: Callable[[str], Path]) -> Load:
    """A fresh base of a name."""

    def load(name: str) -> Any:
        return fresh(BaseOptions(name=name, path=str(tiny_flow(name)), resolution=32, bucket_step=8))

    return load


@pytest.fixture(scope="module")
def shared(load: Load) -> Load:
    """The same base of a name for all who leave it as it is."""
    return functools.cache(load)


def noise(base: Any) -> torch.Tensor:
    return torch.randn(2, *base.latent.of(WIDTH, HEIGHT), generator=torch.Generator().manual_seed(3))


def said(base: Any) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Prompts and negatives, encoded together as `trial.sample` does."""
    together = base.encode_captions([*PROMPTS, *NEGATIVES])
    first, last = ({name: tensor[rows] for name, tensor in together.items()} for rows in (slice(2), slice(2, 4)))
    return first, last


def drawn_by_pipeline(base: Any, steps: int, guidance: float, output: str) -> torch.Tensor:
    """The pipeline's pictures in [0, 1], or its latents, in the units of its VAE for FLUX.2."""
    pipeline, latents = pipeline_of(base, "euler"), noise(base)
    common = {"prompt": [*PROMPTS], "width": WIDTH, "height": HEIGHT, "num_inference_steps": steps}
    if base.pipeline == "AnimaModularPipeline":
        from diffusers import ClassifierFreeGuidance

        pipeline.update_components(guider=ClassifierFreeGuidance(guidance_scale=guidance))
        wanted = "latents" if output == "latent" else "images"
        more = {"negative_prompt": NEGATIVES, "latents": latents.unsqueeze(2), "output_type": "pt", "output": wanted}
        found = pipeline(**common, **more)
        return found.squeeze(2) if output == "latent" else found
    packed, without = base._pack(latents), {"negative_prompt": [*NEGATIVES]}
    how = {
        "FluxPipeline": {"guidance_scale": guidance, "latents": packed},
        "ZImagePipeline": {"guidance_scale": guidance - 1, **without, "latents": latents},
        "Flux2KleinPipeline": {
            "guidance_scale": guidance,
            "latents": torch.nn.functional.pixel_unshuffle(latents, 2),
        },
        "QwenImagePipeline": {"true_cfg_scale": guidance, **without, "latents": packed},
        "ChromaPipeline": {"guidance_scale": guidance, **without, "latents": packed},
        "StableDiffusion3Pipeline": {"guidance_scale": guidance, **without, "latents": latents},
        "Krea2Pipeline": {"guidance_scale": guidance - 1, **without, "latents": packed},
        "ErnieImagePipeline": {
            "guidance_scale": guidance,
            **without,
            "latents": torch.nn.functional.pixel_unshuffle(latents, 2),
        },
        "Ideogram4Pipeline": {"guidance_scale": guidance, "guidance_schedule": None, "latents": packed},
        "Lumina2Pipeline": {"guidance_scale": guidance, **without, "latents": latents},
        "QwenImage21Pipeline": {"true_cfg_scale": guidance, **without, "latents": packed},
    }[base.pipeline]
    asked = [(common, how)]
    if base.pipeline == "QwenImage21Pipeline":  # whose answers depend on the captions beside them
        asked = [
            (common | {"prompt": prompt}, how | {"negative_prompt": "", "latents": packed[row : row + 1]})
            for row, prompt in enumerate(PROMPTS)
        ]
    found = torch.cat([pipeline(**what, **way, output_type=output).images for what, way in asked])
    if base.pipeline == "ErnieImagePipeline" and output == "latent":
        return torch.nn.functional.pixel_shuffle(found, 2)
    return base._unpack(found, latents.shape[-2:]) if found.dim() == 3 else found


@torch.no_grad()
@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize(("steps", "within"), [(1, 1e-5), (6, 1e-4)])
def test_latents_are_those_of_the_pipeline(shared: Load, name: str, steps: int, within: float) -> None:
    """After one step they are the noise without the answer: that is what the pipeline computes inside."""
    base = shared(name)
    text, negative = said(base)
    found = denoise(base, noise(base), text, negative, FRAMES, sampler="euler", steps=steps, guidance=4.0)
    wanted = drawn_by_pipeline(base, steps, 4.0, "latent")
    if name == "flux2_klein":
        shift, scale = base._affine(wanted)
        wanted = (wanted - shift) * scale
    assert wanted.abs().max() > 0.1 and (found - wanted).abs().max() < within * max(1.0, wanted.abs().max())


@torch.no_grad()
@pytest.mark.parametrize("sampler", ["euler", "ddim"])
def test_levels_end_where_the_scheduler_says(
    load: Load, tiny_flow: Callable[[str], Path], tmp_path: Path, sampler: str
) -> None:
    """Qwen-Image's own scheduler has `shift_terminal` 0.02: the last answer is asked there, however many there are."""
    folder = Path(shutil.copytree(tiny_flow("qwen_image"), tmp_path / "terminal"))
    others = {"time_shift_type": "linear"}  # a way of drawing that is not followed, nor told
    change_json(folder / "scheduler" / "scheduler_config.json", shift_terminal=0.02, max_shift=0.9, **others)
    options = BaseOptions(name="qwen_image", path=str(folder), resolution=32, bucket_step=8)
    base: Any = qwen_image.load(options, device="cpu", precision="fp32")
    levels = [t.item() for t, *_ in base.path.sampling(sampler, 5, (8, 8)).steps]
    assert (levels[0], levels[-1]) == pytest.approx((1.0, 0.02))
    assert [t.item() for t, *_ in base.path.sampling(sampler, 1, (8, 8)).steps] == [1.0]
    text, negative = said(base)
    found = denoise(base, noise(base), text, negative, FRAMES, sampler=sampler, steps=5, guidance=4.0)
    wanted = drawn_by_pipeline(base, 5, 4.0, "latent")
    assert (found - wanted).abs().max() < 1e-4 * max(1.0, wanted.abs().max())


@torch.no_grad()
@pytest.mark.parametrize("spacing", ["karras", "exponential", "beta"])
@pytest.mark.parametrize(("name", "terminal"), [("chroma", None), ("qwen_image", 0.02), ("sd35", None)])
def test_levels_lie_as_the_scheduler_spaces_them(
    load: Load, tiny_flow: Callable[[str], Path], tmp_path: Path, name: str, terminal: float | None, spacing: str
) -> None:
    """Chroma1-Base's scheduler has `use_beta_sigmas`; DPM-Solver++ takes its levels without."""
    folder, key = Path(shutil.copytree(tiny_flow(name), tmp_path / "spaced")), f"use_{spacing}_sigmas"
    config = folder / "scheduler" / "scheduler_config.json"
    options = BaseOptions(name=name, path=str(folder), resolution=32, bucket_step=8)
    levels = []
    for is_spaced in (False, True):
        change_json(config, shift_terminal=terminal, **{key: is_spaced})
        base = fresh(dataclasses.replace(options, resolution=32 + 8 * is_spaced))
        levels.append([t.item() for t, *_ in base.path.sampling("euler", 7, (8, 8)).steps])
    assert levels[0][0] == pytest.approx(levels[1][0]) and levels[0][-1] == pytest.approx(levels[1][-1])
    assert max(abs(a - b) for a, b in zip(*levels, strict=True)) > 0.01
    text, negative = said(base)
    for steps in (1, 5) if terminal is None else (5,):  # which diffusers divides by 0 for with one
        found = denoise(base, noise(base), text, negative, FRAMES, sampler="euler", steps=steps, guidance=4.0)
        wanted = drawn_by_pipeline(base, steps, 4.0, "latent")
        assert (found - wanted).abs().max() < 1e-4 * max(1.0, wanted.abs().max())
    told = {sampler: base.reproduction(sampler, 5)["scheduler_config"] for sampler in ("euler", "dpmpp_2m")}
    assert told["euler"][key] is True and not told["dpmpp_2m"].get(key)


@torch.no_grad()
@pytest.mark.parametrize("name", PIPELINES)
def test_pictures_are_those_of_the_pipeline(shared: Load, name: str) -> None:
    base = shared(name)
    text, negative = said(base)
    found = denoise(base, noise(base), text, negative, FRAMES, sampler="euler", steps=2, guidance=4.0)
    pixels = (base.decode_latents(found) / 2 + 0.5).clamp(0, 1)
    wanted = drawn_by_pipeline(base, 2, 4.0, "pt")[:, :3]
    assert wanted.std() > 0.01 and (pixels - wanted).abs().max() < 1e-4
    mean, _ = base.encode_images(pixels * 2 - 1)
    shift, scale = base._affine(mean)
    seen = pixels * 2 - 1
    if name == "qwen_image_21":  # all of it opaque
        seen = torch.cat([seen, torch.ones_like(seen[:, :1])], 1)
    inside = base.vae.encode(seen[:, :, None] if base.vae.config.get("latents_mean") else seen).latent_dist.mean
    assert torch.allclose(mean / scale + shift, inside.view_as(mean), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", PIPELINES)
def test_an_answer_does_not_depend_on_the_captions_beside_it(shared: Load, name: str) -> None:
    base, level = shared(name), torch.tensor([0.3, 0.8])
    text, rows = base.encode_captions(PROMPTS), [base.encode_captions([prompt]) for prompt in PROMPTS]
    together = base.predict(noise(base), level, text, FRAMES)
    for row, alone in enumerate(rows):
        one = base.predict(noise(base)[row : row + 1], level[row : row + 1], alone, FRAMES[:1])
        assert (one[0] - together[row]).abs().max() < 1e-5


def _z_image_example(base: Any, noisy: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    embeds, _ = pipeline_of(base, "euler").encode_prompt([*PROMPTS], do_classifier_free_guidance=False)
    timesteps = sigmas.flatten() * 1000
    answers = base.denoiser(list(noisy.unsqueeze(2).unbind(0)), (1000 - timesteps) / 1000, embeds, return_dict=False)[0]
    return -torch.stack(answers, dim=0).squeeze(2)


def _klein_example(base: Any, noisy: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    pipeline = pipeline_of(base, "euler")
    embeds, text_ids = pipeline.encode_prompt([*PROMPTS])
    patched = pipeline._patchify_latents(noisy)
    ids = pipeline._prepare_latent_ids(patched)
    answer = base.denoiser(
        hidden_states=pipeline._pack_latents(patched),
        timestep=sigmas.flatten() * 1000 / 1000,
        guidance=None,
        encoder_hidden_states=embeds,
        txt_ids=text_ids,
        img_ids=ids,
        return_dict=False,
    )[0]
    return pipeline._unpatchify_latents(pipeline._unpack_latents_with_ids(answer, ids))


def _flux_example(base: Any, noisy: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    size, guidance = (WIDTH, HEIGHT), torch.tensor([1.0]).expand(2)
    found: torch.Tensor = flux_example(base, noisy, sigmas, [*PROMPTS], tokens=512, size=size, guidance=guidance)
    return found


def _qwen_example(base: Any, noisy: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    pipeline = pipeline_of(base, "euler")
    embeds, mask = pipeline.encode_prompt([*PROMPTS])
    answer = base.denoiser(
        hidden_states=pipeline._pack_latents(noisy.unsqueeze(1), *noisy.shape),
        encoder_hidden_states=embeds,
        encoder_hidden_states_mask=mask,
        timestep=sigmas.flatten() * 1000 / 1000,
        img_shapes=[(1, HEIGHT // 8, WIDTH // 8)] * 2,
        return_dict=False,
    )[0]
    return pipeline._unpack_latents(answer, HEIGHT, WIDTH, pipeline.vae_scale_factor).squeeze(2)


def _sd3_example(base: Any, noisy: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    embeds, _, pooled, _ = pipeline_of(base, "euler").encode_prompt(
        PROMPTS, None, None, do_classifier_free_guidance=False
    )
    return base.denoiser(
        hidden_states=noisy,
        timestep=sigmas.flatten() * 1000,
        encoder_hidden_states=embeds,
        pooled_projections=pooled,
        return_dict=False,
    )[0]


def _lumina_example(base: Any, noisy: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """Its levels count from noise to image, and its answer is held against the image without the noise."""
    embeds, mask, *_ = pipeline_of(base, "euler").encode_prompt([*PROMPTS], do_classifier_free_guidance=False)
    answer = base.denoiser(
        hidden_states=noisy,
        encoder_hidden_states=embeds,
        encoder_attention_mask=mask,
        timestep=1 - sigmas.flatten(),
        return_dict=False,
    )[0]
    return -answer


def _krea_example(base: Any, noisy: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    pipeline = pipeline_of(base, "euler")
    embeds, mask = pipeline.encode_prompt([*PROMPTS])
    height, width = HEIGHT // 8, WIDTH // 8
    packed = noisy.view(2, -1, height, 2, width, 2).permute(0, 2, 4, 1, 3, 5).reshape(2, height * width, -1)
    answer = base.denoiser(
        hidden_states=packed,
        encoder_hidden_states=embeds,
        timestep=sigmas.flatten() * 1000 / 1000,
        position_ids=pipeline.prepare_position_ids(embeds.shape[1], height, width, "cpu"),
        encoder_attention_mask=mask,
        return_dict=False,
    )[0]
    return answer.view(2, height, width, -1, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(noisy.shape)


@pytest.mark.parametrize(
    ("name", "example"),
    [
        ("flux1_dev", _flux_example),
        ("z_image", _z_image_example),
        ("flux2_klein", _klein_example),
        ("qwen_image", _qwen_example),
        ("sd35", _sd3_example),
        ("krea2", _krea_example),
        ("lumina2", _lumina_example),
    ],
)
def test_loss_and_gradient_are_those_of_diffusers_example(load: Load, name: str, example: Callable[..., Any]) -> None:
    """Source: huggingface/diffusers, examples/dreambooth/train_dreambooth_lora_{flux,z_image,...}.py.

    There is none for Anima and Chroma.
    """
    base = load(name)
    weight = next(p for n, p in base.denoiser.named_parameters() if n.endswith("to_q.weight"))
    (found, ours), (wanted, theirs) = both_losses(base, PROMPTS, FRAMES, weight, example)
    assert found == pytest.approx(wanted, rel=1e-5)
    assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", PIPELINES)
def test_a_lora_of_one_picture_draws_that_picture(load: Load, name: str) -> None:
    """Its colours, told by the latents' means: answers and steps that disagree in sign or time cannot do it."""
    from lorasweep.components.adapters import lora

    base = load(name)
    adapter = lora.build(base, seed=0, dim=8, alpha=8.0, dropout=0.0, targets="full", text_encoder=False)
    optimizer = torch.optim.AdamW(adapter.parameters()["transformer"], lr=1e-2)
    colours = torch.tensor([1.5, -1.0, 0.5, -1.5])
    picture, frames = colours[None, :, None, None].expand(4, 4, 4, 4), [Frame.whole(16, 16)] * 4
    with torch.no_grad():
        text = base.encode_captions(["zkw"])
    # A few words are enough; where there is no mask, the rest is padding.
    text = {key: tensor if key == "pooled" else tensor[:, :8] for key, tensor in text.items()}
    text = {key: tensor.expand(4, *tensor.shape[1:]) for key, tensor in text.items()}
    generator = torch.Generator().manual_seed(2)
    for _ in range(50):
        question = loss.make_noisy_batch(
            picture, torch.zeros_like(picture), base.path, generator=generator, options=NoiseOptions()
        )
        answer = base.predict(question.noisy_BCHW, question.t_B, text, frames)
        optimizer.zero_grad()
        loss.weighted_loss(answer, question, base.path, options=NoiseOptions()).backward()
        optimizer.step()
    start = torch.randn(4, 4, 4, 4, generator=generator)

    @torch.no_grad()
    def likeness() -> float:
        drawn = denoise(base, start, text, None, frames, sampler="euler", steps=10, guidance=1.0)
        return torch.cosine_similarity(drawn.mean((0, 2, 3)), colours, dim=0).item()

    trained = likeness()
    adapter.set_weight(0.0)
    assert trained > 0.95 and likeness() < 0.8


@torch.no_grad()
@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("form", ["trained", "exported"])
def test_diffusers_reads_its_loras_back(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, form: str
) -> None:
    """Every module, at the strength that was trained, whether alpha is told or folded."""
    from safetensors.numpy import save_file

    from lorasweep.components.adapters import lora
    from lorasweep.results.export.whole import named_as_its_own, to_kohya
    from lorasweep.results.export.write import _read

    base = load(name)
    adapter = lora.build(base, seed=0, dim=4, alpha=2.0, dropout=0.0, targets="full", text_encoder=False)
    torch.manual_seed(0)
    for tensor in adapter.parameters()["transformer"]:
        torch.nn.init.normal_(tensor, std=0.2)
    file = tmp_path / "it.safetensors"
    adapter.save(file)
    if form == "exported":
        tensors = named_as_its_own(to_kohya(*_read(file)), name)
        fused = (
            sum(path.endswith(("to_k", "to_v")) for path in adapter.layers) if name in ("lumina2", "ideogram4") else 0
        )
        assert not any("alpha" in key for key in tensors) and len(tensors) == 2 * (len(adapter.layers) - fused)
        own = {
            "anima": "diffusion_model.blocks.",
            "ernie_image": "diffusion_model.layers.",
            "ideogram4": "diffusion_model.layers.",
            "lumina2": "diffusion_model.",
        }
        assert all(key.startswith(own.get(name, "transformer.")) for key in tensors)
        split = torch.split  # of which diffusers knows the sizes in the published one alone
        sizes = {(2304, 768, 768): [64, 32, 32]}
        monkeypatch.setattr(torch, "split", lambda it, by, dim=0: split(it, sizes.get(tuple(by), by), dim))
        save_file(tensors, file)
    level, text = torch.full((2,), 0.5), base.encode_captions(PROMPTS)
    wanted, plain = base.predict(noise(base), level, text, FRAMES), load(name)
    before = plain.predict(noise(base), level, text, FRAMES)
    pipeline_of(plain, "euler").load_lora_weights(tmp_path, weight_name=file.name, adapter_name="it")
    found = plain.predict(noise(base), level, text, FRAMES)
    wrapped = sum(isinstance(module, BaseTunerLayer) for module in plain.denoiser.modules())
    assert wrapped == len(adapter.layers)
    assert (wanted - before).abs().max() > 0.02 and (found - wanted).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("name", "place", "billions", "modules", "mib"),
    [
        ("flux1_dev", 0, 11.90, (266, 418, 494), 164),
        ("z_image", 0, 6.15, (136, 210, 270), 91),
        ("flux2_klein", 0, 3.88, (80, 100, 100), 46),
        ("flux2_klein", 1, 9.08, (112, 144, 144), 83),
        ("anima", 0, 1.96, (224, 280, 448), 66),
        ("qwen_image", 0, 20.43, (480, 720, 840), 281),
        ("chroma", 0, 8.90, (266, 418, 418), 125),
        ("sd35", 0, 2.24, (243, 337, 385), 62),
        ("sd35", 1, 8.06, (303, 453, 529), 140),
        ("krea2", 0, 12.82, (140, 224, 256), 102),
        ("ernie_image", 0, 2.81, (96, 168, 168), 43),
        ("ideogram4", 0, 9.28, (136, 238, 272), 110),
        ("qwen_image_21", 0, 7.12, (128, 224, 224), 80),
        ("lumina2", 0, 2.61, (120, 210, 238), 54),
    ],
)
def test_the_large_ones_have_the_sizes_and_modules_that_are_told(
    name: str, place: int, billions: float, modules: tuple[int, ...], mib: int
) -> None:
    """Sizes of files: bf16, dim 16, all blocks; of FLUX.2 without the modulation, of Krea 2 without the text's."""
    import diffusers

    from lorasweep.components.adapters._knobs import low_rank
    from lorasweep.components.adapters._targets import find_targets

    module = importlib.import_module(f"lorasweep.components.bases.{name}")
    with torch.device("meta"):
        model = getattr(diffusers, module.family.classes["transformer"])(**SHAPES_OF[name][place].config)
    found = {scope: find_targets(model, module.SCOPES[scope]) for scope in ("attn", "attn-mlp", "full")}
    assert round(sum(p.numel() for p in model.parameters()) / 1e9, 2) == billions
    assert tuple(map(len, found.values())) == modules
    weights = [model.get_submodule(each).weight for each in
               found["attn-mlp" if name in ("flux2_klein", "krea2") else "full"]]  # fmt: skip
    numbers = sum(math.prod(size) for weight in weights for size in low_rank(tuple(weight.shape), dim=16))
    assert round(numbers * 2 / 2**20) == mib


@torch.no_grad()
@pytest.mark.parametrize("name", PIPELINES)
def test_an_exported_lora_is_judged_on_its_base_again(load: Load, tmp_path: Path, name: str) -> None:
    """Anima's files have names of their own, FLUX.2's blocks a `to_out` without a number."""
    from safetensors.numpy import save_file

    from lorasweep.components.adapters import file, lora
    from lorasweep.results.export.whole import named_as_its_own, to_kohya
    from lorasweep.results.export.write import _read

    base, path = load(name), tmp_path / "it.safetensors"
    adapter = lora.build(base, seed=0, dim=4, alpha=2.0, dropout=0.0, targets="full", text_encoder=False)
    for tensor in adapter.parameters()["transformer"]:
        torch.nn.init.normal_(tensor, std=0.2, generator=torch.Generator().manual_seed(0))
    adapter.save(path)
    tensors = to_kohya(*_read(path))
    save_file(named_as_its_own(tensors, name), path)
    level, text = torch.full((2,), 0.5), base.encode_captions(PROMPTS)
    wanted = base.predict(noise(base), level, text, FRAMES)
    adapter.remove()
    file.build(base, seed=0, path=str(path))
    assert torch.allclose(base.predict(noise(base), level, text, FRAMES), wanted, atol=1e-5)


def test_a_transformer_alone_takes_the_place_of_the_folders(tiny_flow: Callable[[str], Path], tmp_path: Path) -> None:
    """As ComfyUI has it: queries, keys and values in one, under the names of the original code."""
    from safetensors.torch import load_file, save_file

    folder, file = tiny_flow("z_image"), tmp_path / "finetune.safetensors"
    weights = {
        key: tensor * 1.01 for key, tensor in load_file(next((folder / "transformer").glob("*.safetensors"))).items()
    }
    native: dict[str, torch.Tensor] = {}
    for key, tensor in weights.items():
        for ours, theirs in _Z_IMAGE_NATIVE.items():
            key = key.replace(ours, theirs)
        native[f"model.diffusion_model.{key}"] = tensor
    for key in [key for key in native if key.endswith("attention.to_q.weight")]:
        fused = [native.pop(key.replace("to_q", part)) for part in ("to_q", "to_k", "to_v")]
        native[key.replace("to_q", "qkv")] = torch.cat(fused)
    save_file(native, file)
    module = importlib.import_module("lorasweep.components.bases.z_image")
    options = [
        BaseOptions(name="z_image", path=str(folder), weights=weights, resolution=32, bucket_step=8)
        for weights in (None, str(file))
    ]
    base = module.load(options[1], device="cpu", precision="fp32")
    assert all(torch.equal(tensor, weights[key]) for key, tensor in base.denoiser.state_dict().items())
    assert base.fingerprint == module.fingerprint(options[1]) != module.fingerprint(options[0])


def test_an_anima_as_comfyui_has_it_takes_the_place_of_the_folders(
    tiny_flow: Callable[[str], Path], tmp_path: Path
) -> None:
    """Its conditioner lies in the same file, of which the folder's own is kept."""
    from safetensors.torch import load_file, save_file

    from lorasweep.core.kohya_names import own_name

    folder, file = tiny_flow("anima"), tmp_path / "finetune.safetensors"
    norms = {"time_embed.norm": "t_embedding_norm"} | {
        f"attn{number}.norm_{each}": f"{kind}_attn.{each}_norm"
        for number, kind in ((1, "self"), (2, "cross"))
        for each in "qk"
    }
    weights = {
        key: tensor * 1.01 for key, tensor in load_file(next((folder / "transformer").glob("*.safetensors"))).items()
    }
    native = {"net.llm_adapter.embed.weight": torch.ones(2, 2)}
    for key, tensor in weights.items():
        for ours, theirs in norms.items():
            key = key.replace(ours, theirs)
        module, _, end = key.rpartition(".")
        native[f"net.{own_name(f'transformer.{module}', 'anima').removeprefix('diffusion_model.')}.{end}"] = tensor
    save_file(native, file)
    options = BaseOptions(name="anima", path=str(folder), weights=str(file), resolution=32, bucket_step=8)
    base = importlib.import_module("lorasweep.components.bases.anima").load(options, device="cpu", precision="fp32")
    assert all(torch.equal(tensor, weights[key]) for key, tensor in base.denoiser.state_dict().items())


_Z_IMAGE_NATIVE = {
    "all_final_layer.2-1.": "final_layer.",
    "all_x_embedder.2-1.": "x_embedder.",
    ".attention.to_out.0.": ".attention.out.",
    ".attention.norm_k.": ".attention.k_norm.",
    ".attention.norm_q.": ".attention.q_norm.",
}


def test_what_cannot_be_trained_is_refused(
    tiny_flow: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bases distilled to few steps, quantised files, other families' files, language models."""
    from safetensors.torch import save_file

    from lorasweep.cli import main

    size = ["base.resolution=32", "base.bucket_step=8", "dataset=none"]

    def told(name: str, path: Path, *words: str) -> str:
        assert main(["plan", f"base={name}", f"base.path={path}", *size, *words]) == 2
        return " ".join(capsys.readouterr().err.split())

    for name, file, key, value in [
        ("flux2_klein", "model_index.json", "is_distilled", True),
        ("flux1_dev", "scheduler/scheduler_config.json", "use_dynamic_shifting", False),
    ]:
        folder = shutil.copytree(tiny_flow(name), tmp_path / name)
        config = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**config, key: value}))
        assert "base.path must not be distilled to few steps" in told(name, folder)
    turbo = shutil.copytree(tiny_flow("z_image"), tmp_path / "Z-Image-Turbo")
    assert "must not be distilled to few steps, which training on it undoes, got Z-Image-Turbo" in told(
        "z_image", turbo
    )
    whole = tiny_flow("z_image")
    scaled, other = tmp_path / "scaled.safetensors", tmp_path / "other.safetensors"
    save_file({"layers.0.attention.qkv.scale_weight": torch.ones(1)}, scaled)
    save_file({"double_stream_modulation_img.lin.weight": torch.ones(1, 1)}, other)
    assert "which is quantised, made for drawing only" in told("z_image", whole, f"base.weights={scaled}")
    assert "which is of FLUX.2 klein base" in told("z_image", whole, f"base.weights={other}")
    assert "must not be GGUF" in told("z_image", whole, "base.weights=it.gguf")
    few_steps = shutil.copy(other, tmp_path / "flux-2-klein-4b.safetensors")
    assert "base.weights must not be distilled" in told(
        "flux2_klein", tiny_flow("flux2_klein"), f"base.weights={few_steps}"
    )
    assert "adapter.text_encoder must be false" in told("z_image", whole, "adapter.text_encoder=true")
    assert detect(whole) == "z_image" and detect(tiny_flow("anima")) == "anima"
    assert "override: base=z_image" in told("anima", whole)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("qwen_image", "krea2"),
        ("chroma", "flux1_dev"),
        ("sd35", "ernie_image"),
        ("krea2", "chroma"),
        ("ernie_image", "z_image"),
        ("qwen_image_21", "qwen_image"),
        ("lumina2", "z_image"),
        ("z_image", "lumina2"),
    ],
)
def test_a_file_of_another_transformer_is_refused_and_ones_own_taken(
    tiny_flow: Callable[[str], Path], tmp_path: Path, name: str, other: str
) -> None:
    from safetensors.torch import load_file, save_file

    module, file = importlib.import_module(f"lorasweep.components.bases.{name}"), tmp_path / "it.safetensors"
    options = BaseOptions(name=name, path=str(tiny_flow(name)), weights=str(file), resolution=32, bucket_step=8)
    found = []
    for each in (other, name):
        weights = load_file(next((tiny_flow(each) / "transformer").glob("*.safetensors")))
        save_file({f"model.diffusion_model.{key}": 1.01 * tensor for key, tensor in weights.items()}, file)
        found += module.problems(options)
    ((key, message, _),) = found
    assert key == "weights" and "which is of " in message
    state = module.load(options, device="cpu", precision="fp32").denoiser.state_dict()
    assert all(torch.equal(state[key], 1.01 * tensor) for key, tensor in weights.items())


def test_plan_finds_a_file_of_another_model_or_size(
    tiny_flow: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A HunyuanVideo has blocks called as FLUX.1's; a Fill takes more channels, a schnell has no guidance."""
    from safetensors.torch import load_file, save_file

    from lorasweep.cli import main

    folder = tiny_flow("flux1_dev")
    own = load_file(next((folder / "transformer").glob("*.safetensors")))
    fill = own | {"x_embedder.weight": torch.cat([own["x_embedder.weight"]] * 2, 1)}
    schnell = {name: tensor for name, tensor in own.items() if "guidance_embedder" not in name}
    hunyuan = {"double_blocks.0.img_attn_qkv.weight": torch.ones(6, 2), "txt_in.t_embedder.mlp.0.weight": torch.ones(1)}
    numbers = sum(tensor.numel() for tensor in own.values())
    for held, wanted in [
        (own, ""),
        (fill, f"numbers instead of {numbers:,}"),
        (schnell, f"numbers instead of {numbers:,}"),
        (hunyuan, "which is a video model"),
    ]:
        file = tmp_path / "it.safetensors"
        save_file({f"model.diffusion_model.{name}": tensor.contiguous() for name, tensor in held.items()}, file)
        words = ["base=flux1_dev", f"base.path={folder}", "base.resolution=32", "base.bucket_step=16"]
        for key, drawn in (("base.weights", []), ("sample.base", ["sample=distilled"])):
            code = main(["plan", *words, *drawn, f"{key}={file}", "dataset.dollhouse.images=4"])
            said = " ".join(capsys.readouterr().err.split())
            assert (code, wanted in said) == (2 if wanted else 0, True), said
            assert not wanted or f"{key} " in said


@pytest.mark.parametrize("name", ["chroma", "qwen_image_21", "lumina2"])
def test_padding_is_hidden_with_gradient_checkpointing_too(name: str, tiny_flow: Callable[[str], Path]) -> None:
    """Where diffusers forgets the mask in half of Chroma's blocks."""
    module = importlib.import_module(f"lorasweep.components.bases.{name}")
    options = BaseOptions(name=name, path=str(tiny_flow(name)), resolution=32, bucket_step=8)
    answers = []
    for checkpointing in (False, True):
        memory = MemoryOptions(gradient_checkpointing=checkpointing)
        base = module.load(options, device="cpu", precision="fp32", memory=memory)
        text, start = base.encode_captions(PROMPTS), noise(base).requires_grad_(True)
        assert not text["mask"].all()
        answer = base.predict(start, torch.tensor([0.3, 0.8]), text, FRAMES)
        answers.append((answer, *torch.autograd.grad(answer.square().sum(), start)))
    for plain, checkpointed in zip(*answers, strict=True):
        assert torch.allclose(plain, checkpointed, atol=1e-5)


@torch.no_grad()
def test_krea_2_turbo_draws_by_a_shift_of_its_own(tiny_flow: Callable[[str], Path], tmp_path: Path) -> None:
    folder, turbo = tiny_flow("krea2"), tmp_path / "Turbo"
    for part in ("transformer", "scheduler"):
        shutil.copytree(folder / part, turbo / part)
    (turbo / "model_index.json").write_text(json.dumps({"_class_name": "Krea2Pipeline", "is_distilled": True}))
    module = importlib.import_module("lorasweep.components.bases.krea2")
    options = BaseOptions(name="krea2", path=str(folder), resolution=32, bucket_step=8)
    base = module.load(options, device="cpu", precision="fp32", sibling=str(turbo))
    with base.drawing() as drawn:
        found = denoise(drawn, noise(base), said(base)[0], None, FRAMES, sampler="euler", steps=3, guidance=1.0)
    pipeline = pipeline_of(base, "euler")
    pipeline.register_to_config(is_distilled=True)
    size = {"width": WIDTH, "height": HEIGHT, "num_inference_steps": 3}
    packed = base._pack(noise(base))
    wanted = pipeline(prompt=[*PROMPTS], **size, guidance_scale=0.0, latents=packed, output_type="latent").images
    assert (found - base._unpack(wanted, found.shape[-2:])).abs().max() < 1e-4
    plain = denoise(base, noise(base), said(base)[0], None, FRAMES, sampler="euler", steps=3, guidance=1.0)
    assert (plain - found).abs().max() > 1e-3


def test_a_qwen_image_21_as_comfyui_has_it_takes_the_place_of_the_folders(
    tiny_flow: Callable[[str], Path], tmp_path: Path
) -> None:
    """The gate of the feed-forward layers and what it opens are one there."""
    from safetensors.torch import load_file, save_file

    folder, file = tiny_flow("qwen_image_21"), tmp_path / "finetune.safetensors"
    weights = {
        key: tensor * 1.01 for key, tensor in load_file(next((folder / "transformer").glob("*.safetensors"))).items()
    }
    native = dict(weights)
    for key in [key for key in weights if key.endswith("img_mlp.gate_layer.weight")]:
        halves = [native.pop(key), native.pop(key.replace("gate_layer", "proj"))]
        native[key.replace("gate_layer", "gate_up")] = torch.cat(halves)
    save_file({f"model.diffusion_model.{key}": tensor for key, tensor in native.items()}, file)
    options = BaseOptions(name="qwen_image_21", path=str(folder), weights=str(file), resolution=32, bucket_step=8)
    module = importlib.import_module("lorasweep.components.bases.qwen_image_21")
    state = module.load(options, device="cpu", precision="fp32").denoiser.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in weights.items())


@torch.no_grad()
def test_lumina_2_is_told_what_the_pipeline_tells_it(shared: Load) -> None:
    """A caption may bring a system prompt of its own, as Neta Lumina's do."""
    base = shared("lumina2")
    pipeline, own = pipeline_of(base, "euler"), "You draw anime."
    for captions, how in ([["zkw"], {}], [[f"{own} <Prompt Start> zkw"], {"system_prompt": own}]):
        wanted, mask, nothing, alone = pipeline.encode_prompt(["zkw"], negative_prompt=[""], **how)
        for found, theirs, told in (
            (base.encode_captions(captions), wanted, mask),
            (base.encode_captions([""]), nothing, alone),
        ):
            assert found["mask"].all() and found["embeds"].shape[1] == told.sum()
            assert torch.allclose(found["embeds"], theirs[:, : told.sum()], atol=1e-5)


def test_a_folder_of_lumina_2_under_its_earlier_name_is_one(tiny_flow: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_flow("lumina2"), tmp_path / "it"))
    change_json(folder / "model_index.json", _class_name="Lumina2Text2ImgPipeline")
    module = importlib.import_module("lorasweep.components.bases.lumina2")
    options = BaseOptions(name="lumina2", path=str(folder), resolution=32, bucket_step=8)
    assert detect(folder) == "lumina2" and not module.problems(options)
