"""What every adapter promises, for each file of conf/adapter/ or those that `CHOICES` names.

With the text encoder, and without it where that is the point.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lorasweep.config import compose_recipe
from lorasweep.core import registry
from lorasweep.core.errors import AdapterError
from lorasweep.core.protocols import Adapter, Base
from lorasweep.core.records import Frame
from lorasweep.testing import Choice, load
from lorasweep.testing import base as base
from lorasweep.testing import pytest_generate_tests as pytest_generate_tests

PROMPTS = ["zkw, red hair", "1girl, blue dress"]
EITHER_WAY = pytest.mark.parametrize("knobs", [False, True], ids=["unet", "unet+text"], indirect=True)


@pytest.fixture
def knobs(request: pytest.FixtureRequest, adapter_choice: Choice) -> dict[str, Any]:
    """The file's; of an adapter that may sit in the text encoder, with that unless parametrized with False."""
    knobs, with_text = adapter_choice[1], getattr(request, "param", True)
    return {**knobs, "text_encoder": with_text} if "text_encoder" in knobs else knobs


@pytest.fixture
def module(adapter_choice: Choice) -> Any:
    """The module."""
    return load("adapter", adapter_choice)


@pytest.fixture
def adapter(module: Any, knobs: dict[str, Any], base: Base) -> Iterator[Adapter]:
    """In the base for the time of a test."""
    made = module.build(base, seed=0, **knobs)
    yield made
    made.remove()


def look(base: Base) -> torch.Tensor:
    """The denoiser's answer to two prompts, at whatever weight is in force."""
    noisy = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    t = base.path.t_of(torch.tensor([0.01, 0.7]))
    return base.predict(noisy, t, base.encode_captions(PROMPTS), [Frame.whole(64, 64)] * 2)


def train(adapter: Adapter, base: Base, steps: int = 3, lr: float = 1e-2) -> None:
    """Pull the answer towards zero."""
    parameters = [parameter for part in adapter.parameters().values() for parameter in part]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        look(base).square().mean().backward()
        optimizer.step()


def test_identity_until_trained(module: Any, knobs: dict[str, Any], base: Base) -> None:
    with torch.no_grad():
        plain = look(base)
        adapter = module.build(base, seed=0, **knobs)
        assert torch.equal(look(base), plain)
    adapter.remove()


def test_weight_zero_is_the_base_and_weights_differ(adapter: Adapter, base: Base) -> None:
    adapter.set_weight(0)
    with torch.no_grad():
        plain = look(base)
    adapter.set_weight(1)
    train(adapter, base, steps=1, lr=1e-3)  # small, so that the answer still follows the weight
    with torch.no_grad():
        trained = look(base)
        adapter.set_weight(0.7)
        weaker = look(base)
        adapter.set_weight(0)
        assert torch.equal(look(base), plain)
        adapter.set_weight(1)
        assert torch.equal(look(base), trained)
    assert not torch.equal(trained, plain)
    share = (weaker - plain).abs().mean() / (trained - plain).abs().mean()
    assert float(share) == pytest.approx(0.7, abs=0.1)


def test_merged_for_a_while_equals_unmerged_and_leaves_no_trace(adapter: Any, base: Base) -> None:
    if not hasattr(adapter, "merged"):
        pytest.skip("is never added to the base's weights")
    train(adapter, base)
    inner = {name: layer.get_base_layer().weight for name, layer in adapter.layers.items()}
    before = {name: weight.detach().clone() for name, weight in inner.items()}
    with torch.no_grad():
        adapter.set_weight(0.7)
        unmerged = look(base)
        adapter.set_weight(1.0)
        trained = look(base)
        with adapter.merged(0.7):
            assert not torch.equal(inner[min(inner)], before[min(inner)])
            assert (look(base) - unmerged).abs().max() < 1e-4 * max(1.0, unmerged.abs().max().item())
            with pytest.raises(AssertionError, match="until the end"):
                adapter.set_weight(0)  # would say nothing and leave the 0.7 in the base
        with pytest.raises(KeyboardInterrupt), adapter.merged(0.3):
            raise KeyboardInterrupt
        assert torch.equal(look(base), trained)
    assert all(torch.equal(weight, before[name]) for name, weight in inner.items())


