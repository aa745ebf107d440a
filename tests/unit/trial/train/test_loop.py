from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiny_training import train

from lorasweep.core.records import Component, TrainOptions
from lorasweep.trial import lora_weight
from lorasweep.trial.train import loop
from lorasweep.trial.train.loop import Diverged, advance
from lorasweep.trial.train.slot import Slot


def test_each_step_reports_loss_norm_and_lr_by_part(new_slot: Any, base: Any) -> None:
    slot = new_slot(
        adapter=Component(name="lora", options={"dim": 2, "alpha": 1.0, "text_encoder": True}),
        optimizer=Component(name="adamw", options={"lr": 1e-2, "text_encoder_lr": 1e-3}),
    )
    seen: list[int] = []
    advance([slot], base, steps=2, on_step=lambda slot, metrics: seen.append(slot.step))
    assert seen == [1, 2] and slot.step == 2
    (row,) = train(slot, base, 1)
    assert row.keys() == {"train/loss", "train/grad_norm", "train/lr/unet", "train/lr/text_encoder"}
    assert row["train/lr/unet"] == slot.schedule(2, 1e-2) == pytest.approx(10 * row["train/lr/text_encoder"])
    assert row["train/loss"] > 0 and row["train/grad_norm"] > 0


def test_prodigy_logs_its_estimate(new_slot: Any, base: Any) -> None:
    slot = new_slot(optimizer=Component(name="prodigy"), scheduler=Component(name="constant"))
    (row,) = train(slot, base, 1)
    assert row["train/d"] == row["train/d_lr"] >= 1e-6


def test_it_learns_and_leaves_the_base_alone(new_slot: Any, base: Any) -> None:
    frozen = {name: tensor.clone() for name, tensor in base.unet.state_dict().items()}
    slot = new_slot(scheduler=Component(name="constant"))
    losses = [row["train/loss"] for row in train(slot, base, 40)]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    slot.close()
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in base.unet.state_dict().items())
    assert not base.unet.training


def test_accumulating_two_batches_is_their_mean(new_slot: Any, base: Any) -> None:
    """The gradient of a step is the mean of its batches' gradients, each of them computed alone here."""
    slot = new_slot(train=TrainOptions(batch_size=1, gradient_accumulation=3, max_grad_norm=0.0, device="cpu"))
    batches = slot.batches()
    assert len(batches) == 3
    parameter = next(p for p in slot.parameters() if p.count_nonzero() == 0)  # an "up" factor
    alone = [
        torch.autograd.grad(loop._losses([slot], base, [loop._draw(slot, base, images, number)], number)[0], parameter)[
            0
        ]
        for number, images in enumerate(batches)
    ]
    applied: list[torch.Tensor] = []
    step = slot.optimizer.step

    def spy() -> None:
        assert parameter.grad is not None
        applied.append(parameter.grad.clone())
        step()

    slot.optimizer.step = spy  # type: ignore[method-assign,assignment]
    train(slot, base, 1)
    assert not torch.equal(alone[0], alone[1])
    assert torch.allclose(applied[0], sum(alone) / 3, rtol=1e-5)


def test_each_batch_of_a_step_and_each_step_has_noise_of_its_own(new_slot: Any, base: Any) -> None:
    slot = new_slot(train=TrainOptions(batch_size=1, gradient_accumulation=3, device="cpu"))
    (images, *_) = slot.batches()
    losses = [
        loop._losses([slot], base, [loop._draw(slot, base, images, number)], number)[0].item() for number in (0, 1, 0)
    ]
    slot.step = 1
    losses.append(loop._losses([slot], base, [loop._draw(slot, base, images, 0)], 0)[0].item())
    assert losses[0] == losses[2] and len(set(losses)) == 3


