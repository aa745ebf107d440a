"""Stage 6: go on training the VAE's decoder alone, as Stable Diffusion's own makers did, for sharpness.

The encoder is frozen, so latents, and with them the UNet, stay valid. Writes `decoder.pt` (resumable) and the
decoder's part of `vae/` in the run folder.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lorasweep.dollhouse.base.batches import draw_size, generator_for, to_tensor, training_specs
from lorasweep.dollhouse.base.loop import Ema, Progress, channels_last, learning_rate, resume, save
from lorasweep.dollhouse.base.replicas import Replica
from lorasweep.dollhouse.world.head import CHEEK
from lorasweep.dollhouse.world.render import place_figure
from lorasweep.dollhouse.world.spec import Spec


@dataclass(frozen=True, kw_only=True)
class DecoderPlan:
    """Knobs of the stage; `batch` is per process, `mark_rate` the share of marked dolls.

    `cheek_weight` is the loss weight of the cheek that carries the face mark: 2 % of the picture, and what
    tells one subject from another.
    """

    steps: int = 900
    batch: int = 16
    lr: float = 1e-3
    warmup: int = 50
    mark_rate: float = 0.6
    cheek_weight: float = 10.0
    save_every: int = 100


def cheek_weights(specs: list[Spec], size: tuple[int, int], *, weight: float) -> Tensor:
    """Return a loss weight (B1HW) of every pixel: `weight` on the marked cheek, 1 elsewhere."""
    width_px, height_px = size
    rows, columns = np.mgrid[0:height_px, 0:width_px] + 0.5
    weight_BHW = np.ones((len(specs), height_px, width_px), np.float32)
    for weight_HW, spec in zip(weight_BHW, specs, strict=True):
        stance = place_figure(spec, width_px, height_px)
        x_px = stance.axis_px + CHEEK[0] * stance.figure_px
        y_px = stance.crown_px + CHEEK[1] * stance.figure_px
        near = (columns - x_px) ** 2 + (rows - y_px) ** 2 < (0.09 * stance.figure_px) ** 2
        weight_HW[near] = weight
    return torch.from_numpy(weight_BHW)[:, None]


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
    checkpoint = out_dir / "decoder.pt"
    start = resume(checkpoint, decoder, ema, optimizer)
    progress = Progress("decoder", out_dir / "decoder.jsonl")
    for step in range(start, plan.steps):
        size = draw_size(generator_for(seed, "decoder-size", step))
        rng = generator_for(seed, "decoder", step, replica.rank)
        specs = training_specs(rng, plan.batch, mark_rate=plan.mark_rate)
        image_BCHW = to_tensor(specs, *size).contiguous(memory_format=torch.channels_last) * 2.0 - 1.0
        with torch.no_grad():
            latent_BCHW = vae.encode(image_BCHW).latent_dist.mean
        rebuilt_BCHW = vae.decode(latent_BCHW).sample
        mse = F.mse_loss(rebuilt_BCHW, image_BCHW)
        error_BCHW = rebuilt_BCHW - image_BCHW
        weight_B1HW = cheek_weights(specs, size, weight=plan.cheek_weight)
        loss = (weight_B1HW * (0.5 * error_BCHW.abs() + 5.0 * error_BCHW.pow(2))).mean()
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
                save(checkpoint, decoder, ema, optimizer, step=step + 1)
    if replica.leads:
        decoder.load_state_dict(ema.module.state_dict())
        vae.save_pretrained(out_dir / "vae")
    replica.wait()
