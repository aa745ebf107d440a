"""Training with regularization images: exact weights, the base's answer as a target, a judge undisturbed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from fresh_bases import fresh
from tiny_training import make_plan, make_recipe

from lorasweep.core.protocols import Base
from lorasweep.core.records import CaptionOptions, Component, NoiseOptions, Plan, PlannedImage, Recipe, TrainOptions
from lorasweep.trial.cache import LatentCache, Store, TextCache
from lorasweep.trial.judge import probe_builder
from lorasweep.trial.train import checkpoint, loop, loss
from lorasweep.trial.train.slot import Slot, make_slot

TEXT = Component(name="lora", options={"dim": 2, "alpha": 1.0, "text_encoder": True, "dropout": 0.2})


def with_reg_images(plan: Plan, **changes: Any) -> Plan:
    """The plan with its training images once more as regularization images, changed."""
    extra = tuple(
        dataclasses.replace(
            image, **{"split": "regularization", "concept": "reg", "caption": "1girl, red hair", **changes}
        )
        for image in plan.train_images()
    )
    return dataclasses.replace(plan, reg_images=extra)


class Bench:
    """Makes slots and asks for the loss of one batch, on one shared base."""

    def __init__(self, base: Base, tiny_sd: Path, folder: Path) -> None:
        store = Store(folder / "cache")
        self.base, self._tiny_sd, self._folder = base, tiny_sd, folder
        self.latents, self.texts = LatentCache(base, store), TextCache(base, store)
        self.made: list[Slot] = []

    def recipe(self, **changes: Any) -> Recipe:
        return make_recipe(self._tiny_sd, **changes)

    def slot(self, recipe: Recipe | None = None, *, reg: bool = True, **changes: Any) -> Slot:
        recipe = recipe or self.recipe()
        plan = self.plan(recipe)
        if reg:
            plan = with_reg_images(plan, **changes)
        self.made.append(make_slot(self.base, recipe, plan, latents=self.latents, texts=self.texts))
        return self.made[-1]

    def plan(self, recipe: Recipe) -> Plan:
        return make_plan(recipe, self._folder / "images")

    def loss_and_gradients(self, slot: Slot, images: Sequence[PlannedImage]) -> tuple[float, list[torch.Tensor]]:
        """As the loop works them out, for a batch of our choice."""
        slot.adapter.set_weight(1.0)
        found = loop._losses([slot], self.base, [loop._draw(slot, self.base, images, 0)], 0)[0]
        parameters = slot.parameters()
        return found.item(), list(torch.autograd.grad(found, parameters))


@pytest.fixture
def bench(base: Base, tiny_sd: Path, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(base, tiny_sd, tmp_path)
    yield made
    for slot in made.made:
        slot.close()


def trained(bench: Bench, slot: Slot, steps: int = 3) -> Slot:
    loop.advance([slot], bench.base, steps=steps, on_step=lambda slot, metrics: None)
    return slot


@pytest.mark.parametrize("weight", [0.25, 4.0])
def test_a_batch_of_weight_w_gives_w_times_the_loss_and_gradient(bench: Bench, weight: float) -> None:
    slot = trained(bench, bench.slot())
    images = slot.plan.reg_images[:1] * 2
    plain, gradients = bench.loss_and_gradients(slot, images)
    heavy = [dataclasses.replace(image, loss_weight=weight) for image in images]
    found, found_gradients = bench.loss_and_gradients(slot, heavy)

    assert found != plain and all(gradient.norm() > 0 for gradient in gradients)
    # Powers of two, so the products are exact in floating point.
    assert found == weight * plain
    assert all(torch.equal(g, weight * p) for g, p in zip(found_gradients, gradients, strict=True))


def test_where_the_lora_does_nothing_yet_the_bases_answer_is_already_given(bench: Bench) -> None:
    slot = bench.slot(target="base")
    images = slot.plan.reg_images[:1] * 2
    plain, _ = bench.loss_and_gradients(slot, [dataclasses.replace(i, target="noise") for i in images])
    assert plain > 0.1
    found, gradients = bench.loss_and_gradients(slot, images)
    assert found == pytest.approx(0.0, abs=1e-10) and all(g.abs().max() < 1e-6 for g in gradients)


@pytest.mark.parametrize("text_encoder", [False, True])
def test_the_target_is_what_a_base_that_never_saw_the_adapter_answers(
    bench: Bench, tiny_sd: Path, text_encoder: bool
) -> None:
    recipe = bench.recipe(adapter=TEXT) if text_encoder else bench.recipe()
    slot = trained(bench, bench.slot(recipe, target="base"))
    image, other = slot.plan.reg_images[0], slot.plan.train_images()[0]
    found, _ = bench.loss_and_gradients(slot, [image, other])

    # By hand: the same question to another copy of the base, and the answer of the adapted one.
    untouched = fresh(recipe.base)
    pairs = [slot.latents.mean_std(image), slot.latents.mean_std(other)]
    question = loss.make_noisy_batch(
        torch.stack([mean for mean, _ in pairs]),
        torch.stack([std for _, std in pairs]),
        bench.base.path,
        generator=torch.Generator().manual_seed(slot.seed_of("noise", 0)),
        options=NoiseOptions(),
    )

    def answer(base: Base) -> torch.Tensor:
        text = base.encode_captions([image.caption, other.caption])["embeds"]
        sample: torch.Tensor = base.unet(
            question.noisy_BCHW, question.t_B, encoder_hidden_states=text, return_dict=False
        )[0]
        return sample

    with torch.no_grad():
        adapted, wanted = answer(bench.base), answer(untouched)
    if not text_encoder:  # its dropout of 0.2 draws in the loop, so there only the target can be compared
        by_hand = (adapted[0] - wanted[0]).square().mean() + (adapted[1] - question.target_BCHW[1]).square().mean()
        assert found == pytest.approx(by_hand.item() / 2, rel=1e-5)
    assert (adapted[0] - wanted[0]).square().mean() > 1e-6  # the adapter has learnt something
    answered = loop._answered_by_base(slot, bench.base, question, [image.caption, other.caption], [image, other], [0])
    assert torch.allclose(answered.target_BCHW[0], wanted[0], atol=1e-5)
    assert torch.equal(answered.target_BCHW[1], question.target_BCHW[1])
    with torch.no_grad():
        assert torch.equal(answer(bench.base), adapted)  # and the adapter is back at weight 1


def test_each_kind_of_regularization_image_changes_the_training(bench: Bench) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "none": {"reg": False},
        "noise": {},
        "light": {"loss_weight": 0.01},
        "base": {"target": "base"},
    }
    ends = set()
    for changes in kinds.values():
        slot = trained(bench, bench.slot(**changes), steps=5)
        ends.add(tuple(slot.parameters()[0].flatten().tolist()))
        slot.close()
    assert len(ends) == len(kinds)


VARIED = CaptionOptions(shuffle=True, keep_tokens=1, dropout=0.3)


@pytest.mark.parametrize(
    "changes",
    [
        {"loss_weight": 0.5},
        {"target": "base", "loss_weight": 0.5},
    ],
    ids=["reg images", "prior prediction"],
)
@pytest.mark.parametrize("text_encoder", [False, True])
def test_resumed_equals_uninterrupted(
    bench: Bench, tmp_path: Path, changes: dict[str, Any], text_encoder: bool
) -> None:
    options = TrainOptions(max_steps=8, batch_size=2, gradient_accumulation=2, device="cpu")
    more: dict[str, Any] = {"adapter": TEXT, "captions": VARIED, "train": options} if text_encoder else {}
    noise = NoiseOptions(min_snr_gamma=5.0)
    recipe = bench.recipe(regularization={"scale_norm": {"max_norm": 0.5}}, noise=noise, **more)
    straight = bench.slot(recipe, **changes)
    before = straight.adapter.state_dict()
    wanted = trained(bench, straight, steps=5).adapter.state_dict()
    assert all(not torch.equal(tensor, wanted[key]) for key, tensor in before.items())
    straight.close()

    first = trained(bench, bench.slot(recipe, **changes), steps=2)
    checkpoint.save(first, tmp_path / "checkpoints")
    first.close()
    torch.manual_seed(99)
    second = bench.slot(recipe, **changes)
    assert checkpoint.restore(second, tmp_path / "checkpoints") == 2
    found = trained(bench, second, steps=3).adapter.state_dict()
    assert all(torch.equal(tensor, found[key]) for key, tensor in wanted.items())


def test_the_judge_never_looks_at_them(bench: Bench) -> None:
    recipe = bench.recipe()
    plan = bench.plan(recipe)
    without = probe_builder.build(bench.base, recipe, plan, latents=bench.latents, texts=bench.texts)
    plan = with_reg_images(plan)
    beside = probe_builder.build(bench.base, recipe, plan, latents=bench.latents, texts=bench.texts)
    assert without.sets.keys() == beside.sets.keys() and "held_out" in beside.sets
    for name, batches in without.sets.items():
        for one, other in zip(batches, beside.sets[name], strict=True):
            assert one.captions == other.captions and torch.equal(one.noisy_BCHW, other.noisy_BCHW)


def test_in_half_precision_too_every_tensor_gets_its_gradient(tiny_sd: Path, tmp_path: Path) -> None:
    """The base's turn switches the adapter off and on again in the middle of a batch."""
    gradients = {}
    for precision in ("fp32", "bf16"):
        options = TrainOptions(max_steps=8, batch_size=2, precision=precision, device="cpu")
        recipe = make_recipe(tiny_sd, train=options)
        base = fresh(recipe.base, precision=precision)
        bench = Bench(base, tiny_sd, tmp_path)
        slot = bench.slot(recipe, target="base")
        for parameter in slot.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
        _, found = bench.loss_and_gradients(slot, [slot.plan.reg_images[0], slot.plan.train_images()[0]])
        gradients[precision] = torch.cat([gradient.flatten() for gradient in found])
        assert all(gradient.norm() > 0 for gradient in found)
        slot.close()
    similarity = torch.nn.functional.cosine_similarity(gradients["fp32"], gradients["bf16"], dim=0)
    assert similarity > 0.9
