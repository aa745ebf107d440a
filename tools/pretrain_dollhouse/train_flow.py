"""The second base: a FLUX.1 transformer and its two text encoders, trained with flow matching on the pool of latents.

Starts from the shipped VAE, tokenizer and text encoder (`take_shipped`). The pooled text is taught first, as
`train_text` does it for the UNet. Writes `flow.pt` (resumable) in the run folder and, every `publish_every`
steps, the EMA weights to `published_flow/`. Velocity n - x at level s, x_s = (1 - s) x + s n.

Shapes: B batch, T tokens, D width, C channels, H height, W width, P patches, F features of a patch.
"""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorasweep.dollhouse import weights_dir
from lorasweep.dollhouse.world.attributes import ATTRIBUTES
from tools.pretrain_dollhouse.architecture import FLOW_SHIFT, FLOW_TEXT_TOKENS, build_transformer
from tools.pretrain_dollhouse.batches import generator_for
from tools.pretrain_dollhouse.captions import Captioner, CaptionNoise
from tools.pretrain_dollhouse.loop import Progress, descend, learning_rate
from tools.pretrain_dollhouse.publish import publish_flow
from tools.pretrain_dollhouse.replicas import Replica
from tools.pretrain_dollhouse.train_denoiser import DenoiserPlan, stratified, train_denoiser
from tools.pretrain_dollhouse.train_text import attribute_loss


@dataclass(frozen=True, kw_only=True)
class FlowPlan(DenoiserPlan):
    """Knobs of the stage.

    Attributes:
        shift: levels are shift u / (1 + (shift - 1) u), u uniform; above 1 favours the noisy ones.
        text_steps, text_batch: of the stage before, which teaches the pooled text.
    """

    steps: int = 24_000
    cooldown: int = 4_000
    batch: int = 32
    warmup: int = 200
    shift: float = FLOW_SHIFT
    text_steps: int = 250
    text_batch: int = 64


class FlowDenoiser(nn.Module):
    """Transformer and both text encoders as one module, so that one optimizer, EMA and checkpoint hold all."""

    def __init__(self, transformer: Any, text_encoder: Any, text_encoder_2: Any) -> None:
        super().__init__()
        self.transformer = transformer
        self.text_encoder = text_encoder
        self.text_encoder_2 = text_encoder_2

    def forward(self, noisy_BCHW: Tensor, level_B: Tensor, ids_BT: Tensor) -> Tensor:
        """Predict the velocity n - x."""
        height, width = noisy_BCHW.shape[-2] // 2, noisy_BCHW.shape[-1] // 2
        hidden_BTD = self.text_encoder_2(ids_BT).last_hidden_state
        places_P3 = torch.cartesian_prod(torch.zeros(1), torch.arange(height).float(), torch.arange(width).float())
        answer_BPF = self.transformer(
            hidden_states=F.pixel_unshuffle(noisy_BCHW, 2).flatten(2).transpose(1, 2),
            encoder_hidden_states=hidden_BTD,
            pooled_projections=self.text_encoder(ids_BT).pooler_output,
            timestep=level_B,
            img_ids=places_P3,
            txt_ids=torch.zeros(hidden_BTD.shape[1], 3),
            return_dict=False,
        )[0]
        return F.pixel_shuffle(answer_BPF.transpose(1, 2).unflatten(2, (height, width)), 2)


def take_shipped(out_dir: Path) -> None:
    """Copy the VAE, tokenizer and text encoder of the package into a run folder that has none."""
    for part in ("vae", "tokenizer", "text_encoder"):
        if not (out_dir / part).exists():
            shutil.copytree(weights_dir() / part, out_dir / part)


def build_flow_denoiser(out_dir: Path) -> FlowDenoiser:
    """Return an untrained transformer with two copies of the run folder's text encoder."""
    from transformers import CLIPTextModel

    text_encoder = CLIPTextModel.from_pretrained(out_dir / "text_encoder", dtype=torch.float32)
    return FlowDenoiser(build_transformer(), text_encoder, copy.deepcopy(text_encoder))


def teach_pooled_text(model: FlowDenoiser, captioner: Captioner, out_dir: Path, seed: int, plan: FlowPlan) -> None:
    """Teach the first encoder, and the layer that takes its pooled answer, which word describes which part."""
    embedding = model.transformer.time_text_embed.text_embedder
    head = nn.Linear(int(model.transformer.inner_dim), sum(len(values) + 1 for values in ATTRIBUTES.values()))
    parameters = [*model.text_encoder.parameters(), *embedding.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=plan.lr, betas=(0.9, 0.99), fused=True)
    progress = Progress("flow-text", out_dir / "flow_text.jsonl")
    limits = [len(values) for values in ATTRIBUTES.values()]
    for step in range(plan.text_steps):
        rng = generator_for(seed, "flow-text", step)
        ids_BT, named_BA = captioner.batch(rng, rng.integers(limits, size=(plan.text_batch, len(limits))))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, peak=plan.lr, steps=plan.text_steps, warmup=plan.warmup // 4)
        pooled_BD = model.text_encoder(ids_BT[:, :FLOW_TEXT_TOKENS]).pooler_output
        loss, right = attribute_loss(head(embedding(pooled_BD)), named_BA)
        descend(loss, parameters, optimizer, Replica(0, 1))
        progress.add(step, loss=loss.item(), right=right.item())


def noisy_batch(latent_BCHW: Tensor, noise: torch.Generator, *, shift: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return (noisy latents, levels in (0, 1), velocities)."""
    u_B = stratified(len(latent_BCHW), noise)
    level_B = shift * u_B / (1.0 + (shift - 1.0) * u_B)
    noise_BCHW = torch.randn(latent_BCHW.shape, generator=noise)
    return latent_BCHW.lerp(noise_BCHW, level_B[:, None, None, None]), level_B, noise_BCHW - latent_BCHW


def train_flow(replica: Replica, out_dir: Path, seed: int, plan: FlowPlan) -> None:
    """Run the stage in one process of several; needs the pool of latents; see `train_denoiser`."""
    from transformers import CLIPTokenizer

    torch.manual_seed(seed)
    take_shipped(out_dir)
    captioner = Captioner(CLIPTokenizer.from_pretrained(out_dir / "tokenizer"), CaptionNoise())
    model = build_flow_denoiser(out_dir)
    if not (out_dir / "flow.pt").exists():
        teach_pooled_text(model, captioner, out_dir, seed, plan)

    def ask(latent_BCHW: Tensor, ids_BT: Tensor, noise: torch.Generator) -> Tensor:
        noisy_BCHW, level_B, velocity_BCHW = noisy_batch(latent_BCHW, noise, shift=plan.shift)
        return F.mse_loss(model(noisy_BCHW, level_B, ids_BT[:, :FLOW_TEXT_TOKENS]), velocity_BCHW)

    train_denoiser(
        "flow",
        replica,
        out_dir,
        seed,
        plan,
        model=model,
        captioner=captioner,
        ask=ask,
        publish=lambda: publish_flow(out_dir, out_dir / "published_flow"),
    )
