"""Stage 5: train UNet and text encoder together on the pool of latents.

Writes `unet.pt` (resumable) in the run folder and, every `publish_every` steps, the EMA weights to
`published/` with a sheet of samples. Epsilon prediction, uniform-to-late timesteps, caption noise for
classifier-free guidance.

Shapes: B batch, T tokens, D width, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorasweep.dollhouse.world.attributes import SIZES_PX
from tools.pretrain_dollhouse.architecture import build_training_noise, build_unet
from tools.pretrain_dollhouse.batches import draw_size, generator_for
from tools.pretrain_dollhouse.captions import Captioner, CaptionNoise
from tools.pretrain_dollhouse.latents import LatentPool
from tools.pretrain_dollhouse.loop import Ema, Progress, channels_last, descend, resume, save, trapezoid
from tools.pretrain_dollhouse.publish import publish
from tools.pretrain_dollhouse.replicas import Replica

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler


@dataclass(frozen=True, kw_only=True)
class UnetPlan:
    """Knobs of the stage.

    Attributes:
        steps: how many in all; the last `cooldown` of them bring the rate down.
        batch: pictures per process and step.
        lr, text_lr: peak rates of the UNet and of the text encoder.
        lateness: timesteps are 1000 u**lateness; below 1 favours the noisy steps, where colours and places
            are
            decided.
    """

    steps: int = 2400
    cooldown: int = 900
    batch: int = 20
    lr: float = 1e-3
    text_lr: float = 2e-4
    warmup: int = 150
    lateness: float = 0.7
    ema_decay: float = 0.999
    publish_every: int = 250


class Denoiser(nn.Module):
    """UNet and text encoder as one module, so that one optimizer, EMA and checkpoint hold both."""

    def __init__(self, unet: nn.Module, text_encoder: nn.Module) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder

    def forward(self, noisy_BCHW: Tensor, timestep_B: Tensor, ids_BT: Tensor) -> Tensor:
        """Predict the noise."""
        hidden_BTD = self.text_encoder(ids_BT).last_hidden_state
        return self.unet(noisy_BCHW, timestep_B, hidden_BTD).sample


def build_denoiser(out_dir: Path) -> Denoiser:
    """Return an untrained UNet with the text stage's encoder and pooled-text embedding.

    Raises:
        FileNotFoundError: the text stage has not run.
    """
    from transformers import CLIPTextModel

    unet = build_unet()
    unet.add_embedding.load_state_dict(torch.load(out_dir / "text_head.pt", weights_only=True))
    return Denoiser(unet, CLIPTextModel.from_pretrained(out_dir / "text_encoder", dtype=torch.float32))


def noisy_batch(
    latent_BCHW: Tensor, schedule: DDPMScheduler, noise: torch.Generator, *, lateness: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (noisy latents, timesteps, the noise added)."""
    count = len(schedule.alphas_cumprod)
    # Stratified over the batch: every step sees early and late timesteps alike.
    u_B = (torch.rand(len(latent_BCHW), generator=noise) + torch.arange(len(latent_BCHW))) / len(latent_BCHW)
    timestep_B = (count * u_B**lateness).long().clamp(max=count - 1)
    noise_BCHW = torch.randn(latent_BCHW.shape, generator=noise)
    noisy_BCHW = schedule.add_noise(latent_BCHW, noise_BCHW, timestep_B)  # type: ignore[arg-type]
    return noisy_BCHW, timestep_B, noise_BCHW


def _optimizer(model: Denoiser, plan: UnetPlan) -> torch.optim.AdamW:
    groups = [
        {"params": list(model.unet.parameters()), "peak": plan.lr},
        {"params": list(model.text_encoder.parameters()), "peak": plan.text_lr},
    ]
    return torch.optim.AdamW(groups, lr=plan.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)


def train_unet(replica: Replica, out_dir: Path, seed: int, plan: UnetPlan) -> None:
    """Run the stage in one process of several; needs what earlier stages left; resumes from `unet.pt`.

    A resumed run may have another `steps`: the rate is flat until the cooldown, so an earlier or later end
    changes nothing before it.

    Args:
        replica: this process.
        out_dir: the run folder.
        seed: the run's seed.
        plan: knobs.
    """
    from transformers import CLIPTokenizer

    torch.manual_seed(seed)
    captioner = Captioner(CLIPTokenizer.from_pretrained(out_dir / "tokenizer"), CaptionNoise())
    pools = {size: LatentPool.open(out_dir, size) for size in SIZES_PX}
    schedule = build_training_noise()
    model = channels_last(build_denoiser(out_dir))
    ema = Ema(model, decay=plan.ema_decay)
    optimizer = _optimizer(model, plan)
    checkpoint = out_dir / "unet.pt"
    start = resume(checkpoint, model, ema, optimizer)
    progress = Progress("unet", out_dir / "unet.jsonl")
    for step in range(start, plan.steps):
        size = draw_size(generator_for(seed, "unet-size", step))
        rng = generator_for(seed, "unet", step, replica.rank)
        loss = _step(model, optimizer, replica, pools[size], captioner, schedule, rng, step, plan)
        ema.update(model, step)
        if replica.leads:
            progress.add(step, loss=loss)
            if (step + 1) % plan.publish_every == 0 or step + 1 == plan.steps:
                save(checkpoint, model, ema, optimizer, step=step + 1)
                publish(out_dir, out_dir / "published")
    replica.wait()


def _step(
    model: Denoiser,
    optimizer: torch.optim.AdamW,
    replica: Replica,
    pool: LatentPool,
    captioner: Captioner,
    schedule: DDPMScheduler,
    rng: np.random.Generator,
    step: int,
    plan: UnetPlan,
) -> float:
    """Take one optimizer step and return this process's loss."""
    latent_BCHW, attributes_BA = pool.draw(rng, plan.batch)
    ids_BT, _ = captioner.batch(rng, attributes_BA)
    noise = torch.Generator().manual_seed(int(rng.integers(2**31)))
    noisy_BCHW, timestep_B, noise_BCHW = noisy_batch(latent_BCHW, schedule, noise, lateness=plan.lateness)
    predicted_BCHW = model(noisy_BCHW.contiguous(memory_format=torch.channels_last), timestep_B, ids_BT)
    loss = F.mse_loss(predicted_BCHW, noise_BCHW)
    for group in optimizer.param_groups:
        peak, cooldown = group["peak"], plan.cooldown
        group["lr"] = trapezoid(step, peak=peak, steps=plan.steps, warmup=plan.warmup, cooldown=cooldown)
    descend(loss, [*model.parameters()], optimizer, replica)
    return loss.item()
