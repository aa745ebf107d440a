"""Stage 2: train the reader on renders, a quarter of them sent through the VAE, some ruined on purpose.

Writes `reader.pt` (resumable) and `reader/` in the run folder. It sees every combination and every mark,
held-out ones included: it is the judge, not the judged.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from lorasweep.dollhouse.reader.labels import class_indices
from lorasweep.dollhouse.reader.network import Outputs, ReaderNetwork
from lorasweep.dollhouse.reader.reader import Reader
from lorasweep.dollhouse.world.spec import NUISANCES, Spec, sample_spec
from tools.pretrain_dollhouse.batches import draw_size, generator_for, to_tensor
from tools.pretrain_dollhouse.corruption import gross, slight
from tools.pretrain_dollhouse.loop import Ema, Progress, channels_last, descend, learning_rate, resume, save
from tools.pretrain_dollhouse.replicas import Replica

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL


FACE_MARK_WEIGHT: Final[float] = 3.0
"""Loss weight of the face mark, the smallest thing that the reader must see."""


@dataclass(frozen=True, kw_only=True)
class ReaderPlan:
    """Knobs of the stage; `batch` is per process, an eighth of it ruined."""

    steps: int = 4000
    batch: int = 48
    lr: float = 2e-3
    warmup: int = 100
    mark_rate: float = 0.85
    save_every: int = 250


def reader_loss(outputs: Outputs, specs: list[Spec], ruined: int) -> tuple[Tensor, Tensor]:
    """Return the loss, and the share of right answers over all heads.

    Args:
        outputs: of a batch whose last `ruined` pictures are corrupt; those teach only the corrupt head.
        specs: of the whole batch.
        ruined: how many pictures at the end are corrupt; in [0, B).
    """
    clean = len(specs) - ruined
    loss, right = torch.zeros(()), []
    for name, indices in class_indices(specs[:clean]).items():
        logits_BK, target_B = outputs.logits[name][:clean], torch.tensor(indices)
        weight = FACE_MARK_WEIGHT if name == "face_mark" else 1.0
        loss = loss + weight * F.cross_entropy(logits_BK, target_B)
        right.append((logits_BK.argmax(dim=1) == target_B).float().mean())
    nuisances_BN = torch.tensor([[getattr(spec, name) for name in NUISANCES] for spec in specs[:clean]])
    loss = loss + 2.0 * F.mse_loss(outputs.nuisances_BN[:clean], nuisances_BN)
    corrupt_B = (torch.arange(len(specs)) >= clean).float()
    loss = loss + F.binary_cross_entropy_with_logits(outputs.corrupt_B, corrupt_B)
    return loss, torch.stack(right).mean()


@torch.no_grad()
def _prepare(image_BCHW: Tensor, vae: AutoencoderKL, noise: torch.Generator, ruined: int) -> Tensor:
    """Send every fourth clean picture through the VAE, disturb all slightly, and ruin the last ones."""
    clean = len(image_BCHW) - ruined
    posterior = vae.encode(image_BCHW[:clean:4] * 2.0 - 1.0).latent_dist
    rebuilt_BCHW = vae.decode(posterior.sample(generator=noise)).sample
    prepared_BCHW = image_BCHW.clone()
    prepared_BCHW[:clean:4] = (rebuilt_BCHW / 2.0 + 0.5).clamp(0.0, 1.0)
    prepared_BCHW[:clean] = slight(prepared_BCHW[:clean], noise)
    prepared_BCHW[clean:] = gross(prepared_BCHW[clean:], noise)
    return prepared_BCHW


def train_reader(replica: Replica, out_dir: Path, seed: int, plan: ReaderPlan) -> None:
    """Run the stage in one process of several; needs `vae/`, resumes from `reader.pt`.

    Args:
        replica: this process.
        out_dir: the run folder.
        seed: the run's seed.
        plan: knobs.
    """
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    torch.manual_seed(seed)
    vae = AutoencoderKL.from_pretrained(out_dir / "vae").requires_grad_(False).eval()
    network = channels_last(ReaderNetwork())
    ema = Ema(network, decay=0.995)
    optimizer = torch.optim.AdamW(network.parameters(), lr=plan.lr, weight_decay=0.01)
    checkpoint = out_dir / "reader.pt"
    start = resume(checkpoint, network, ema, optimizer)
    progress, ruined = Progress("reader", out_dir / "reader.jsonl"), plan.batch // 8
    for step in range(start, plan.steps):
        size = draw_size(generator_for(seed, "reader-size", step))
        rng = generator_for(seed, "reader", step, replica.rank)
        noise = torch.Generator().manual_seed(int(rng.integers(2**31)))
        specs = [sample_spec(rng, mark_rate=plan.mark_rate) for _ in range(plan.batch)]
        image_BCHW = _prepare(to_tensor(specs, *size), vae, noise, ruined)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, peak=plan.lr, steps=plan.steps, warmup=plan.warmup)
        loss, right = reader_loss(network(image_BCHW), specs, ruined)
        descend(loss, [*network.parameters()], optimizer, replica, max_norm=None)
        ema.update(network, step)
        if replica.leads:
            progress.add(step, loss=loss.item(), right=right.item())
            if (step + 1) % plan.save_every == 0 or step + 1 == plan.steps:
                save(checkpoint, network, ema, optimizer, step=step + 1)
                Reader(ema.module).save(out_dir / "reader")
    replica.wait()
