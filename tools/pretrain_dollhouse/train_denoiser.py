"""What the stages that train a denoiser share: one model that holds it and its text encoders, on the pool of latents.

    train_denoiser("unet", ..., ask)  ->  unet.pt (resumable), unet.jsonl and, now and then, what `publish` makes of it

Shapes: B batch, T tokens, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lorasweep.dollhouse.world.attributes import SIZES_PX
from tools.pretrain_dollhouse.batches import draw_size, generator_for
from tools.pretrain_dollhouse.captions import Captioner
from tools.pretrain_dollhouse.latents import LatentPool
from tools.pretrain_dollhouse.loop import Ema, Progress, descend, resume, save, trapezoid
from tools.pretrain_dollhouse.replicas import Replica

Ask = Callable[[Tensor, Tensor, torch.Generator], Tensor]  # latents BCHW, ids BT, of noise and levels -> loss


@dataclass(frozen=True, kw_only=True)
class DenoiserPlan:
    """Knobs of such a stage.

    Attributes:
        steps: how many in all; the last `cooldown` of them bring the rate down.
        batch: pictures per process and step.
        lr, text_lr: peak rates of the denoiser and of the text encoders.
    """

    steps: int
    cooldown: int
    batch: int
    lr: float = 1e-3
    text_lr: float = 2e-4
    warmup: int
    ema_decay: float = 0.999
    publish_every: int = 250


def stratified(count: int, noise: torch.Generator) -> Tensor:
    """Draw `count` numbers in [0, 1), one in each of as many equal parts: every step sees early and late levels."""
    return (torch.rand(count, generator=noise) + torch.arange(count)) / count


def train_denoiser(
    name: str,
    replica: Replica,
    out_dir: Path,
    seed: int,
    plan: DenoiserPlan,
    *,
    model: nn.Module,
    captioner: Captioner,
    ask: Ask,
    publish: Callable[[], None],
) -> None:
    """Run the stage `name` in one process of several; resumes from its checkpoint.

    A resumed run may have another `steps`: the rate is flat until the cooldown, so an earlier or later end changes
    nothing before it. The pool is opened anew at every checkpoint, because it may have grown.

    Args:
        name: of the stage, its files and its draws.
        replica: this process.
        out_dir: the run folder.
        seed: the run's seed.
        plan: knobs.
        model: what is trained; of its children, those called `text_...` are text encoders.
        captioner: gives the token ids of pictures.
        ask: how wrong the model is about a batch.
        publish: called after a checkpoint.
    """
    ema = Ema(model, decay=plan.ema_decay)
    split: dict[bool, list[nn.Parameter]] = {False: [], True: []}
    for child, module in model.named_children():
        split[child.startswith("text_")] += module.parameters()
    groups = [{"params": split[False], "peak": plan.lr}, {"params": split[True], "peak": plan.text_lr}]
    optimizer = torch.optim.AdamW(groups, lr=plan.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    checkpoint = out_dir / f"{name}.pt"
    start = resume(checkpoint, model, ema, optimizer)
    pools = {size: LatentPool.open(out_dir, size) for size in SIZES_PX}
    progress = Progress(name, out_dir / f"{name}.jsonl")
    for step in range(start, plan.steps):
        size = draw_size(generator_for(seed, f"{name}-size", step))
        rng = generator_for(seed, name, step, replica.rank)
        latent_BCHW, attributes_BA = pools[size].draw(rng, plan.batch)
        ids_BT, _ = captioner.batch(rng, attributes_BA)
        loss = ask(latent_BCHW, ids_BT, torch.Generator().manual_seed(int(rng.integers(2**31))))
        for group in optimizer.param_groups:
            rate = trapezoid(step, peak=group["peak"], steps=plan.steps, warmup=plan.warmup, cooldown=plan.cooldown)
            group["lr"] = rate
        descend(loss, [*model.parameters()], optimizer, replica)
        ema.update(model, step)
        if replica.leads:
            progress.add(step, loss=loss.item())
        if (step + 1) % plan.publish_every == 0 or step + 1 == plan.steps:
            pools = {size: LatentPool.open(out_dir, size) for size in SIZES_PX}
            if replica.leads:
                save(checkpoint, model, ema, optimizer, step=step + 1)
                publish()
    replica.wait()
