"""Stage 1: train the VAE on pictures drawn on the fly, and measure the scale of its latents.

Writes `vae.pt` (resumable) and `vae/` (diffusers' format) in the run folder. Knows nothing about text.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from tools.pretrain_dollhouse.architecture import build_vae
from tools.pretrain_dollhouse.batches import draw_size, generator_for, to_tensor, training_specs
from tools.pretrain_dollhouse.loop import Ema, Progress, channels_last, descend, learning_rate, resume, save
from tools.pretrain_dollhouse.replicas import Replica

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class VaePlan:
    """Knobs of the stage; `batch` is per process, `mark_rate` the share of marked dolls."""

    steps: int = 3000
    batch: int = 8
    lr: float = 1.5e-3
    warmup: int = 100
    kl: float = 1e-4
    mark_rate: float = 0.6
    save_every: int = 250


def vae_loss(vae: AutoencoderKL, image_BCHW: Tensor, noise: torch.Generator, *, kl: float) -> tuple[Tensor, Tensor]:
    """Return the loss (L1 + 5 MSE + kl * mean KL) and the plain MSE of a batch in [-1, 1]."""
    posterior = vae.encode(image_BCHW).latent_dist
    rebuilt_BCHW = vae.decode(posterior.sample(generator=noise)).sample
    mse = F.mse_loss(rebuilt_BCHW, image_BCHW)
    divergence = 0.5 * (posterior.mean.pow(2) + posterior.var - 1.0 - posterior.logvar).mean()
    return F.l1_loss(rebuilt_BCHW, image_BCHW) + 5.0 * mse + kl * divergence, mse


@torch.no_grad()
def latent_scale(vae: AutoencoderKL, seed: int) -> float:
    """Return 1 / standard deviation of the latents of 256 square pictures: the `scaling_factor`."""
    rng = generator_for(seed, "latent-scale")
    image_BCHW = to_tensor(training_specs(rng, 256, mark_rate=0.15), 64, 64)
    return float(1.0 / vae.encode(image_BCHW * 2.0 - 1.0).latent_dist.mean.std())


def train_vae(replica: Replica, out_dir: Path, seed: int, plan: VaePlan) -> None:
    """Run the stage in one process of several; resumes from `vae.pt` when it exists.

    Args:
        replica: this process.
        out_dir: the run folder.
        seed: the run's seed.
        plan: knobs.
    """
    torch.manual_seed(seed)
    vae = channels_last(build_vae())
    ema = Ema(vae, decay=0.998)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=plan.lr, betas=(0.9, 0.99), weight_decay=1e-4)
    checkpoint = out_dir / "vae.pt"
    start = resume(checkpoint, vae, ema, optimizer)
    progress = Progress("vae", out_dir / "vae.jsonl")
    for step in range(start, plan.steps):
        width_px, height_px = draw_size(generator_for(seed, "vae-size", step))
        rng = generator_for(seed, "vae", step, replica.rank)
        noise = torch.Generator().manual_seed(int(rng.integers(2**31)))
        image_BCHW = to_tensor(training_specs(rng, plan.batch, mark_rate=plan.mark_rate), width_px, height_px)
        image_BCHW = (image_BCHW * 2.0 - 1.0).contiguous(memory_format=torch.channels_last)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, peak=plan.lr, steps=plan.steps, warmup=plan.warmup)
        loss, mse = vae_loss(vae, image_BCHW, noise, kl=plan.kl)
        descend(loss, [*vae.parameters()], optimizer, replica)
        ema.update(vae, step)
        if replica.leads:
            progress.add(step, loss=loss.item(), psnr_db=float(-10 * torch.log10(mse.detach() / 4.0)))
            if (step + 1) % plan.save_every == 0 or step + 1 == plan.steps:
                save(checkpoint, vae, ema, optimizer, step=step + 1)
    if replica.leads:
        ema.module.register_to_config(scaling_factor=latent_scale(ema.module, seed))
        ema.module.save_pretrained(out_dir / "vae")
    replica.wait()