def test_another_adapter_in_the_same_base_is_not_touched(module: Any, knobs: dict[str, Any], base: Base) -> None:
    with torch.no_grad():
        plain = look(base)
    options = compose_recipe(["adapter=lora", "adapter.dim=2", "adapter.targets=full", "adapter.text_encoder=true"])
    first = registry.load("adapter", "lora").build(base, seed=3, **options.adapter.options)
    train(first, base, steps=2)
    with torch.no_grad():
        alone = look(base)
    second = module.build(base, seed=0, **knobs)
    with torch.no_grad():
        assert torch.equal(look(base), alone)
    assert all(p.requires_grad for part in first.parameters().values() for p in part)
    first.set_weight(0)
    train(second, base, steps=2)
    with torch.no_grad():
        own = look(base)
        second.set_weight(0)
        first.set_weight(1)
        assert torch.equal(look(base), alone)
        first.remove()
        assert torch.equal(look(base), plain)
        second.set_weight(1)
        assert torch.equal(look(base), own)
        second.remove()
        assert torch.equal(look(base), plain)


@EITHER_WAY
def test_only_its_own_tensors_train_and_all_of_them(adapter: Adapter, base: Base, knobs: dict[str, Any]) -> None:
    parts = adapter.parameters()
    assert set(parts) == (set(base.parts) if knobs.get("text_encoder") else {"unet"})
    own = {id(parameter): parameter for part in parts.values() for parameter in part}
    trainable = [
        parameter for model in base.parts.values() for parameter in model.parameters() if parameter.requires_grad
    ]
    assert {id(parameter) for parameter in trainable} == own.keys() and len(own) > 0
    assert {parameter.dtype for parameter in own.values()} == {torch.float32}
    # One step may leave a factor whose partner was zero without gradient; two must not.
    train(adapter, base, steps=1)
    train(adapter, base, steps=1)
    without = [tuple(p.shape) for p in own.values() if p.grad is None or p.grad.count_nonzero() == 0]
    assert without == []


def test_state_restores_the_same_answers(adapter: Adapter, module: Any, knobs: dict[str, Any], base: Base) -> None:
    train(adapter, base)
    state = adapter.state_dict()
    with torch.no_grad():
        trained = look(base)
    adapter.remove()
    other = module.build(base, seed=1, **knobs)
    with torch.no_grad():
        assert not torch.equal(look(base), trained)
        other.load_state_dict(state)
        assert torch.equal(look(base), trained)
    assert all(torch.equal(tensor, state[name]) for name, tensor in other.state_dict().items())
    other.remove()


def test_state_is_a_copy(adapter: Adapter, base: Base) -> None:
    state = adapter.state_dict()
    kept = {name: tensor.clone() for name, tensor in state.items()}
    train(adapter, base)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in state.items())
    with pytest.raises(AdapterError):
        adapter.load_state_dict({"nothing": torch.zeros(1)})


def test_saving_leaves_a_file_and_the_adapter_as_it_was(adapter: Adapter, base: Base, tmp_path: Path) -> None:
    train(adapter, base, steps=1)
    with torch.no_grad():
        before = look(base)
        adapter.save(tmp_path / "some name.safetensors")
        assert torch.equal(look(base), before)
    assert [path.name for path in tmp_path.iterdir()] == ["some name.safetensors"]


def test_removing_gives_the_base_back(module: Any, knobs: dict[str, Any], base: Base) -> None:
    def shape() -> list[tuple[str, type]]:
        return [(name, type(part)) for model in base.parts.values() for name, part in model.named_modules()]

    before = shape()
    with torch.no_grad():
        plain = look(base)
    adapter = module.build(base, seed=0, **knobs)
    train(adapter, base)
    with torch.no_grad():
        assert not torch.equal(look(base), plain)
    adapter.remove()
    assert shape() == before
    with torch.no_grad():
        assert torch.equal(look(base), plain)
    assert not any(p.requires_grad for model in base.parts.values() for p in model.parameters())
    adapter.remove()


def test_same_seed_same_adapter_whatever_the_global_generator(module: Any, knobs: dict[str, Any], base: Base) -> None:
    states = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(noise)
        state = torch.get_rng_state()
        adapter = module.build(base, seed=seed, **knobs)
        assert torch.equal(torch.get_rng_state(), state)
        states.append(adapter.state_dict())
        adapter.remove()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    drawn = [name for name, tensor in states[0].items() if tensor.unique().numel() > 1]
    is_other = [name for name in drawn if not torch.equal(states[0][name], states[2][name])]
    assert is_other or not drawn  # IA3 draws nothing


def test_a_base_without_a_place_for_it_is_refused(module: Any, knobs: dict[str, Any], base: Base) -> None:
    base.parts["unet"] = torch.nn.Sequential(torch.nn.ReLU())  # type: ignore[index]
    with pytest.raises(AdapterError, match="unet"):
        module.build(base, seed=0, **knobs)
