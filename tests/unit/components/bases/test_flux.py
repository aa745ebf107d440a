"""The first flow-matching transformer, FLUX.1, on tiny random weights: against diffusers' pipeline and example."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from oracle import both_losses, flux_example, pipeline_of
from tiny_flux import TOKENS, make_tiny_flux

from lorasweep import config
from lorasweep.components import bases
from lorasweep.components.bases import dollhouse_flow
from lorasweep.core.records import BaseOptions, Frame, NoiseOptions
from lorasweep.plan import calibration
from lorasweep.trial.denoise import denoise
from lorasweep.trial.train import loss

PROMPTS, NEGATIVES = ["zkw, red hair", "1girl, hat"], ["", "green hat"]
WIDTH, HEIGHT = 40, 24
FRAMES = [Frame.whole(WIDTH, HEIGHT)] * 2


def load(folder: Path) -> Any:
    options = BaseOptions(name="dollhouse_flow", path=str(folder), resolution=32, bucket_step=8)
    return dollhouse_flow.load(options, device="cpu", precision="fp32")


@pytest.fixture(scope="module", params=[False, True], ids=["static shift", "dynamic shift"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load(make_tiny_flux(tmp_path_factory.mktemp("base") / "it", dynamic_shift=request.param))


def noise(base: Any) -> torch.Tensor:
    return torch.randn(2, *base.latent.of(WIDTH, HEIGHT), generator=torch.Generator().manual_seed(3))


def drawn_by_pipeline(
    base: Any, steps: int, guidance: float, sampler: str = "euler"
) -> tuple[list[dict[str, Any]], torch.Tensor]:
    """What the pipeline's transformer was asked and answered, and the latents in the end."""
    asked: list[dict[str, Any]] = []

    def remember(module: Any, arguments: Any, keywords: dict[str, Any], output: Any) -> None:
        asked.append({**keywords, "answer": output[0]})

    pipeline = pipeline_of(base, sampler, steps=steps)
    handle = base.denoiser.register_forward_hook(remember, with_kwargs=True)
    try:
        tokens_BPF = pipeline(
            prompt=PROMPTS,
            negative_prompt=NEGATIVES,
            true_cfg_scale=guidance,
            width=WIDTH,
            height=HEIGHT,
            num_inference_steps=steps,
            latents=pipeline._pack_latents(noise(base), *noise(base).shape),
            max_sequence_length=TOKENS,
            output_type="latent",
        ).images
    finally:
        handle.remove()
    return asked, pipeline._unpack_latents(tokens_BPF, HEIGHT, WIDTH, pipeline.vae_scale_factor)


@torch.no_grad()
@pytest.mark.parametrize("sampler", ["euler", "ddim", "dpmpp_2m"])
def test_latents_are_those_of_the_pipeline(base: Any, sampler: str) -> None:
    _, wanted = drawn_by_pipeline(base, 7, 4.0, sampler)
    text, negative = base.encode_captions(PROMPTS), base.encode_captions(NEGATIVES)
    found = denoise(base, noise(base), text, negative, FRAMES, sampler=sampler, steps=7, guidance=4.0)
    assert wanted.abs().max() > 0.1 and (found - wanted).abs().max() < 1e-4


def test_images_and_noise_are_mixed_as_much_as_it_says(base: Any) -> None:
    clean, noise_BCHW, t_B = torch.full((2, 1, 1, 1), 3.0), torch.full((2, 1, 1, 1), 10.0), torch.tensor([0.1, 0.6])
    alpha_B, sigma_B = base.path.scales(t_B)
    assert base.path.add(clean, noise_BCHW, t_B).flatten().tolist() == pytest.approx(
        (3 * alpha_B + 10 * sigma_B).tolist()
    )
    assert sigma_B.tolist() == pytest.approx([0.1, 0.6]) and base.path.snr(t_B)[0] == pytest.approx(81)


@torch.no_grad()
def test_answers_are_what_the_pipeline_computes_inside(base: Any) -> None:
    (asked, *_), _ = drawn_by_pipeline(base, 3, 1.0)
    found = base.predict(noise(base), asked["timestep"], base.encode_captions(PROMPTS), FRAMES)
    assert (base._pack(found) - asked["answer"]).abs().max() < 1e-5 * asked["answer"].abs().max()


