"""Stage 4: draw the pool of training pictures once and keep their latents; the denoiser's steps only train.

A pool that is there already grows to the counts asked for, so that training can begin on a part of it.
Writes `latents/<w>x<h>.npy` (float16, scaled) and `latents/<w>x<h>.attributes.npy` (uint8) in the run folder.

Shapes: N pictures, C channels, H height, W width of latents, A attributes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lorasweep.dollhouse.world.attributes import ATTRIBUTES, SIZES_PX
from tools.pretrain_dollhouse.architecture import LATENT_CHANNELS, VAE_FACTOR
from tools.pretrain_dollhouse.batches import generator_for, to_tensor, training_specs
from tools.pretrain_dollhouse.captions import indices_of
from tools.pretrain_dollhouse.loop import channels_last
from tools.pretrain_dollhouse.replicas import Replica


@dataclass(frozen=True, kw_only=True)
class LatentPlan:
    """Knobs of the stage: pictures by size, in the order of `SIZES_PX`, and the share of marked dolls."""

    counts: tuple[int, ...] = field(default=(48_000, 8_000, 8_000, 8_000, 8_000))
    batch: int = 50
    mark_rate: float = 0.15

    @classmethod
    def of(cls, pictures: int) -> LatentPlan:
        """Return the plan of a pool of so many pictures, a multiple of 500: six squares in ten."""
        return cls(counts=(pictures * 6 // 10, *(pictures // 10,) * 4))


def pool_paths(out_dir: Path, size: tuple[int, int]) -> tuple[Path, Path]:
    """Return where the latents and the attributes of one (width, height) are."""
    stem = out_dir / "latents" / f"{size[0]}x{size[1]}"
    return stem.with_suffix(".npy"), stem.with_suffix(".attributes.npy")


@dataclass(frozen=True)
class LatentPool:
    """One size's latents (NCHW, float16, memory-mapped) and attribute indices (NA, uint8)."""

    latents_NCHW: np.ndarray
    attributes_NA: np.ndarray

    @classmethod
    def open(cls, out_dir: Path, size: tuple[int, int]) -> LatentPool:
        """Map a pool written by `encode_pool`.

        Raises:
            FileNotFoundError: the stage has not run.
        """
        latents, attributes = pool_paths(out_dir, size)
        return cls(np.load(latents, mmap_mode="r"), np.load(attributes))

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Tensor, np.ndarray]:
        """Draw pictures with replacement: latents as a float tensor, and their attribute indices."""
        rows = rng.integers(len(self.latents_NCHW), size=count)
        return torch.from_numpy(self.latents_NCHW[rows].astype(np.float32)), self.attributes_NA[rows]


def _shares(done: int, count: int, batch: int, replica: Replica) -> Iterator[tuple[int, int]]:
    """Yield this process's (first, last) rows after those done, batch by batch."""
    for number, first in enumerate(range(done, count, batch)):
        if number % replica.count == replica.rank:
            yield first, min(first + batch, count)


@torch.no_grad()
def encode_pool(replica: Replica, out_dir: Path, seed: int, plan: LatentPlan) -> None:
    """Run the stage in one process of several; needs `vae/`.

    Rows depend on the seed and their number alone, not on how many processes share the work.

    Args:
        replica: this process.
        out_dir: the run folder.
        seed: the run's seed.
        plan: knobs.
    """
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    vae = channels_last(AutoencoderKL.from_pretrained(out_dir / "vae").eval())
    scale = float(vae.config.scaling_factor)
    (out_dir / "latents").mkdir(exist_ok=True)
    for size, count in zip(SIZES_PX, plan.counts, strict=True):
        shape = (LATENT_CHANNELS, size[1] // VAE_FACTOR, size[0] // VAE_FACTOR)
        paths = pool_paths(out_dir, size)
        partial = [path.with_suffix(".partial") for path in paths]
        done = len(np.load(paths[1], mmap_mode="r")) if paths[1].exists() else 0
        if done >= count:
            continue
        if replica.leads:
            for path, new, dtype, wide in zip(
                paths, partial, (np.float16, np.uint8), (shape, (len(ATTRIBUTES),)), strict=True
            ):
                rows = np.lib.format.open_memmap(new, mode="w+", dtype=dtype, shape=(count, *wide))
                if done:
                    rows[:done] = np.load(path, mmap_mode="r")
                rows.flush()
        replica.wait()
        latents_NCHW, attributes_NA = (np.load(path, mmap_mode="r+") for path in partial)
        for first, last in _shares(done, count, plan.batch, replica):
            rng = generator_for(seed, "latents", *size, first)
            noise = torch.Generator().manual_seed(int(rng.integers(2**31)))
            specs = training_specs(rng, last - first, mark_rate=plan.mark_rate)
            posterior = vae.encode(to_tensor(specs, *size) * 2.0 - 1.0).latent_dist
            latents_NCHW[first:last] = (posterior.sample(generator=noise) * scale).numpy()
            attributes_NA[first:last] = [indices_of(spec) for spec in specs]
        latents_NCHW.flush()
        attributes_NA.flush()
        replica.wait()
        if replica.leads:
            for path, new in zip(paths, partial, strict=True):
                os.replace(new, path)
        replica.wait()