def test_the_last_step_of_an_epoch_takes_what_is_left(new_slot: Any) -> None:
    slot = new_slot(train=TrainOptions(batch_size=1, gradient_accumulation=4, device="cpu"))
    # 2 images once and 2 images twice: 6 batches an epoch.
    sizes = []
    for slot.step in range(4):
        sizes.append(len(slot.batches()))
    assert sizes == [4, 2, 4, 2]


def test_gradients_are_clipped_together(new_slot: Any, base: Any) -> None:
    norms = []
    for limit in (1e-3, 0.0):
        slot = new_slot(
            train=TrainOptions(max_grad_norm=limit, batch_size=2, device="cpu"),
            scheduler=Component(name="constant"),
        )
        step = slot.optimizer.step
        found: list[float] = []

        def spy(slot: Slot = slot, step: Any = step, found: list[float] = found) -> None:
            squares = [p.grad.double().square().sum() for p in slot.parameters() if p.grad is not None]
            found.append(math.sqrt(sum(squares)))
            step()

        slot.optimizer.step = spy
        (row,) = train(slot, base, 1)
        norms.append((row["train/grad_norm"], found[0]))
        slot.close()
    (reported, clipped), (plain, unclipped) = norms
    assert unclipped == pytest.approx(reported, rel=1e-4) == pytest.approx(plain, rel=1e-4) and unclipped > 1e-2
    assert clipped == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("poison", ["weights", "gradients"])
def test_nan_ends_it_with_the_weights_of_before(new_slot: Any, base: Any, poison: str) -> None:
    slot = new_slot()
    train(slot, base, 2)
    before = slot.adapter.state_dict()
    parameter = slot.parameters()[0]
    if poison == "weights":
        parameter.data.fill_(math.nan)
    else:
        parameter.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(Diverged) as caught:
        train(slot, base, 3)
    assert caught.value.slot is slot and caught.value.step == slot.step == 2
    assert "step 3" in str(caught.value) and not base.unet.training
    after = slot.adapter.state_dict()
    changed = [key for key in before if not torch.equal(before[key], after[key])]
    assert len(changed) == (1 if poison == "weights" else 0)


def test_a_callback_may_stop_between_two_steps(new_slot: Any, base: Any) -> None:
    slot = new_slot()

    def stop(slot: Slot, metrics: dict[str, float]) -> None:
        if slot.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        advance([slot], base, steps=5, on_step=stop)
    assert slot.step == 2 and not base.unet.training
    train(slot, base, 1)
    assert slot.step == 3


def test_a_slot_that_cannot_be_made_leaves_nothing_in_the_base(new_slot: Any, base: Any) -> None:
    before = [type(module) for module in base.unet.modules()]
    with pytest.raises(TypeError):
        new_slot(optimizer=Component(name="adamw", options={"no_such_knob": 1}))
    assert [type(module) for module in base.unet.modules()] == before


@pytest.mark.parametrize("base", ["fp32", "bf16"], indirect=True)
def test_an_adapter_that_is_looked_at_while_it_trains_does_not_drop_out(new_slot: Any, base: Any) -> None:
    slot = new_slot(adapter=Component(name="lora", options={"dim": 2, "dropout": 0.5}))
    train(slot, base, 2)
    noisy, text = torch.ones(1, 4, 8, 8, dtype=base.dtype), base.encode_captions(["zkw"])["embeds"]
    weight = next(module for module in base.unet.modules() if hasattr(module, "lora_A")).base_layer.weight
    untouched = weight.detach().clone()

    def answer() -> torch.Tensor:
        return base.unet(noisy, torch.tensor([500]), text).sample.detach()

    base.unet.train()
    with torch.random.fork_rng():
        assert not torch.equal(answer(), answer())
        with lora_weight.lora_weight(base, slot.adapter, 1.0):
            assert torch.equal(answer(), answer())
            # An adapter is added only to weights that do not round it away.
            assert torch.equal(weight, untouched) == (base.dtype == torch.bfloat16)
        assert not torch.equal(answer(), answer())
    assert torch.equal(weight, untouched)
    base.unet.eval()
