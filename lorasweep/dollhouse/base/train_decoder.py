"""Stage 6: go on training the VAE's decoder alone, as Stable Diffusion's own makers did, for sharpness.

The encoder is frozen, so latents, and with them the UNet, stay valid. Writes `decoder.pt` (resumable) and the
decoder's part of `vae/` in the run folder.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from lorasweep.dollhouse.base.batches import draw_size, generator_for, to_tensor, training_specs
from lorasweep.dollhouse.base.loop import Ema, Progress, channels_last, learning_rate, save_atomically
from lorasweep.dollhouse.base.replicas import Replica


@dataclass(frozen=True, kw_only=True)
class DecoderPlan:
    """Knobs of the stage; `batch` is per process, `mark_rate` the share of marked dolls."""

    steps: int = 900
    batch: int = 16
    lr: float = 1e-3
    warmup: int = 50
    mark_rate: float = 0.6
    save_every: int = 100


def train_decoder(replica: Replica, out_dir: Path, seed: int, plan: DecoderPlan) -> None:
    """Run the stage in one process of several; needs `vae/`, resumes from `decoder.pt`.

    Args:
        replica: this process.
        out_dir: the run folder.
        seed: the run's seed.
        plan: knobs.
    """
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    vae = channels_last(AutoencoderKL.from_pretrained(out_dir / "vae"))
    decoder = torch.nn.ModuleList([vae.post_quant_conv, vae.decoder])
    ema = Ema(decoder, decay=0.998)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=plan.lr, betas=(0.9, 0.99), weight_decay=1e-4)
    checkpoint, start = out_dir / "decoder.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        decoder.load_state_dict(state["model"])
        ema.module.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    progress = Progress("decoder", out_dir / "decoder.jsonl")
    for step in range(start, plan.steps):
        size = draw_size(generator_for(seed, "decoder-size", step))
        rng = generator_for(seed, "decoder", step, replica.rank)
        image_BCHW = to_tensor(training_specs(rng, plan.batch, mark_rate=plan.mark_rate), *size) * 2.0 - 1.0
        with torch.no_grad():
            latent_BCHW = vae.encode(
                image_BCHW.contiguous(memory_format=torch.channels_last)
            ).latent_dist.mean
        rebuilt_BCHW = vae.decode(latent_BCHW).sample
        mse = F.mse_loss(rebuilt_BCHW, image_BCHW)
        loss = 0.5 * F.l1_loss(rebuilt_BCHW, image_BCHW) + 5.0 * mse
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, peak=plan.lr, steps=plan.steps, warmup=plan.warmup)
        optimizer.zero_grad()
        loss.backward()
        replica.average_gradients(decoder.parameters())
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        ema.update(decoder, step)
        if replica.leads:
            progress.add(step, loss=loss.item(), psnr_db=-10.0 * math.log10(mse.item() / 4.0))
            if (step + 1) % plan.save_every == 0 or step + 1 == plan.steps:
                state = {"model": decoder.state_dict(), "ema": ema.module.state_dict()}
                save_atomically(state | {"optimizer": optimizer.state_dict(), "step": step + 1}, checkpoint)
    if replica.leads:
        decoder.load_state_dict(ema.module.state_dict())
        vae.save_pretrained(out_dir / "vae")
    replica.wait()
