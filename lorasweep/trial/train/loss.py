"""The denoising loss: what is drawn for a batch, what the base should answer, and how an answer is weighed.

Every draw comes from a generator on the CPU, so that a seed means the same on every device. Knows nothing
about models, captions or optimizers.

B batch, C latent channels, H W latent size. t is the noise path's coordinate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from lorasweep.core.protocols import NoisePath
from lorasweep.core.records import NoiseOptions


@dataclass(frozen=True, kw_only=True)
class NoisyBatch:
    """What the base is asked about a batch, and the right answer; on the latents' device."""

    noisy_BCHW: torch.Tensor
    target_BCHW: torch.Tensor
    t_B: torch.Tensor


def make_noisy_batch(
    mean_BCHW: torch.Tensor,
    std_BCHW: torch.Tensor,
    path: NoisePath,
    *,
    generator: torch.Generator,
    options: NoiseOptions,
) -> NoisyBatch:
    """Draw latents, noise and its levels, with a generator on the CPU, and mix them.

    A latent is mean + std * eps of the VAE's posterior with a fresh eps. The offset times one normal number per sample
    and channel is added to the noise, then coarser noises. The perturbation is in `noisy_BCHW` alone.

    Source: N. Guttenberg, "Diffusion with Offset Noise" (2023); Ning et al., "Input Perturbation Reduces Exposure Bias"
    (2023), algorithm 1; kohya-ss/sd-scripts at 48d368fa, library/custom_train_functions.py (apply_noise_offset).
    """

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(mean_BCHW.device, non_blocking=True)

    batch, channels, height, width = mean_BCHW.shape
    latent_BCHW = mean_BCHW + std_BCHW * normal(batch, channels, height, width)
    noise_BCHW = normal(batch, channels, height, width)
    if options.offset:
        offset: float | torch.Tensor = options.offset
        if options.adaptive_noise_scale:
            means_BC11 = latent_BCHW.mean((2, 3), keepdim=True).abs()
            offset = (offset + options.adaptive_noise_scale * means_BC11).clamp(min=0)
        noise_BCHW = noise_BCHW + offset * normal(batch, channels, 1, 1)
    shift = path.shift((height, width)) if options.shift == "dynamic" else options.shift
    t_B = draw_levels(path, batch, generator, options, shift=shift).to(mean_BCHW.device, non_blocking=True)
    if options.multires_iterations:
        noise_BCHW = _with_coarser(noise_BCHW, normal, generator, options)
    shown_BCHW = noise_BCHW
    if options.input_perturbation:
        shown_BCHW = noise_BCHW + options.input_perturbation * normal(batch, channels, height, width)
    return NoisyBatch(
        noisy_BCHW=path.add(latent_BCHW, shown_BCHW, t_B),
        target_BCHW=path.target(latent_BCHW, noise_BCHW, t_B),
        t_B=t_B,
    )


def _with_coarser(
    noise_BCHW: torch.Tensor, normal: Callable[..., torch.Tensor], generator: torch.Generator, options: NoiseOptions
) -> torch.Tensor:
    """Add noises of ever fewer pixels, enlarged, and divide by what the whole batch deviates by.

    Source: J. Whitaker, "Multi-Resolution Noise for Diffusion Model Training" (2023); kohya-ss/sd-scripts at 48d368fa,
    library/custom_train_functions.py (pyramid_noise_like).
    """
    size = noise_BCHW.shape[2:]
    for number in range(options.multires_iterations):
        finer = (2 * torch.rand((), generator=generator).item() + 2) ** number
        height, width = (max(1, int(side / finer)) for side in size)
        coarse_BCHW = normal(*noise_BCHW.shape[:2], height, width)
        enlarged_BCHW = torch.nn.functional.interpolate(coarse_BCHW, size, mode="bilinear")
        noise_BCHW = noise_BCHW + options.multires_discount**number * enlarged_BCHW
        if 1 in (height, width):
            break
    return noise_BCHW / noise_BCHW.std()


