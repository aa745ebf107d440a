"""Noise paths: how images and noise are mixed, what is asked for, and the steps back. They know no model.

Implements `protocols.NoisePath`. B rows, C H W latent; alpha scales the image and sigma the noise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lorasweep.core.protocols import Sampling

# What samplers that work with noise levels take for the SNR of zero terminal SNR's last timestep, as diffusers does.
_LEAST_ALPHA_BAR = 2.0**-24
_FIRST_OF_DPM = 0.999  # level
SPACINGS = ("karras", "exponential", "beta")  # of which the first that is switched on counts, as in diffusers
_RESCALE = 0.7  # of guided answers on zero terminal SNR, which are too bright without; Lin et al., section 3.4


@dataclass(frozen=True, eq=False)
class VP:
    """Variance preserving: alpha^2 + sigma^2 = 1, in T discrete timesteps; t is a whole number in [0, T).

    Source: Ho et al., "DDPM" (2020), algorithm 1; Salimans & Ho, "Progressive Distillation" (2022), appendix D,
    for v = alpha noise - sigma image.
    """

    alpha_bar_T: torch.Tensor  # alpha^2 by timestep, falling; 0 at the end with zero terminal SNR
    prediction: str  # `epsilon` or `v_prediction`

    @property
    def zero_terminal_snr(self) -> bool:
        """Whether the last timestep is nothing but noise."""
        return bool(self.alpha_bar_T[-1] == 0)

    @property
    def rescale(self) -> float:
        """See `protocols.NoisePath`."""
        return _RESCALE if self._trailing else 0.0

    @property
    def _trailing(self) -> bool:
        """Whether drawing begins at the last timestep."""
        return self.zero_terminal_snr and self.prediction == "v_prediction"

    def scales(self, t_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `protocols.NoisePath`."""
        alpha_bar_B = self._alpha_bar(t_B)
        return alpha_bar_B**0.5, (1 - alpha_bar_B) ** 0.5

    def add(self, clean_BCHW: torch.Tensor, noise_BCHW: torch.Tensor, t_B: torch.Tensor) -> torch.Tensor:
        """See `protocols.NoisePath`."""
        alpha, sigma = self._broadcast(t_B)
        return alpha * clean_BCHW + sigma * noise_BCHW

    def target(self, clean_BCHW: torch.Tensor, noise_BCHW: torch.Tensor, t_B: torch.Tensor) -> torch.Tensor:
        """See `protocols.NoisePath`."""
        if self.prediction == "epsilon":
            return noise_BCHW
        alpha, sigma = self._broadcast(t_B)
        return alpha * noise_BCHW - sigma * clean_BCHW

    def split(
        self, noisy_BCHW: torch.Tensor, answer_BCHW: torch.Tensor, alpha: float, sigma: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `protocols.NoisePath`."""
        if self.prediction == "epsilon":
            return (noisy_BCHW - sigma * answer_BCHW) / alpha, answer_BCHW
        return alpha * noisy_BCHW - sigma * answer_BCHW, alpha * answer_BCHW + sigma * noisy_BCHW

    def snr(self, t_B: torch.Tensor) -> torch.Tensor:
        """See `protocols.NoisePath`."""
        alpha_bar_B = self._alpha_bar(t_B)
        return alpha_bar_B / (1.0 - alpha_bar_B)

    def t_of(self, u_B: torch.Tensor) -> torch.Tensor:
        """See `protocols.NoisePath`."""
        last = len(self.alpha_bar_T) - 1
        return (u_B * len(self.alpha_bar_T)).long().clamp(0, last)

    def share(self, t_B: torch.Tensor) -> torch.Tensor:
        """See `protocols.NoisePath`."""
        return t_B / len(self.alpha_bar_T)

    def as_noisy_as(self, timestep: int) -> torch.Tensor:
        """See `protocols.NoisePath`."""
        wanted = torch.logit(_STABLE_DIFFUSION[timestep])
        return (torch.logit(self.alpha_bar_T.cpu()) - wanted).abs().argmin()

    def uniform(self, count: int, generator: torch.Generator, *, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        """See `protocols.NoisePath`."""
        steps = len(self.alpha_bar_T)
        first = min(int(low * steps), steps - 1)
        return torch.randint(first, max(first + 1, round(high * steps)), (count,), generator=generator)

    def error_scale(self, t_B: torch.Tensor) -> torch.Tensor:
        """See `protocols.NoisePath`: SNR for epsilon, SNR + 1 for v."""
        return self.snr(t_B) if self.prediction == "epsilon" else self.snr(t_B) + 1.0

    def shift(self, size: tuple[int, int]) -> float:
        """See `protocols.NoisePath`: none."""
        return 1.0

    def sampling(self, sampler: str, steps: int, size: tuple[int, int]) -> Sampling:
        """See `protocols.NoisePath`: the timesteps of diffusers' DDIM, Euler and DPM-Solver++ 2M schedulers.

        Zero terminal SNR with v begins at the last timestep ("trailing"), which such a base was trained to begin
        from; all others take "leading" timesteps, one later.

        Source: Lin et al., "Common Diffusion Noise Schedules and Sample Steps Are Flawed" (2024), section 3.3.
        """
        total = len(self.alpha_bar_T)
        if self._trailing:
            asked = [round(total - place * total / steps) - 1 for place in range(steps)]
        else:
            spaces = steps + 1 if sampler == "dpmpp_2m" else steps
            asked = [min(place * (total // spaces) + 1, total - 1) for place in range(spaces)][::-1][:steps]
        alpha_bars = self.alpha_bar_T.tolist()
        if sampler == "ddim":
            after = [alpha_bars[max(0, t - total // steps)] for t in asked]
            start = 1.0
        else:
            alpha_bars = [max(value, _LEAST_ALPHA_BAR) for value in alpha_bars]
            after = [*(alpha_bars[t] for t in asked[1:]), 1.0]
            # Euler's first noise is as loud as the level says; without "trailing", as that and an image together.
            start = math.sqrt(1 - alpha_bars[asked[0]]) if self._trailing and sampler == "euler" else 1.0
        return Sampling(
            start=start,
            steps=[
                (torch.tensor(t), _scales(alpha_bars[t]), _scales(goal)) for t, goal in zip(asked, after, strict=True)
            ],
        )

    def _alpha_bar(self, t_B: torch.Tensor) -> torch.Tensor:
        return self.alpha_bar_T.to(t_B.device)[t_B]

    def _broadcast(self, t_B: torch.Tensor) -> Sequence[torch.Tensor]:
        return [scale_B[:, None, None, None] for scale_B in self.scales(t_B)]


@dataclass(frozen=True, eq=False)
class Flow:
    """Straight lines: x_t = (1 - t) x + t n for t in [0, 1], and the answer is the velocity n - x.

    Source: Liu et al., "Flow Straight and Fast" (2022); Esser et al., "Scaling Rectified Flow Transformers" (2024),
    section 5.3.2 for the shift of levels in larger pictures.
    """

    # Of drawing: log of the shift at one number of image tokens and at another, between which and beyond which it
    # goes straight; equal ones are a shift for all sizes.
    shifts: tuple[tuple[int, float], tuple[int, float]]
    latents_per_token: int = 4
    terminal: float | None = None  # of drawing: the level before the image, which the others are stretched to meet
    spacing: str = ""  # of drawing: how levels lie between the first and that one, if not as they are; of `SPACINGS`

    prediction = "flow"
    rescale = 0.0

    @classmethod
    def of(cls, config: Mapping[str, Any], *, latents_per_token: int) -> Flow:
        """Return the path of diffusers' FlowMatchEulerDiscreteScheduler with that config."""
        few, many = config["base_image_seq_len"], config["max_image_seq_len"]
        low = high = math.log(config["shift"])
        if config["use_dynamic_shifting"]:
            low, high = config["base_shift"], config["max_shift"]
        spacing = next((name for name in SPACINGS if config.get(f"use_{name}_sigmas")), "")
        return cls(((few, low), (many, high)), latents_per_token, config.get("shift_terminal"), spacing)

    def shift(self, size: tuple[int, int]) -> float:
        """See `protocols.NoisePath`."""
        (few, low), (many, high) = self.shifts
        tokens = math.prod(size) / self.latents_per_token
        return math.exp(low + (high - low) * (tokens - few) / (many - few))

    def _drawn_shift(self, size: tuple[int, int], steps: int) -> float:
        return self.shift(size)

    def scales(self, t_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `protocols.NoisePath`."""
        return 1 - t_B, t_B

    def add(self, clean_BCHW: torch.Tensor, noise_BCHW: torch.Tensor, t_B: torch.Tensor) -> torch.Tensor:
        """See `protocols.NoisePath`."""
        t_B111 = t_B[:, None, None, None]
        return (1 - t_B111) * clean_BCHW + t_B111 * noise_BCHW

    def target(self, clean_BCHW: torch.Tensor, noise_BCHW: torch.Tensor, t_B: torch.Tensor) -> torch.Tensor:
        """See `protocols.NoisePath`."""
        return noise_BCHW - clean_BCHW

    def split(
        self, noisy_BCHW: torch.Tensor, answer_BCHW: torch.Tensor, alpha: float, sigma: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `protocols.NoisePath`."""
        return noisy_BCHW - sigma * answer_BCHW, noisy_BCHW + alpha * answer_BCHW

    def snr(self, t_B: torch.Tensor) -> torch.Tensor:
        """See `protocols.NoisePath`."""
        return ((1 - t_B) / t_B) ** 2

    def t_of(self, u_B: torch.Tensor) -> torch.Tensor:
        """See `protocols.NoisePath`: the shares themselves."""
        return u_B

    def share(self, t_B: torch.Tensor) -> torch.Tensor:
        """See `protocols.NoisePath`."""
        return t_B

    def as_noisy_as(self, timestep: int) -> torch.Tensor:
        """See `protocols.NoisePath`."""
        return torch.sigmoid(-torch.logit(_STABLE_DIFFUSION[timestep]) / 2)

    def uniform(self, count: int, generator: torch.Generator, *, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        """See `protocols.NoisePath`."""
        return low + (high - low) * torch.rand(count, generator=generator)

    def error_scale(self, t_B: torch.Tensor) -> torch.Tensor:
        """See `protocols.NoisePath`: 1 / t^2."""
        return t_B**-2

    def sampling(self, sampler: str, steps: int, size: tuple[int, int]) -> Sampling:
        """See `protocols.NoisePath`: even levels, shifted, stretched, spaced; DDIM and Euler are one on straight lines.

        DPM-Solver++ takes logarithms of alpha, of which nothing is left at level 1: it begins below, and stretches
        and spaces nothing.
        """
        shift = self._drawn_shift(size, steps)
        first = _FIRST_OF_DPM if sampler == "dpmpp_2m" else 1.0
        even = [first * level for level in self._even(steps, shift)]
        levels = [shift * level / (1 + (shift - 1) * level) for level in even]
        if self.terminal and sampler != "dpmpp_2m" and steps > 1:
            stretch = (1 - self.terminal) / (1 - levels[-2])
            levels[:-1] = [1 - (1 - level) * stretch for level in levels[:-1]]
        if self.spacing and sampler != "dpmpp_2m":
            levels[:-1] = _spaced(self.spacing, levels[0], levels[-2], steps)
        return Sampling(
            start=1.0,
            steps=[(torch.tensor(t), (1 - t, t), (1 - goal, goal)) for t, goal in itertools.pairwise(levels)],
        )

    def _even(self, steps: int, shift: float) -> list[float]:
        return [1 - place / steps for place in range(steps + 1)]


class StableDiffusion3Flow(Flow):
    """Stable Diffusion 3's levels, of which the last but one is that of its scheduler's first timestep."""

    def _even(self, steps: int, shift: float) -> list[float]:
        least = 0.001 * shift / (1 + (shift - 1) * 0.001)
        return [*(1 - place * (1 - least) / max(1, steps - 1) for place in range(steps)), 0.0]


class Flux2Flow(Flow):
    """FLUX.2's levels, which are shifted by the number of steps as well.

    Source: `compute_empirical_mu` in diffusers' pipelines of FLUX.2.
    """

    def shift(self, size: tuple[int, int]) -> float:
        """See `protocols.NoisePath`: as it is drawn in 50 steps."""
        return self._drawn_shift(size, 50)

    def _drawn_shift(self, size: tuple[int, int], steps: int) -> float:
        tokens = math.prod(size) / self.latents_per_token
        in_200 = 0.00016927 * tokens + 0.45666666
        if tokens > 4300:
            return math.exp(in_200)
        in_10 = 8.73809524e-05 * tokens + 1.89833333
        return math.exp(in_200 + (in_200 - in_10) * (steps - 200) / 190)


@dataclass(frozen=True, eq=False)
class Ideogram4Flow(Flow):
    """Ideogram 4's levels: a logit-normal's quantiles, whose middle goes by the size; all but pure noise at first.

    Source: `_logit_normal_sigmas` and `_resolution_aware_mu` in diffusers' pipeline of Ideogram 4.
    """

    px: int = 8  # of a latent's side

    def shift(self, size: tuple[int, int]) -> float:
        """See `protocols.NoisePath`: 1 at 512 px."""
        return math.sqrt(math.prod(size)) * self.px / 512

    def _even(self, steps: int, shift: float) -> list[float]:
        from scipy.special import expit, ndtri

        quantiles = [1.5 * float(ndtri(1 - place / steps)) for place in range(1, steps)]
        return [float(expit(each)) for each in (9.0 - math.log(shift), *quantiles)] + [0.0]


def _spaced(spacing: str, high: float, low: float, count: int) -> list[float]:
    """Return levels from high to low.

    Source: Karras et al., "Elucidating the Design Space" (2022), equation 5; Lee et al., "Beta Sampling is All You
    Need" (2024); with the constants of diffusers' FlowMatchEulerDiscreteScheduler.
    """
    shares = [place / max(1, count - 1) for place in range(count)]
    if spacing == "karras":
        return [(high ** (1 / 7) + share * (low ** (1 / 7) - high ** (1 / 7))) ** 7 for share in shares]
    if spacing == "exponential":
        return [high ** (1 - share) * low**share for share in shares]
    from scipy.special import betaincinv

    return [low + float(betaincinv(0.6, 0.6, 1 - share)) * (high - low) for share in shares]


def _scales(alpha_bar: float) -> tuple[float, float]:
    return math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)


# alpha^2 by timestep of Stable Diffusion 1.x and XL, against which other paths are measured.
_STABLE_DIFFUSION = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2).cumprod(0)
