"""Fixed questions for the denoiser: the same noisy latents, timesteps and captions for every trial and rung.

    Plan  ->  Probes: rows of (x_t, t, caption, target) with the base's answers, for training images, held-out
              images, and pictures that the base itself drew for prompts that have nothing to do with the
              subject; and pure noise with captions that were trained on, and prompts that were not

Losses of different steps, weights and trials are then paired row by row, which is what makes differences of a
few per cent visible (most of the spread of a denoising loss comes from t and from the noise). Everything is
drawn from `dataset.holdout_seed`, never from the recipe's seed. Knows nothing about any metric.

Letters: B rows, C H W latent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from lorasweep.core import registry
from lorasweep.core.judging import TIMESTEP_BUCKETS, NoiseName, SetName
from lorasweep.core.protocols import Base, Text
from lorasweep.core.records import Frame, Plan, Recipe, digest

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """How many probes. The defaults cost a judged checkpoint about 140 forward passes, less than 4 samples."""

    buckets: int = TIMESTEP_BUCKETS  # of noise; each is asked at its middle
    # Of image and noise, for training and for held-out images: as many images as there are, and where they are few,
    # more noises of each. Images are the sample, so a new one beats a new noise.
    pairs: int = 6
    noises: int = 4  # at most so many per image
    prior_images: int = 2  # pictures of the base per tier of `PRIOR_TIERS`; drift is no small difference, so a few do
    prior_steps: int = 10  # denoising steps of those pictures
    magnitude_captions: int = 3  # captions that were trained on, and prompts that were not, asked on pure noise
    magnitude_noises: int = 2  # noises for each of them


DEFAULTS = ProbeOptions()
MAX_ROWS = 32  # of a forward pass: bounds memory
SetNames = Collection[SetName | NoiseName]
ALL_SETS: SetNames = frozenset((*get_args(SetName), *get_args(NoiseName)))


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbeBatch:
    """Rows of one latent shape, with the base's answers; equal to nothing but itself."""

    noisy_BCHW: torch.Tensor  # x_t
    target_BCHW: torch.Tensor  # what the model should predict from it
    t_B: torch.Tensor  # of the base's noise path
    timestep_B: torch.Tensor  # as noisy as Stable Diffusion's, one of `timesteps`
    frames: tuple[Frame, ...]  # of the images
    image_B: torch.Tensor  # which image of its set a row looks at
    draw: int  # which of an image's noises these rows have; every image has a noise 0
    captions: tuple[str, ...]
    plain_captions: tuple[str, ...]  # without the trigger; equal when there is none
    text: Text  # what the frozen text encoders make of them
    plain_text: Text
    base_BCHW: torch.Tensor  # the base's prediction with the caption
    base_loss_B: torch.Tensor  # its squared error, mean over a row
    base_plain_loss_B: torch.Tensor  # the same without the trigger


@dataclass(frozen=True, kw_only=True)
class NoiseBatch:
    """Pure noise at the end of the noise path, asked with captions and with nothing."""

    noisy_BCHW: torch.Tensor  # the noise; rows of one noise repeat it
    t_B: torch.Tensor  # the last one
    frames: tuple[Frame, ...]  # of the pictures that are asked for
    captions: tuple[str, ...]  # one per row
    text: Text  # what the frozen text encoders make of them
    empty: Text  # and of the empty caption
    base_norm_B: torch.Tensor  # the base's norm of the difference that the caption makes


@dataclass(frozen=True, kw_only=True)
class Probes:
    """All rows of one dataset on one base."""

    sets: dict[SetName, tuple[ProbeBatch, ...]]  # a set without images, or that nobody asks, is absent
    timesteps: tuple[int, ...]  # the middle of each bucket, ascending
    noise: dict[NoiseName, NoiseBatch]  # pure noise; either may be absent
    digest: str  # hex, of every question asked: equal digests mean equal probes


def row_mse(left_BCHW: torch.Tensor, right_BCHW: torch.Tensor) -> torch.Tensor:
    """Return the squared error, mean over each row; (B,)."""
    return (left_BCHW - right_BCHW).square().flatten(1).mean(1)


def row_norm(left_BCHW: torch.Tensor, right_BCHW: torch.Tensor) -> torch.Tensor:
    """Return the Euclidean norm of the difference of each row; (B,)."""
    return (left_BCHW - right_BCHW).flatten(1).norm(dim=1)


def wanted_by(recipe: Recipe) -> SetNames:
    """List the sets that the recipe's metrics look at, by the `PROBES` of their modules; who has none may ask all."""
    modules = [registry.load("metrics", name) for name in recipe.metrics]
    return frozenset(name for module in modules for name in getattr(module, "PROBES", ALL_SETS))


def key(base: Base, recipe: Recipe, plan: Plan) -> str:
    """Digest everything that decides the default probes."""
    images = [[i.source, i.caption, i.split, i.bucket, i.resize_px, i.crop_px] for i in plan.images]
    priors = [plan.prompts, recipe.base.neighbour_prompts]
    size = [recipe.sample.width, recipe.sample.height, recipe.sample.guidance, recipe.base.negative_prompt]
    where = [base.fingerprint, str(base.device), str(base.dtype), recipe.base.clip_skip]
    data = [images, plan.trigger, recipe.captions.separator, recipe.dataset.holdout_seed]
    return digest([where, data, priors, size, sorted(wanted_by(recipe))])


def content(sets: dict[SetName, tuple[ProbeBatch, ...]], noise: dict[NoiseName, NoiseBatch]) -> str:
    """Return the hex digest of what is asked: noisy latents, timesteps and words; the answers are not part of it."""
    total = hashlib.sha256()
    asked: list[tuple[str, ProbeBatch | NoiseBatch]] = [
        (name, batch) for name, batches in sets.items() for batch in batches
    ]
    for name, batch in [*asked, *noise.items()]:
        total.update(f"{name} {batch.captions} {batch.t_B.tolist()}".encode())
        total.update(batch.noisy_BCHW.float().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def described(probes: Probes) -> dict[str, Any]:
    """Tell what a person needs to see that two sweeps were asked the same; JSON."""
    return {
        "digest": probes.digest,
        "timesteps": list(probes.timesteps),
        "rows": {name: sum(len(b.captions) for b in batches) for name, batches in probes.sets.items()},
        "captions": {
            name: sorted({words for batch in batches for words in batch.captions})
            for name, batches in probes.sets.items()
        },
        "pure_noise": {name: sorted(set(batch.captions)) for name, batch in probes.noise.items()},
    }
