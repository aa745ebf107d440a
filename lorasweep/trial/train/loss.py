"""The denoising loss: what is drawn for a batch, what the base should answer, and how an answer is weighed.

Every draw comes from a generator on the CPU, so that a seed means the same on every device. Knows nothing
about models, captions or optimizers.

B batch, C latent channels, H W latent size. t is the noise path's coordinate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lorasweep.core.protocols import NoisePath


@dataclass(frozen=True, kw_only=True)
class Question:
    """What the base is asked about a batch, and the right answer; on the latents' device."""

    noisy_BCHW: torch.Tensor
    target_BCHW: torch.Tensor
    t_B: torch.Tensor


def ask(
    mean_BCHW: torch.Tensor,
    std_BCHW: torch.Tensor,
    path: NoisePath,
    *,
    generator: torch.Generator,
    noise_offset: float = 0.0,
) -> Question:
    """Draw latents, noise and its levels, and mix them.

    Args:
        mean_BCHW: of the VAE's posterior.
        std_BCHW: likewise; a latent is mean + std * eps with a fresh eps.
        path: mixes, and says what is asked for.
        generator: on the CPU.
        noise_offset: adds this times one normal number per sample and channel to the noise; 0 adds none.

    Source: N. Guttenberg, "Diffusion with Offset Noise" (2023).
    """

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(mean_BCHW.device)

    batch, channels, height, width = mean_BCHW.shape
    latent_BCHW = mean_BCHW + std_BCHW * normal(batch, channels, height, width)
    noise_BCHW = normal(batch, channels, height, width)
    if noise_offset:
        noise_BCHW = noise_BCHW + noise_offset * normal(batch, channels, 1, 1)
    t_B = path.uniform(batch, generator).to(mean_BCHW.device)
    return Question(
        noisy_BCHW=path.add(latent_BCHW, noise_BCHW, t_B),
        target_BCHW=path.target(latent_BCHW, noise_BCHW, t_B),
        t_B=t_B,
    )


def weigh(
    prediction_BCHW: torch.Tensor,
    question: Question,
    path: NoisePath,
    *,
    min_snr_gamma: float | None,
    weights: Sequence[float] | None = None,
) -> torch.Tensor:
    """Mean over the batch of each sample's mean squared error, times its weights.

    Args:
        prediction_BCHW: the base's answer.
        question: what it was asked.
        path: as given to `ask`.
        min_snr_gamma: weighs each sample by its level of noise; None does not.
        weights: one per sample (`PlannedImage.loss_weight`); None is 1 for all. The mean is over the number
            of samples, not over the weights, so a sample's pull does not depend on its batch.
    """
    error_B = (prediction_BCHW.float() - question.target_BCHW).square().flatten(1).mean(1)
    if weights is not None:
        error_B = error_B * torch.tensor(weights, dtype=error_B.dtype, device=error_B.device)
    if min_snr_gamma is not None:
        error_B = error_B * min_snr_weights(path, question.t_B, gamma=min_snr_gamma)
    return error_B.mean()


def min_snr_weights(path: NoisePath, t_B: torch.Tensor, *, gamma: float) -> torch.Tensor:
    """Loss weights (B,) that keep easy, nearly clean levels from ruling: min(SNR, gamma) on x0's error.

    Source: Hang et al., "Efficient Diffusion Training via Min-SNR Weighting Strategy" (2023), section 3.4.
    """
    return path.snr(t_B).clamp(max=gamma) / path.error_scale(t_B)
