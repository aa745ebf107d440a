"""Advance slots by optimizer steps over one shared frozen base.

Takes slots and a base, changes the slots' tensors, reports each step's numbers to a callback. A list of one
slot is the plain case. Knows nothing of rungs, checkpoints or files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from lorasweep.core.errors import LorasweepError
from lorasweep.core.protocols import Base, DrawsPerBatch, Factored, Factors, Text
from lorasweep.core.records import PlannedImage
from lorasweep.trial import lora_weight
from lorasweep.trial.train import loss, packed
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


def advance(
    slots: Sequence[Slot], base: Base, *, steps: int, on_step: OnStep, until: Callable[[], bool] = lambda: False
) -> None:
    """Train every slot for `steps` more optimizer steps, one step at a time.

    Slots whose adapters are products on the same layers, and whose batches have the same shapes at a step, take that
    step in one forward of the base; the others take turns. Each ends with the weights that it would have reached alone,
    up to rounding.

    `on_step` is called after each step of each slot, when `slot.step` already counts it, with "train/loss" (mean over
    the step's batches), "train/grad_norm" (before clipping), "train/lr/<part>" and what the optimizer and the brakes
    log. It may raise: every slot is whole. `until` is asked after each step of all; True ends early.

    Raises:
        Diverged: see there; the other slots are whole, and may go on without that one.
    """
    awake: set[Slot] = set()
    with _train_mode(base, slots):
        for _ in range(steps):
            for group in _groups(slots, base):
                if awake != set(group):
                    awake = set(group)
                    _wake(group, slots)
                found = _step(group, base)
                for slot, metrics in zip(group, found, strict=True):
                    if metrics is not None:
                        on_step(slot, metrics)
                for slot, metrics in zip(group, found, strict=True):
                    if metrics is None:
                        raise Diverged(slot, slot.step)
            if until():
                return


@dataclass(frozen=True, kw_only=True, eq=False)
class _Batch:
    """One batch of a slot's next step, drawn and ready to be asked."""

    images: Sequence[PlannedImage]
    captions: Sequence[str]
    noisy_batch: loss.NoisyBatch
    mask_B1HW: torch.Tensor | None  # None: every place counts 1
    text: Text | None  # None: read through the adapter, when the base is asked


_Group = dict[Slot, list[_Batch]]  # slots that take their next step together, with its batches


def _groups(slots: Sequence[Slot], base: Base) -> list[_Group]:
    """Put together the slots that can share their next step's forwards."""
    groups: dict[object, _Group] = {}
    for slot in slots:
        batches = [_draw(slot, base, images, number) for number, images in enumerate(slot.batches())]
        groups.setdefault(_shape_class(slot, batches) if len(slots) > 1 else None, {})[slot] = batches
    return list(groups.values())


def _shape_class(slot: Slot, batches: Sequence[_Batch]) -> object:
    """Return what slots must have in common to share a step; itself when a slot shares with nobody."""
    factors = _factors(slot)
    if factors is None or slot.trains_text:
        return slot
    shapes = [
        (batch.noisy_batch.noisy_BCHW.shape, [(k, v.shape) for k, v in (batch.text or {}).items()]) for batch in batches
    ]
    return frozenset(factors), repr(shapes)


def _factors(slot: Slot) -> Mapping[torch.nn.Module, Factors] | None:
    """Return an adapter's products; None: it acts by itself, as in compiled blocks, which each step would compile."""
    if not isinstance(slot.adapter, Factored) or slot.recipe.compute.dynamo_backend != "none":
        return None
    return slot.adapter.factors()


def _wake(group: Collection[Slot], slots: Sequence[Slot]) -> None:
    """Have the adapters of a group act, and silence the others."""
    for slot in slots:
        slot.adapter.set_weight(float(slot in group))


def _step(group: _Group, base: Base) -> list[dict[str, float] | None]:
    """Take one optimizer step of every slot of a group; returns what to log, None for a slot that diverged."""
    slots = list(group)
    rates = [_set_lr(slot) for slot in slots]
    total_K = torch.zeros(len(slots), device=base.device)
    for number, batches in enumerate(zip(*group.values(), strict=True)):
        with _joined(slots, number):
            losses = [
                each / len(group[slot]) for slot, each in zip(slots, _losses(slots, base, batches, number), strict=True)
            ]
            # Of a sum, each slot's gradient is that of its own loss.
            total = torch.stack([slot.scaler.scale(each) for slot, each in zip(slots, losses, strict=True)]).sum()
            if total.requires_grad:  # or every layer was dropped
                total.backward()
        total_K += torch.stack(losses).detach()
    for slot in slots:
        if all(parameter.grad is None for parameter in slot.parameters()):
            for parameter in slot.parameters():
                parameter.grad = torch.zeros_like(parameter)
        slot.scaler.unscale_(slot.optimizer)
    norms = [_clip(slot.parameters(), slot.recipe.train.max_grad_norm) for slot in slots]
    # All at once: to read a number, the host waits for the device.
    numbers = torch.stack([total_K, torch.stack(norms).to(total_K.dtype)]).T.tolist()
    return [
        _update(slot, lr, mean_loss=mean_loss, grad_norm=norm)
        for slot, lr, (mean_loss, norm) in zip(slots, rates, numbers, strict=True)
    ]


def _joined(slots: Sequence[Slot], number: int) -> AbstractContextManager[None]:
    """Have the slots' adapters act by their factors, each on its own rows; a slot that has none acts by itself."""
    for slot in slots:
        if isinstance(slot.adapter, DrawsPerBatch):
            slot.adapter.draw(slot.seed_of("adapter", number))
    factors = [_factors(slot) for slot in slots]
    return packed.joined([each for each in factors if each is not None])


def _update(slot: Slot, lr: dict[str, float], *, mean_loss: float, grad_norm: float) -> dict[str, float] | None:
    """Move a slot's weights by the gradients they have; returns what to log, None when they are not finite."""
    if not math.isfinite(mean_loss) or not (math.isfinite(grad_norm) or _may_be_the_scale(slot.scaler)):
        return None
    slot.scaler.step(slot.optimizer)
    slot.scaler.update()
    slot.optimizer.zero_grad(set_to_none=True)
    slot.step += 1
    metrics = lr | {"train/loss": mean_loss}
    if math.isfinite(grad_norm):
        metrics["train/grad_norm"] = grad_norm
    extra = dict(slot.logged(slot.optimizer))
    for brake in slot.brakes:
        extra |= brake.after_step(slot.adapter)
    return metrics | {f"train/{name}": value for name, value in extra.items()}


def _may_be_the_scale(scaler: torch.amp.GradScaler) -> bool:
    """Tell whether a gradient may be infinite for its scale alone: the scaler then skips it and scales less."""
    return scaler.is_enabled() and scaler.get_scale() > _LEAST_SCALE


def _draw(slot: Slot, base: Base, images: Sequence[PlannedImage], number: int) -> _Batch:
    """Draw one batch, everything from seeds of this slot, step and batch."""
    pairs = [slot.latents.mean_std(image) for image in images]
    noisy_batch = loss.make_noisy_batch(
        torch.stack([mean for mean, _ in pairs]),
        torch.stack([std for _, std in pairs]),
        base.path,
        generator=torch.Generator().manual_seed(slot.seed_of("noise", number)),
        options=slot.recipe.noise,
    )
    captions = slot.captions(images, batch=number)
    rows = [row for row, image in enumerate(images) if image.target == "base"]
    if rows:
        noisy_batch = _answered_by_base(slot, base, noisy_batch, captions, images, rows)
    text = None if slot.trains_text else slot.texts.embed(captions)
    mask_B1HW = None
    if any(image.mask for image in images):
        least = slot.recipe.dataset.unmasked_weight
        size = noisy_batch.noisy_BCHW.shape[2:]
        mask_B1HW = least + (1 - least) * torch.stack([slot.latents.mask(image, size) for image in images])
    return _Batch(images=images, captions=captions, noisy_batch=noisy_batch, mask_B1HW=mask_B1HW, text=text)


def _losses(slots: Sequence[Slot], base: Base, batches: Sequence[_Batch], number: int) -> list[torch.Tensor]:
    """Return each slot's mean loss over its batch, asked in one forward."""
    slot, questions = slots[0], [batch.noisy_batch for batch in batches]
    frames = [image.frame for batch in batches for image in batch.images]
    with _seeded_dropout(slot.seed_of("dropout", number), base.device), _autocast(slot, base):
        texts = [batch.text or base.encode_captions(batch.captions) for batch in batches]
        prediction_BCHW = base.predict(
            torch.cat([noisy_batch.noisy_BCHW for noisy_batch in questions]),
            torch.cat([noisy_batch.t_B for noisy_batch in questions]),
            {name: torch.cat([text[name] for text in texts]) for name in texts[0]},
            frames,
        )
    answers = prediction_BCHW.chunk(len(slots))
    return [
        loss.weighted_loss(
            answer_BCHW,
            batch.noisy_batch,
            base.path,
            options=slot.recipe.noise,
            weights=_weights(batch.images),
            mask_B1HW=batch.mask_B1HW,
        )
        for slot, batch, answer_BCHW in zip(slots, batches, answers, strict=True)
    ]


def _weights(images: Sequence[PlannedImage]) -> list[float] | None:
    """Return the weights of the images' losses; None when all are 1, to send nothing to the device."""
    weights = [image.loss_weight for image in images]
    return weights if set(weights) != {1.0} else None


def _answered_by_base(
    slot: Slot,
    base: Base,
    noisy_batch: loss.NoisyBatch,
    captions: Sequence[str],
    images: Sequence[PlannedImage],
    rows: Sequence[int],
) -> loss.NoisyBatch:
    """Put the frozen base's own answers, at LoRA weight 0, in the place of some rows' targets."""
    asked, frames = [captions[row] for row in rows], [images[row].frame for row in rows]
    silent = lora_weight.lora_weight(base, slot.adapter, 0.0)
    # An autocast of its own, so that no cast made here, without gradient, can serve the adapted pass.
    with silent, lora_weight.without_adapters(base), _autocast(slot, base):
        text = base.encode_captions(asked) if slot.trains_text else slot.texts.embed(asked)
        answer_BCHW = base.predict(noisy_batch.noisy_BCHW[rows], noisy_batch.t_B[rows], text, frames)
    target_BCHW = noisy_batch.target_BCHW.clone()
    target_BCHW[rows] = answer_BCHW.to(target_BCHW.dtype)
    return dataclasses.replace(noisy_batch, target_BCHW=target_BCHW)


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
    """Seed the global generator, since dropout takes no other, and give it back as it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