@torch.no_grad()
def test_pictures_come_back_from_their_latents_as_in_the_pipeline(base: Any) -> None:
    latent, vae = noise(base), base.vae
    wanted = vae.decode(latent / vae.config.scaling_factor + vae.config.shift_factor).sample
    assert torch.equal(base.decode_latents(latent), wanted)
    pixels = torch.rand(1, 3, HEIGHT, WIDTH) * 2 - 1
    raw = vae.encode(pixels).latent_dist.mean
    assert torch.allclose(base.encode_images(pixels)[0], (raw - 0.12) * 0.36, atol=1e-6)


def test_loss_and_gradient_are_those_of_diffusers_example(tiny_flux: Path) -> None:
    """Source: huggingface/diffusers, examples/dreambooth/train_dreambooth_lora_flux.py, weighting_scheme none."""
    base = load(tiny_flux)
    example = functools.partial(flux_example, prompts=PROMPTS, tokens=TOKENS, size=(WIDTH, HEIGHT))
    weight = base.denoiser.transformer_blocks[0].attn.to_q.weight
    (found, ours), (wanted, theirs) = both_losses(base, PROMPTS, FRAMES, weight, example)
    assert found == pytest.approx(wanted, rel=1e-6)
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-7)


def test_a_lora_of_one_picture_draws_that_picture(tiny_flux: Path) -> None:
    """A wrong sign, or time running the other way, cannot do it."""
    from lorasweep.components.adapters import lora

    base = load(tiny_flux)
    adapter = lora.build(base, seed=0, dim=16, alpha=16.0, dropout=0.0, targets="full", text_encoder=False)
    optimizer = torch.optim.AdamW(adapter.parameters()["transformer"], lr=5e-3)
    picture = torch.randn(1, *base.latent.of(16, 16), generator=torch.Generator().manual_seed(1))
    generator, frames = torch.Generator().manual_seed(2), [Frame.whole(16, 16)] * 8
    with torch.no_grad():
        text = base.encode_captions(["zkw"] * 8)
    for _ in range(100):
        mean = picture.expand(8, -1, -1, -1)
        question = loss.make_noisy_batch(
            mean, torch.zeros_like(mean), base.path, generator=generator, options=NoiseOptions()
        )
        answer = base.predict(question.noisy_BCHW, question.t_B, text, frames)
        optimizer.zero_grad()
        loss.weighted_loss(answer, question, base.path, options=NoiseOptions()).backward()
        optimizer.step()
    start = torch.randn(2, *picture.shape[1:], generator=generator)
    row = {name: tensor[:2] for name, tensor in text.items()}
    with torch.no_grad():
        drawn = denoise(base, start, row, None, frames[:2], sampler="euler", steps=10, guidance=1.0)
        adapter.set_weight(0.0)
        plain = denoise(base, start, row, None, frames[:2], sampler="euler", steps=10, guidance=1.0)
    near, far = ((each - picture).square().mean().item() for each in (drawn, plain))
    assert near < 0.5 * picture.square().mean() < picture.square().mean() < far


@pytest.mark.parametrize("form", ["trained", "exported"])
def test_diffusers_reads_its_loras_back(tiny_flux: Path, tmp_path: Path, form: str) -> None:
    """Every module of both parts, at the strength that was trained, whether alpha is told or folded."""
    from safetensors.numpy import save_file

    from lorasweep.components.adapters import lora
    from lorasweep.results.export.whole import to_kohya
    from lorasweep.results.export.write import _read

    base = load(tiny_flux)
    adapter = lora.build(base, seed=0, dim=8, alpha=2.0, dropout=0.0, targets="full", text_encoder=True)
    torch.manual_seed(0)
    for tensors in adapter.parameters().values():
        for tensor in tensors:
            torch.nn.init.normal_(tensor, std=0.2)
    file = tmp_path / "it.safetensors"
    adapter.save(file)
    if form == "exported":
        tensors = to_kohya(*_read(file))
        assert not any("alpha" in key for key in tensors) and len(tensors) == 2 * len(adapter.layers)
        save_file(tensors, file)
    level = torch.full((2,), 0.5)
    with torch.no_grad():
        wanted = base.predict(noise(base), level, base.encode_captions(PROMPTS), FRAMES)
        plain = load(tiny_flux)
        before = plain.predict(noise(plain), level, plain.encode_captions(PROMPTS), FRAMES)
        pipeline_of(plain, "euler").load_lora_weights(tmp_path, weight_name=file.name, adapter_name="it")
        found = plain.predict(noise(plain), level, plain.encode_captions(PROMPTS), FRAMES)
    assert (wanted - before).abs().max() > 0.1 and (found - wanted).abs().max() < 1e-5


