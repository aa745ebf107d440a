"""The denoising loss: what is drawn for a batch, what the UNet should answer, and how an answer is weighed.

Every draw comes from a generator on the CPU, so that a seed means the same on every device. Knows nothing
about models, captions or optimizers.

B batch, C latent channels, H W latent size. t in [0, T), T the length of the noise schedule (1000).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True)
class Question:
    """What the UNet is asked about a batch, and the right answer; on the latents' device."""

    noisy_BCHW: torch.Tensor
    target_BCHW: torch.Tensor
    timestep_B: torch.Tensor


def ask(
    mean_BCHW: torch.Tensor,
    std_BCHW: torch.Tensor,
    noise_schedule: Any,
    *,
    generator: torch.Generator,
    noise_offset: float = 0.0,
) -> Question:
    """Draw latents, noise and timesteps, and mix them.

    Args:
        mean_BCHW: of the VAE's posterior.
        std_BCHW: likewise; a latent is mean + std * eps with a fresh eps.
        noise_schedule: a diffusers scheduler; its `prediction_type` decides the target.
        generator: on the CPU.
        noise_offset: adds this times one normal number per sample and channel to the noise; 0 adds none.

    Source: Ho et al., "DDPM" (2020), algorithm 1; Salimans & Ho, "Progressive Distillation" (2022), appendix
    D, for v; N. Guttenberg, "Diffusion with Offset Noise" (2023).
    """

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(mean_BCHW.device)

    batch, channels, height, width = mean_BCHW.shape
    latent_BCHW = mean_BCHW + std_BCHW * normal(batch, channels, height, width)
    noise_BCHW = normal(batch, channels, height, width)
    if noise_offset:
        noise_BCHW = noise_BCHW + noise_offset * normal(batch, channels, 1, 1)
    steps = noise_schedule.config.num_train_timesteps
    timestep_B = torch.randint(0, steps, (batch,), generator=generator).to(mean_BCHW.device)
    velocity = noise_schedule.config.prediction_type == "v_prediction"
    return Question(
        noisy_BCHW=noise_schedule.add_noise(latent_BCHW, noise_BCHW, timestep_B),
        target_BCHW=noise_schedule.get_velocity(latent_BCHW, noise_BCHW, timestep_B) if velocity else noise_BCHW,
        timestep_B=timestep_B,
    )


def weigh(
    prediction_BCHW: torch.Tensor,
    question: Question,
    noise_schedule: Any,
    *,
    min_snr_gamma: float | None,
    weights: Sequence[float] | None = None,
) -> torch.Tensor:
    """Mean over the batch of each sample's mean squared error, times its weights.

    Args:
        prediction_BCHW: the UNet's answer.
        question: what it was asked.
        noise_schedule: as given to `ask`.
        min_snr_gamma: weighs each sample by its timestep; None does not.
        weights: one per sample (`PlannedImage.loss_weight`); None is 1 for all. The mean is over the number
            of samples, not over the weights, so a sample's pull does not depend on its batch.
    """
    error_B = (prediction_BCHW.float() - question.target_BCHW).square().flatten(1).mean(1)
    if weights is not None:
        error_B = error_B * torch.tensor(weights, dtype=error_B.dtype, device=error_B.device)
    if min_snr_gamma is not None:
        error_B = error_B * min_snr_weights(noise_schedule, question.timestep_B, gamma=min_snr_gamma)
    return error_B.mean()


def min_snr_weights(noise_schedule: Any, timestep_B: torch.Tensor, *, gamma: float) -> torch.Tensor:
    """Loss weights (B,) that keep easy, nearly clean timesteps from ruling: min(SNR, gamma) on x0's error.

    An error in x0 is the noise error over SNR and the v error over SNR + 1, hence min(SNR, gamma) / SNR for
    epsilon and min(SNR, gamma) / (SNR + 1) for v.

    Raises:
        ValueError: an error in epsilon says nothing about x0 where the SNR is 0, as it is in the end with
            zero terminal SNR.

    Source: Hang et al., "Efficient Diffusion Training via Min-SNR Weighting Strategy" (2023), section 3.4.
    """
    velocity = noise_schedule.config.prediction_type == "v_prediction"
    if noise_schedule.config.rescale_betas_zero_snr and not velocity:
        raise ValueError("min-SNR weights of epsilon are 0 / 0 at the last timestep with zero terminal SNR")
    alpha_bar_B = noise_schedule.alphas_cumprod.to(timestep_B.device)[timestep_B]
    snr_B = alpha_bar_B / (1.0 - alpha_bar_B)
    return snr_B.clamp(max=gamma) / (snr_B + 1.0 if velocity else snr_B)