def draw_levels(
    path: NoisePath, count: int, generator: torch.Generator, options: NoiseOptions, *, shift: float
) -> torch.Tensor:
    """Draw t (count,) on the CPU, by `options` but their shift.

    Source: Esser et al., "Scaling Rectified Flow Transformers" (2024), section 3.1 for logit-normal levels and
    appendix B.2 for the shift.
    """
    if options.levels == "uniform" and shift == 1:
        return path.uniform(count, generator, low=options.low, high=options.high)
    if options.levels == "uniform":
        u_B = torch.rand(count, generator=generator)
    else:
        u_B = torch.sigmoid(options.mean + options.std * torch.randn(count, generator=generator))
    u_B = shift * u_B / (1 + (shift - 1) * u_B)
    return path.t_of(options.low + (options.high - options.low) * u_B)


def weighted_loss(
    prediction_BCHW: torch.Tensor,
    noisy_batch: NoisyBatch,
    path: NoisePath,
    *,
    options: NoiseOptions,
    weights: Sequence[float] | None = None,
    mask_B1HW: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean over the batch of each sample's mean error, by `options.loss_type`, times its weights.

    Weights are one per sample (`PlannedImage.loss_weight`). The mean is over the number of samples, not over the
    weights, so a sample's pull does not depend on its batch; and over all places, however much the mask, 0 to 1, has
    each count, so a small subject pulls less.

    Source of the mask: kohya-ss/sd-scripts, library/custom_train_functions.py, apply_masked_loss.
    """
    difference_BCHW = prediction_BCHW.float() - noisy_batch.target_BCHW
    error_BCHW = _errors(difference_BCHW, path, noisy_batch.t_B, options)
    error_B = (error_BCHW if mask_B1HW is None else error_BCHW * mask_B1HW).flatten(1).mean(1)
    if weights is not None:
        error_B = error_B * torch.tensor(weights, dtype=error_B.dtype).to(error_B.device, non_blocking=True)
    by_level_B = level_weights(path, noisy_batch.t_B, options)
    return (error_B if by_level_B is None else error_B * by_level_B).mean()


def _errors(difference_BCHW: torch.Tensor, path: NoisePath, t_B: torch.Tensor, options: NoiseOptions) -> torch.Tensor:
    """Return what each number's error counts; huber is pseudo-Huber, smooth_l1 that by c.

    Source: Khrapov et al., "Improving Diffusion Models's Data-Corruption Resistance using Scheduled Pseudo-Huber Loss"
    (2024); kohya-ss/sd-scripts at 48d368fa, library/train_util.py (get_huber_threshold_if_needed, conditional_loss).
    """
    if options.loss_type == "l2":
        return difference_BCHW.square()
    if options.loss_type == "l1":
        return difference_BCHW.abs()
    if options.huber_schedule == "snr":
        c_B = (1 - options.huber_c) / (1 + path.snr(t_B) ** -0.5) ** 2 + options.huber_c
    else:
        falls_B = path.share(t_B) if options.huber_schedule == "exponential" else torch.ones_like(t_B)
        c_B = options.huber_c**falls_B
    c_B111 = c_B[:, None, None, None]
    counted_BCHW = 2 * ((difference_BCHW.square() + c_B111.square()).sqrt() - c_B111)
    return c_B111 * counted_BCHW if options.loss_type == "huber" else counted_BCHW


def level_weights(path: NoisePath, t_B: torch.Tensor, options: NoiseOptions) -> torch.Tensor | None:
    """Return the loss weights (B,) of levels of noise; None is 1 for all.

    min-SNR puts min(SNR, gamma) on the error of the image that an answer implies. Debiased and P2 multiply the
    answer's own error, as kohya (SNR at most 1000) and OneTrainer have them.

    Source: Hang et al., "Min-SNR Weighting Strategy" (2023), section 3.4; Yu et al., "Debias the Training of
    Diffusion Models" (2023), section 3.2; Choi et al., "Perception Prioritized Training" (2022), equation 8, k = 1.
    """
    if options.min_snr_gamma is not None:
        return path.snr(t_B).clamp(max=options.min_snr_gamma) / path.error_scale(t_B)
    if options.debiased:
        snr_B = path.snr(t_B).clamp(max=1000)
        return snr_B**-0.5 if path.prediction == "epsilon" else 1 / (snr_B + 1)
    if options.p2_gamma is not None:
        return (1 + path.error_scale(t_B)) ** -options.p2_gamma
    return None
