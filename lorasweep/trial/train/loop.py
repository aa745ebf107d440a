"""Advance slots by optimizer steps over one shared frozen base.

Takes slots and a base, changes the slots' tensors, reports each step's numbers to a callback. A list of one
slot is the plain case; several take turns, each with the others' adapters silenced. Knows nothing of rungs,
checkpoints or files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import torch

from lorasweep.core.errors import LorasweepError
from lorasweep.core.protocols import Base, DrawsPerBatch
from lorasweep.core.records import PlannedImage
from lorasweep.trial import lora_weight
from lorasweep.trial.train import loss
from lorasweep.trial.train.slot import Slot

OnStep = Callable[[Slot, dict[str, float]], None]
# Of the loss, in fp16. A gradient that is not finite even here is so by itself; fairseq gives up there too.
_LEAST_SCALE = 1e-4


class Diverged(LorasweepError):
    """A loss or a gradient became NaN or infinite; the weights are still those before that step."""

    def __init__(self, slot: Slot, step: int) -> None:
        advice = "a lower optimizer.lr may hold"
        if step == 0:  # no weight has moved yet
            advice = "before any weight moved, so it is not the lr: look at base.path, its VAE and train.precision"
        super().__init__(f"the loss became NaN or infinite at step {step + 1}; {advice}")
        self.slot = slot
        self.step = step


def advance(slots: Sequence[Slot], base: Base, *, steps: int, on_step: OnStep) -> None:
    """Train every slot for `steps` more optimizer steps, one step at a time.

    Args:
        slots: at least one; all of their adapters live in `base`.
        base: shared, frozen.
        steps: optimizer steps, >= 0.
        on_step: called after each step of each slot, when `slot.step` already counts it, with "train/loss"
            (mean over the step's batches), "train/grad_norm" (before clipping), "train/lr/<part>" and what
            the optimizer and the brakes log. It may raise: the slot is whole.

    Raises:
        Diverged: see there.
    """
    with _train_mode(base, slots):
        for _ in range(steps):
            for slot in slots:
                _take_turn(slot, slots)
                metrics = _step(slot, base)
                slot.step += 1
                on_step(slot, metrics)


def _take_turn(slot: Slot, slots: Sequence[Slot]) -> None:
    for other in slots:
        if other is not slot:
            other.adapter.set_weight(0.0)
    slot.adapter.set_weight(1.0)


def _step(slot: Slot, base: Base) -> dict[str, float]:
    """One optimizer step of one slot; returns what to log."""
    metrics = _set_lr(slot)
    batches = slot.batches()
    total = torch.zeros((), device=base.device)
    for number, images in enumerate(batches):
        batch_loss = _batch_loss(slot, base, images, number) / len(batches)
        slot.scaler.scale(batch_loss).backward()
        total += batch_loss.detach()
    slot.scaler.unscale_(slot.optimizer)
    norm = _clip(slot.parameters(), slot.recipe.train.max_grad_norm)
    # Both at once: to read a number, the host waits for the device.
    mean_loss, grad_norm = torch.stack([total, norm]).tolist()
    if not math.isfinite(mean_loss) or not (math.isfinite(grad_norm) or _may_be_the_scale(slot.scaler)):
        slot.optimizer.zero_grad(set_to_none=True)
        raise Diverged(slot, slot.step)
    slot.scaler.step(slot.optimizer)
    slot.scaler.update()
    slot.optimizer.zero_grad(set_to_none=True)

    metrics["train/loss"] = mean_loss
    if math.isfinite(grad_norm):
        metrics["train/grad_norm"] = grad_norm
    extra = dict(slot.logged(slot.optimizer))
    for brake in slot.brakes:
        extra |= brake.after_step(slot.adapter)
    return metrics | {f"train/{name}": value for name, value in extra.items()}


def _may_be_the_scale(scaler: torch.amp.GradScaler) -> bool:
    """Whether a gradient may be infinite for its scale alone: the scaler then skips it and scales less."""
    return scaler.is_enabled() and scaler.get_scale() > _LEAST_SCALE


def _batch_loss(slot: Slot, base: Base, images: Sequence[PlannedImage], number: int) -> torch.Tensor:
    """Loss of one batch, with everything drawn from seeds of this slot, step and batch."""
    options = slot.recipe.noise
    pairs = [slot.latents.mean_std(image) for image in images]
    question = loss.ask(
        torch.stack([mean for mean, _ in pairs]),
        torch.stack([std for _, std in pairs]),
        base.path,
        generator=torch.Generator().manual_seed(slot.seed_of("noise", number)),
        options=options,
    )
    if isinstance(slot.adapter, DrawsPerBatch):
        slot.adapter.draw(slot.seed_of("adapter", number))
    captions = slot.captions(images, batch=number)
    rows = [row for row, image in enumerate(images) if image.target == "base"]
    if rows:
        question = _answered_by_base(slot, base, question, captions, images, rows)
    with _seeded_dropout(slot.seed_of("dropout", number), base.device), _autocast(slot, base):
        prediction_BCHW = _predict(slot, base, question.noisy_BCHW, question.t_B, captions, images)
    weights = [image.loss_weight for image in images]
    return loss.weigh(
        prediction_BCHW,
        question,
        base.path,
        options=options,
        weights=weights if set(weights) != {1.0} else None,
    )


def _answered_by_base(
    slot: Slot,
    base: Base,
    question: loss.Question,
    captions: Sequence[str],
    images: Sequence[PlannedImage],
    rows: Sequence[int],
) -> loss.Question:
    """Put the frozen base's own answers, at LoRA weight 0, in the place of some rows' targets."""
    # An autocast of its own, so that no cast made here, without gradient, can serve the adapted pass.
    with lora_weight.lora_weight(base, slot.adapter, 0.0), _autocast(slot, base):
        asked, images = [captions[row] for row in rows], [images[row] for row in rows]
        answer_BCHW = _predict(slot, base, question.noisy_BCHW[rows], question.t_B[rows], asked, images)
    target_BCHW = question.target_BCHW.clone()
    target_BCHW[rows] = answer_BCHW.to(target_BCHW.dtype)
    return dataclasses.replace(question, target_BCHW=target_BCHW)


def _predict(
    slot: Slot,
    base: Base,
    noisy_BCHW: torch.Tensor,
    t_B: torch.Tensor,
    captions: Sequence[str],
    images: Sequence[PlannedImage],
) -> torch.Tensor:
    """Ask the base, with whatever adapter weight, mode and gradient are in force."""
    text = base.encode_captions(captions) if slot.trains_text else slot.texts.embed(captions)
    return base.predict(noisy_BCHW, t_B, text, [image.frame for image in images])


def _autocast(slot: Slot, base: Base) -> torch.autocast:
    half = slot.recipe.train.precision != "fp32"
    return torch.autocast(base.device.type, dtype=base.dtype if half else None, enabled=half)


def _set_lr(slot: Slot) -> dict[str, float]:
    metrics = {}
    for group in slot.optimizer.param_groups:
        group["lr"] = slot.schedule(slot.step, group["initial_lr"])
        metrics[f"train/lr/{group['name']}"] = group["lr"]
    return metrics


def _clip(parameters: Sequence[torch.nn.Parameter], max_norm: float) -> torch.Tensor:
    """Clip gradients together to `max_norm` (0: not at all); returns their norm before."""
    if max_norm > 0:
        return torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


@contextlib.contextmanager
def _train_mode(base: Base, slots: Sequence[Slot]) -> Iterator[None]:
    """Train mode, so that adapters' dropout acts, for the parts that are trained; eval mode again after."""
    trained = {part for slot in slots for part, tensors in slot.adapter.parameters().items() if tensors}
    parts = [module for part, module in base.parts.items() if part in trained]
    try:
        for part in parts:
            part.train()
        yield
    finally:
        for part in parts:
            part.eval()


@contextlib.contextmanager
def _seeded_dropout(seed: int, device: torch.device) -> Iterator[None]:
    """Dropout takes no generator, so the global one is borrowed: seeded here, and given back as it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
