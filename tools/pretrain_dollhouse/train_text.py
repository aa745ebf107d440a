"""Stage 3: teach the text encoder, and the UNet's pooled-text embedding, which word describes which part.

A caption must tell, through `TextTimeEmbedding` and one linear layer, the value of each attribute that it
names and that it names no other. It costs minutes and saves the UNet from learning language and drawing at
once. Writes `tokenizer/`, `text_encoder/` and `text_head.pt` in the run folder. Needs no image.

Shapes: B batch, T tokens, D width, A attributes, K classes (values of an attribute, and "not named").
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorasweep.dollhouse.world.attributes import ATTRIBUTES
from tools.pretrain_dollhouse.architecture import TEXT_WIDTH, build_text_encoder, build_unet
from tools.pretrain_dollhouse.batches import generator_for
from tools.pretrain_dollhouse.captions import Captioner, CaptionNoise
from tools.pretrain_dollhouse.loop import Progress, descend, learning_rate
from tools.pretrain_dollhouse.replicas import Replica
from tools.pretrain_dollhouse.vocabulary import build_tokenizer


@dataclass(frozen=True, kw_only=True)
class TextPlan:
    """Knobs of the stage; `batch` is per process."""

    steps: int = 500
    batch: int = 32
    lr: float = 1e-3
    warmup: int = 50


def attribute_loss(logits_BN: Tensor, named_BA: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed cross-entropy over attributes and the share of right answers.

    Args:
        logits_BN: for each attribute in turn, its values and then "not named".
        named_BA: attribute indices, -1 where not named.
    """
    loss, right = torch.zeros(()), []
    sizes = [len(values) + 1 for values in ATTRIBUTES.values()]
    for logits_BK, named_B in zip(logits_BN.split(sizes, dim=1), named_BA.unbind(dim=1), strict=True):
        target_B = torch.where(named_B < 0, logits_BK.shape[1] - 1, named_B)
        loss = loss + F.cross_entropy(logits_BK, target_B)
        right.append((logits_BK.argmax(dim=1) == target_B).float().mean())
    return loss, torch.stack(right).mean()


def train_text(replica: Replica, out_dir: Path, seed: int, plan: TextPlan) -> None:
    """Run the stage in one process of several; short enough to start over when interrupted.

    Args:
        replica: this process.
        out_dir: the run folder.
        seed: the run's seed.
        plan: knobs.
    """
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    captioner = Captioner(tokenizer, CaptionNoise())
    encoder = build_text_encoder(vocab_size=len(tokenizer), bos=tokenizer.bos_token_id, eos=tokenizer.eos_token_id)
    embedding = build_unet().add_embedding
    head = nn.Linear(embedding.proj.out_features, sum(len(values) + 1 for values in ATTRIBUTES.values()))
    parameters = [*encoder.parameters(), *embedding.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=plan.lr, weight_decay=0.01)
    progress = Progress("text", out_dir / "text.jsonl")
    limits = np.array([len(values) for values in ATTRIBUTES.values()])
    for step in range(plan.steps):
        rng = generator_for(seed, "text", step, replica.rank)
        ids_BT, named_BA = captioner.batch(rng, rng.integers(limits, size=(plan.batch, len(limits))))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, peak=plan.lr, steps=plan.steps, warmup=plan.warmup)
        hidden_BTD = encoder(ids_BT).last_hidden_state
        loss, right = attribute_loss(head(embedding(hidden_BTD)), named_BA)
        descend(loss, parameters, optimizer, replica)
        if replica.leads:
            progress.add(step, loss=loss.item(), right=right.item())
    if replica.leads:
        assert hidden_BTD.shape[-1] == TEXT_WIDTH
        tokenizer.save_pretrained(out_dir / "tokenizer")
        encoder.save_pretrained(out_dir / "text_encoder")
        torch.save(embedding.state_dict(), out_dir / "text_head.pt")
    replica.wait()
