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

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.pretrain_dollhouse.architecture import build_training_noise, build_unet
from tools.pretrain_dollhouse.captions import Captioner, CaptionNoise
from tools.pretrain_dollhouse.loop import channels_last
from tools.pretrain_dollhouse.publish import publish
from tools.pretrain_dollhouse.replicas import Replica
from tools.pretrain_dollhouse.train_denoiser import DenoiserPlan, stratified, train_denoiser

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler


@dataclass(frozen=True, kw_only=True)
class UnetPlan(DenoiserPlan):
    """Knobs of the stage.

    Attributes:
        lateness: timesteps are 1000 u**lateness; below 1 favours the noisy steps, where colours and places are
            decided.
    """

    steps: int = 2400
    cooldown: int = 900
    batch: int = 20
    warmup: int = 150
    lateness: float = 0.7


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
    u_B = stratified(len(latent_BCHW), noise)
    timestep_B = (count * u_B**lateness).long().clamp(max=count - 1)
    noise_BCHW = torch.randn(latent_BCHW.shape, generator=noise)
    noisy_BCHW = schedule.add_noise(latent_BCHW, noise_BCHW, timestep_B)  # type: ignore[arg-type]
    return noisy_BCHW, timestep_B, noise_BCHW


def train_unet(replica: Replica, out_dir: Path, seed: int, plan: UnetPlan) -> None:
    """Run the stage in one process of several; needs what earlier stages left; see `train_denoiser`."""
    from transformers import CLIPTokenizer

    torch.manual_seed(seed)
    schedule = build_training_noise()
    model = channels_last(build_denoiser(out_dir))

    def ask(latent_BCHW: Tensor, ids_BT: Tensor, noise: torch.Generator) -> Tensor:
        noisy_BCHW, timestep_B, noise_BCHW = noisy_batch(latent_BCHW, schedule, noise, lateness=plan.lateness)
        predicted_BCHW = model(noisy_BCHW.contiguous(memory_format=torch.channels_last), timestep_B, ids_BT)
        return F.mse_loss(predicted_BCHW, noise_BCHW)

    train_denoiser(
        "unet",
        replica,
        out_dir,
        seed,
        plan,
        model=model,
        captioner=Captioner(CLIPTokenizer.from_pretrained(out_dir / "tokenizer"), CaptionNoise()),
        ask=ask,
        publish=lambda: publish(out_dir, out_dir / "published"),
    )
