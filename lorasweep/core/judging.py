"""What judge and metrics hand each other: rows of losses, pictures, and what being overcooked looks like.

Letters: N rows of a set of probes. torch and PIL appear in annotations only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from PIL import Image

PriorTier = Literal["plain", "class", "neighbour", "unrelated"]
PRIOR_TIERS: tuple[PriorTier, ...] = ("plain", "class", "neighbour", "unrelated")  # from near to far
SetName = Literal["train", "held_out", "plain", "class", "neighbour", "unrelated"]
NoiseName = Literal["training", "recombined"]
EncoderName = Literal["base", "clip", "dino", "sscd"]
Part = Literal["both", "unet", "text_encoder"]  # of what an adapter trains, at work
PARTS: tuple[Part, ...] = ("unet", "text_encoder")
NUM_TIMESTEPS = 1000  # of Stable Diffusion, by whose noise every base is asked (`NoisePath.as_noisy_as`)
TIMESTEP_BUCKETS = 4  # of the probes


def probe_timesteps(buckets: int = TIMESTEP_BUCKETS) -> tuple[int, ...]:
    """Return the middle of every timestep bucket, ascending."""
    return tuple(int((k + 0.5) * NUM_TIMESTEPS / buckets) for k in range(buckets))


@dataclass(frozen=True, kw_only=True)
class Rows:
    """One number per probe row, and which row is which; all (N,)."""

    adapted: torch.Tensor
    base: torch.Tensor
    timestep: torch.Tensor
    image: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Magnitudes:
    """How hard captions pull on pure noise: norm of the difference that each makes; both (N,)."""

    adapted: torch.Tensor
    base: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A drawn picture, RGB; `prompt` and `seed` are what it was drawn for."""

    prompt: str
    seed: int
    image: Image.Image


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Pictures of one dataset, RGB, all of one size; one caption per training picture, after the caption policy."""

    train: tuple[Image.Image, ...]
    held_out: tuple[Image.Image, ...]
    train_captions: tuple[str, ...]
    twins: tuple[tuple[int, ...], ...] = ()  # places in `train` of near-duplicates, two or more a group


@dataclass(frozen=True, kw_only=True)
class Symptom:
    """One way to be overcooked, told from one number of the metric that declares it."""

    name: str  # its grade is logged as `overcook/<name>`
    # of the question that it answers: G, P, M, C, V or B; of those with the same letter only the gravest counts
    letter: str
    # from what anyone sees at once (low) to what only a loss tells; the verdict names the lowest of those equally grave
    rank: int
    metric: str  # the number it reads
    says: str  # what a person would say, after "from step 700": "it copies its training images"
    severity: float = 1.0  # the grade of a full-blown case, (0, 1]; 1 is fatal by itself
    inverted: bool = False  # the metric is good at 1 and bad at 0, so 1 - value is read
    # how much of it is too much on any base, because its number means the same everywhere. None: only controls can
    # tell.
    definite: float | None = None

    def value(self, metrics: Mapping[str, float]) -> float | None:
        """Return how much of the symptom there is, >= 0; None when it was not measured."""
        if self.metric not in metrics:
            return None
        return max(0.0, 1.0 - metrics[self.metric] if self.inverted else metrics[self.metric])
