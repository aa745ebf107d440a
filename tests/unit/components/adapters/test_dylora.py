from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import shipped
import torch
from tiny_training import make_plan, make_recipe

from lorasweep.components.adapters import dylora, lora
from lorasweep.core.protocols import Base, DrawsPerBatch
from lorasweep.core.records import Component, TrainOptions
from lorasweep.trial import lora_weight
from lorasweep.trial.cache import LatentCache, Store, TextCache
from lorasweep.trial.train import checkpoint
from lorasweep.trial.train.loop import advance
from lorasweep.trial.train.slot import Slot, make_slot

KNOBS: dict[str, Any] = {"dim": 8, "alpha": 4.0, "unit": 2, "targets": "full"}


def look(base: Base) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    noisy = torch.randn(1, 4, 8, 8, generator=generator)
    text = torch.randn(1, 4, base.unet.config.cross_attention_dim, generator=generator)
    answer: torch.Tensor = base.unet(noisy, 10, text).sample
    return answer


def draw_rank(adapter: Any, rank: int) -> None:
    for seed in range(1000):
        adapter.draw(seed)
        if adapter.rank == rank:
            return
    raise AssertionError(f"rank {rank} never came")


def test_training_at_rank_b_is_a_lora_of_rank_b_with_alpha_over_b(base: Base) -> None:
    """The answer and the gradients, by a plain LoRA made of the first b rows, alpha unchanged."""
    adapter: Any = shipped.build(dylora, base, seed=0, **KNOBS)
    shipped.shake(adapter)
    state = adapter.state_dict()
    draw_rank(adapter, 4)
    base.unet.train()
    answer = look(base)
    answer.square().mean().backward()
    gradients = {key: parameter.grad for key, parameter in adapter.named_parameters()}
    with lora_weight.lora_weight(base, adapter, 1.0):
        whole = look(base)
    base.unet.eval()
    adapter.remove()

    cut: Any = shipped.build(lora, base, seed=0, dim=4, alpha=4.0, targets="full")
    cut.load_state_dict({k: v[:4] if ".lora_A." in k else v[:, :4] for k, v in state.items()})
    expected = look(base)
    expected.square().mean().backward()
    assert (whole - expected).abs().max() > 0.01  # judging sees every rank
    assert torch.allclose(answer, expected, atol=1e-5)
    for key, parameter in cut.named_parameters():
        found = gradients[key]
        first, rest = (found[:4], found[4:]) if ".lora_A." in key else (found[:, :4], found[:, 4:])
        assert torch.allclose(first, parameter.grad, atol=1e-5) and rest.count_nonzero() == 0
    cut.remove()


def test_every_rank_is_drawn_as_often_and_by_the_seed_alone(base: Base) -> None:
    adapter: Any = shipped.build(dylora, base, seed=0, dim=64, unit=4)
    assert issubclass(type(adapter), DrawsPerBatch)  # what the loop asks
    drawn: list[int] = []
    for seed in range(3200):
        adapter.draw(seed)
        drawn.append(adapter.rank or 0)
    counts = Counter(drawn)
    assert sorted(counts) == list(range(4, 65, 4))
    assert all(130 < count < 270 for count in counts.values())
    adapter.draw(7)
    assert adapter.rank == drawn[7]
    adapter.remove()


def test_ranks_vary_by_step_resuming_repeats_them_and_every_tensor_learns(
    base: Base, tiny_sd: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(
        tiny_sd,
        adapter=Component(name="dylora", options=KNOBS | {"targets": "attn"}),
        train=TrainOptions(max_steps=8, batch_size=2, gradient_accumulation=2, device="cpu"),
    )
    plan = make_plan(recipe, tmp_path / "images")
    store = Store(tmp_path / "cache")
    caches: dict[str, Any] = {"latents": LatentCache(base, store), "texts": TextCache(base, store)}

    def cook(slot: Slot, steps: int) -> list[Any]:
        ranks: list[Any] = []
        advance([slot], base, steps=steps, on_step=lambda s, _: ranks.append(s.adapter.rank))  # type: ignore[attr-defined]
        return ranks

    straight = make_slot(base, recipe, plan, **caches)
    start = straight.adapter.state_dict()
    ranks = cook(straight, 6)
    expected = straight.adapter.state_dict()
    straight.close()
    assert len(set(ranks)) > 1
    assert not any(torch.equal(tensor, start[key]) for key, tensor in expected.items())

    first = make_slot(base, recipe, plan, **caches)
    assert cook(first, 3) == ranks[:3]
    checkpoint.save(first, tmp_path / "checkpoints")
    first.close()
    second = make_slot(base, recipe, plan, **caches)
    assert checkpoint.restore(second, tmp_path / "checkpoints") == 3
    assert cook(second, 3) == ranks[3:]
    assert all(torch.equal(tensor, expected[key]) for key, tensor in second.adapter.state_dict().items())
    second.close()


def test_the_unit_must_divide_the_rank() -> None:
    assert [key for key, _, _ in shipped.problems(dylora, dim=10, unit=4)] == ["unit"]
    found = shipped.problems(dylora, dim=0, alpha=0.0, unit=0)
    assert [key for key, _, _ in found] == ["dim", "alpha", "unit"]
    assert shipped.problems(dylora) == []