def test_dynamic_levels_are_shifted_as_the_pipeline_shifts_its_own(base: Any) -> None:
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    options = NoiseOptions(levels="logit_normal", std=1.3, shift="dynamic")
    mean = torch.zeros(64, *base.latent.of(WIDTH, HEIGHT))
    question = loss.make_noisy_batch(mean, mean, base.path, generator=torch.Generator().manual_seed(0), options=options)
    again = torch.Generator().manual_seed(0)
    torch.randn(2, *mean.shape, generator=again)
    plain = torch.sigmoid(1.3 * torch.randn(64, generator=again))
    scheduler = base.noise_schedule
    names = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
    mu = calculate_shift((WIDTH // 8) * (HEIGHT // 8), *(scheduler.config[name] for name in names))
    if scheduler.config.use_dynamic_shifting:
        wanted = scheduler.time_shift(mu, 1.0, plain)
    else:
        wanted = 2.0 * plain / (1.0 + plain)
    assert torch.allclose(question.t_B, wanted, atol=1e-6) and (question.t_B != plain).all()


def test_what_makes_no_sense_on_flow_is_refused_before_any_work(
    tiny_flux: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from lorasweep.cli import main

    words = ["base=dollhouse_flow", f"base.path={tiny_flux}", "dataset.dollhouse.images=8"]
    wrong = ["noise.min_snr_gamma=5", "noise.debiased=true", "noise.p2_gamma=1", "noise.offset=0.1"]
    wrong += ["noise.multires_iterations=6", "noise.adaptive_noise_scale=0.1", "noise.loss_type=huber"]
    assert main(["train", *words, *wrong]) == 2
    told = capsys.readouterr().err
    assert "noise.huber_schedule=constant" in told
    assert all(f"override: noise.{key}={off}" in told for key, off in
               {"min_snr_gamma": "null", "debiased": "false", "p2_gamma": "null", "offset": "0.0",
                "multires_iterations": "0", "adaptive_noise_scale": "0.0"}.items())  # fmt: skip
    assert main(["plan", *words, "base.prediction_type=v_prediction", "base.zero_terminal_snr=true"]) == 2
    assert "base.zero_terminal_snr" in capsys.readouterr().err
    assert main(["plan", "noise=dynamic_shift"]) == 2
    assert "noise.shift  must be a number on a base that predicts epsilon, got dynamic" in capsys.readouterr().err


def test_a_file_that_was_exported_is_judged_on_it_again(tiny_flux: Path, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    from lorasweep.components.adapters import file, lora
    from lorasweep.results.export.whole import to_kohya
    from lorasweep.results.export.write import _read

    base, path = load(tiny_flux), tmp_path / "it.safetensors"
    adapter = lora.build(base, seed=0, dim=4, alpha=2.0, dropout=0.0, targets="attn-mlp", text_encoder=False)
    for tensor in adapter.parameters()["transformer"]:
        torch.nn.init.normal_(tensor, std=0.2, generator=torch.Generator().manual_seed(0))
    adapter.save(path)
    save_file(to_kohya(*_read(path)), path)
    level = torch.full((2,), 0.5)
    with torch.no_grad():
        text = base.encode_captions(PROMPTS)
        wanted = base.predict(noise(base), level, text, FRAMES)
        adapter.remove()
        file.build(base, seed=0, path=str(path))
        assert torch.allclose(base.predict(noise(base), level, text, FRAMES), wanted, atol=1e-5)


def test_scopes_take_what_its_trainers_count(tiny_flux: Path) -> None:
    """FLUX.1 itself, of 19 double and 38 single blocks, has 266, 418 and 494 of such modules."""
    from lorasweep.components.adapters._targets import find_targets

    transformer, (double, single) = load(tiny_flux).denoiser, (1, 2)
    counts = {scope: len(find_targets(transformer, pattern)) for scope, pattern in dollhouse_flow.SCOPES.items()}
    attn = 8 * double + 3 * single
    mlp = attn + 4 * double + 2 * single
    assert counts == {"attn": attn, "attn-mlp": mlp, "full": mlp + 2 * double + single}  # the last: modulation


def test_the_quickstart_runs_on_it_as_it_comes_judged_by_limits_of_its_own(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from lorasweep.cli import main

    assert main(["plan", "quickstart", "base=dollhouse_flow"]) == 0
    assert "overcooked" in capsys.readouterr().out
    recipe = config.compose_recipe(["base=dollhouse_flow"])
    found = calibration.find(recipe, bases.fingerprint(recipe))
    assert found.calibration.name == "dollhouse_flow" and not found.reason
