"""The loss against diffusers' own functions and against statistics of what is drawn."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from lorasweep.components.bases._paths import VP
from lorasweep.core.records import NoiseOptions
from lorasweep.trial.train import loss

MIN_SNR = NoiseOptions(min_snr_gamma=5.0)


def min_snr_weights(path: VP, t: torch.Tensor) -> torch.Tensor:
    found = loss.level_weights(path, t, MIN_SNR)
    assert found is not None
    return found


def schedule(prediction_type: str = "epsilon", **more: Any) -> Any:
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return DDPMScheduler(**betas, prediction_type=prediction_type, **more)


def noise_path(prediction_type: str = "epsilon", **more: Any) -> VP:
    return VP(schedule(prediction_type, **more).alphas_cumprod, prediction_type)


def ask(prediction_type: str = "epsilon", *, batch: int = 4, seed: int = 0, **knobs: Any) -> loss.NoisyBatch:
    mean = torch.full((batch, 4, 6, 8), 0.5)
    generator = torch.Generator().manual_seed(seed)
    path, options = noise_path(prediction_type), NoiseOptions(**knobs)
    return loss.make_noisy_batch(mean, torch.full_like(mean, 0.25), path, generator=generator, options=options)


def test_same_seed_same_question_and_global_generator_untouched() -> None:
    before = torch.get_rng_state()
    first, second, other = ask(), ask(), ask(seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.noisy_BCHW, second.noisy_BCHW)
    assert not torch.equal(first.noisy_BCHW, other.noisy_BCHW)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_answer_leads_back_to_a_latent_of_the_posterior(prediction_type: str) -> None:
    question = ask(prediction_type, batch=256)
    alpha_bar = schedule().alphas_cumprod[question.t_B].double()[:, None, None, None]
    noisy, target = question.noisy_BCHW.double(), question.target_BCHW.double()
    if prediction_type == "epsilon":
        latent = (noisy - (1 - alpha_bar).sqrt() * target) / alpha_bar.sqrt()
    else:
        latent = alpha_bar.sqrt() * noisy - (1 - alpha_bar).sqrt() * target
    assert latent.mean() == pytest.approx(0.5, abs=0.01)
    assert latent.std() == pytest.approx(0.25, abs=0.01)


def test_timesteps_cover_the_schedule_evenly() -> None:
    timesteps = ask(batch=4000).t_B
    assert timesteps.min() >= 0 and timesteps.max() <= 999
    counts = torch.histc(timesteps.float(), bins=10, min=0, max=1000)
    assert counts.min() > 320 and counts.max() < 480  # 400 expected, 4 standard deviations


def test_noise_offset_moves_whole_channels() -> None:
    plain, offset = ask(batch=512), ask(batch=512, offset=1.0)
    # Mean over 48 pixels: variance 1/48 without, 1/48 + 1 with.
    assert plain.target_BCHW.mean((2, 3)).var() == pytest.approx(1 / 48, rel=0.15)
    means_BC = offset.target_BCHW.mean((2, 3))
    assert means_BC.var() == pytest.approx(1 / 48 + 1, rel=0.15)
    assert (torch.corrcoef(means_BC.T) - torch.eye(4)).abs().max() < 0.2  # every channel by its own number


def test_plain_loss_is_the_mean_squared_error() -> None:
    question = ask()
    answer = torch.randn(question.target_BCHW.shape, generator=torch.Generator().manual_seed(5))
    found = loss.weighted_loss(answer, question, noise_path(), options=NoiseOptions())
    assert found == pytest.approx(torch.nn.functional.mse_loss(answer, question.target_BCHW).item(), rel=1e-6)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_min_snr_weights_are_those_of_the_diffusers_scripts(prediction_type: str) -> None:
    noise_schedule, timesteps = schedule(prediction_type), torch.arange(0, 1000, 7)
    snr = compute_snr(noise_schedule, timesteps)
    clipped = torch.stack([snr, torch.full_like(snr, 5.0)], 1).min(1).values
    wanted = clipped / (snr + 1 if prediction_type == "v_prediction" else snr)
    found = min_snr_weights(noise_path(prediction_type), timesteps)
    assert found.min() < 0.1 < found.max()
    assert torch.allclose(found, wanted, rtol=1e-4)


def test_min_snr_weighs_each_sample_by_its_own_timestep() -> None:
    question, path = ask(), noise_path()
    answer = torch.zeros_like(question.target_BCHW)
    weights = min_snr_weights(path, question.t_B)
    errors = question.target_BCHW.square().mean((1, 2, 3))
    found = loss.weighted_loss(answer, question, path, options=MIN_SNR)
    assert found == pytest.approx((weights * errors).mean().item(), rel=1e-5)
    assert found < loss.weighted_loss(answer, question, path, options=NoiseOptions())


def test_a_samples_weight_multiplies_its_loss_and_gradient_and_touches_no_other() -> None:
    question, path = ask(), noise_path()
    answer = torch.randn(question.target_BCHW.shape, generator=torch.Generator().manual_seed(5))
    weights = [1.0, 0.25, 1.0, 3.0]

    def loss_and_gradient(weights: list[float] | None) -> tuple[torch.Tensor, torch.Tensor]:
        leaf = answer.clone().requires_grad_()
        found = loss.weighted_loss(leaf, question, path, options=MIN_SNR, weights=weights)
        found.backward()
        assert leaf.grad is not None
        return found.detach(), leaf.grad

    plain, plain_gradient = loss_and_gradient(None)
    weighed, gradient = loss_and_gradient(weights)
    assert not torch.allclose(weighed, plain, rtol=1e-3)
    # The closed form, in float64: mean over samples of weight x min-SNR weight x mean squared error.
    alpha_bar = path.alpha_bar_T.double()[question.t_B]
    snr = alpha_bar / (1 - alpha_bar)
    errors = (answer.double() - question.target_BCHW.double()).square().mean((1, 2, 3))
    wanted = (torch.tensor(weights, dtype=torch.float64) * snr.clamp(max=5.0) / snr * errors).mean()
    assert weighed.double() == pytest.approx(wanted.item(), rel=1e-5)
    ratio = torch.tensor(weights)[:, None, None, None]
    assert torch.allclose(gradient, ratio * plain_gradient, rtol=1e-6, atol=0)
    assert torch.equal(gradient[[0, 2]], plain_gradient[[0, 2]])
    assert torch.equal(loss_and_gradient([1.0] * 4)[1], plain_gradient)


def test_min_snr_of_v_leaves_the_last_timestep_of_zero_terminal_snr_out() -> None:
    path = noise_path("v_prediction", rescale_betas_zero_snr=True)
    assert min_snr_weights(path, torch.tensor([999])) == 0


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_what_is_asked_is_what_the_diffusers_scripts_ask(prediction_type: str) -> None:
    noised, path, t = schedule(prediction_type), noise_path(prediction_type), torch.tensor([0, 250, 999])
    clean, noise = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(path.add(clean, noise, t), noised.add_noise(clean, noise, t))
    target = noise if prediction_type == "epsilon" else noised.get_velocity(clean, noise, t)
    assert torch.equal(path.target(clean, noise, t), target)


def test_debiased_and_p2_are_kohyas_and_onetrainers() -> None:
    t = torch.tensor([0, 400, 999])
    for prediction_type in ("epsilon", "v_prediction"):
        path, snr = noise_path(prediction_type), compute_snr(schedule(prediction_type), t)
        clipped = snr.clamp(max=1000)
        debiased = 1 / (clipped + 1) if prediction_type == "v_prediction" else 1 / clipped.sqrt()
        p2 = (1 + snr + (prediction_type == "v_prediction")) ** -0.5
        options = NoiseOptions(debiased=True), NoiseOptions(p2_gamma=0.5)
        found = [loss.level_weights(path, t, each) for each in options]
        for one, wanted in zip(found, (debiased, p2), strict=True):
            assert one is not None and torch.allclose(one, wanted, rtol=1e-4)


@pytest.mark.parametrize(
    ("knobs", "median", "least", "most"),
    [
        ({}, 500, 0, 999),
        ({"low": 0.2, "high": 0.6}, 400, 200, 599),
        ({"shift": 3.0}, 750, 0, 999),
        ({"levels": "logit_normal"}, 500, 0, 999),
        ({"levels": "logit_normal", "mean": 1.0, "std": 0.5}, 731, 0, 999),
        ({"levels": "logit_normal", "shift": 2.0, "low": 0.5}, 833, 500, 999),
    ],
)
def test_levels_are_drawn_where_they_say(knobs: dict[str, Any], median: int, least: int, most: int) -> None:
    t = loss.draw_levels(
        noise_path(),
        20_000,
        torch.Generator().manual_seed(0),
        NoiseOptions(**knobs),
        shift=knobs.get("shift", 1.0),
    )
    assert int(t.min()) >= least and int(t.max()) <= most
    assert float(t.float().median()) == pytest.approx(median, abs=12)


def test_noise_is_kohyas_with_offset_by_brightness_coarser_noises_and_perturbation() -> None:
    knobs = {"offset": 0.1, "adaptive_noise_scale": -0.3, "multires_iterations": 6, "input_perturbation": 0.2}
    plain, question = ask(batch=2), ask(batch=2, **knobs)
    again = torch.Generator().manual_seed(0)
    latent = 0.5 + 0.25 * torch.randn(2, 4, 6, 8, generator=again)
    noise = torch.randn(2, 4, 6, 8, generator=again)
    by_channel = torch.randn(2, 4, 1, 1, generator=again)
    noise = noise + (0.1 - 0.3 * latent.mean((2, 3), keepdim=True).abs()).clamp(min=0) * by_channel
    t = noise_path().uniform(2, again)
    for number in range(6):  # 6 x 8 is 1 x 1 or 1 x 2 in the second or third place
        times = (2 + 2 * float(torch.rand((), generator=again))) ** number
        size = max(1, int(6 / times)), max(1, int(8 / times))
        coarse = torch.randn(2, 4, *size, generator=again)
        noise = noise + torch.nn.Upsample((6, 8), mode="bilinear")(coarse) * 0.3**number
        if 1 in size:
            break
    noise = noise / noise.std()
    shown = noise + 0.2 * torch.randn(2, 4, 6, 8, generator=again)
    assert torch.equal(question.t_B, t) and not torch.equal(plain.target_BCHW, question.target_BCHW)
    assert torch.allclose(question.target_BCHW, noise, rtol=0, atol=1e-6)  # the perturbation is not asked for
    assert torch.allclose(question.noisy_BCHW, schedule().add_noise(latent, shown, t), rtol=0, atol=1e-6)


@pytest.mark.parametrize("huber_schedule", ["constant", "exponential", "snr"])
@pytest.mark.parametrize("loss_type", ["l1", "huber", "smooth_l1"])
def test_losses_are_kohyas_in_closed_form(loss_type: str, huber_schedule: str) -> None:
    question, c = ask(), 0.2
    answer = torch.randn(question.target_BCHW.shape, generator=torch.Generator().manual_seed(5))
    error = (answer.double() - question.target_BCHW.double()).abs()
    alpha_bar = schedule().alphas_cumprod.double()[question.t_B]
    at = {
        "constant": torch.full_like(alpha_bar, c),
        "exponential": torch.exp(math.log(c) / 1000 * question.t_B.double()),
        "snr": (1 - c) / (1 + ((1 - alpha_bar) / alpha_bar).sqrt()) ** 2 + c,
    }[huber_schedule][:, None, None, None]
    smooth = 2 * ((error**2 + at**2).sqrt() - at)
    wanted = {"l1": error, "huber": at * smooth, "smooth_l1": smooth}[loss_type].mean().item()
    options = NoiseOptions(loss_type=loss_type, huber_c=c, huber_schedule=huber_schedule)  # type: ignore[arg-type]
    found = loss.weighted_loss(answer, question, noise_path(), options=options)
    assert found.item() == pytest.approx(wanted, rel=1e-5)
    weighed = dataclasses.replace(options, min_snr_gamma=5.0)
    assert loss.weighted_loss(answer, question, noise_path(), options=weighed) < found
