"""What every adapter promises, for each file of conf/adapter/ with and without the text encoder."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import shipped
import torch
from adapter_formulas import FORMULAS, merge
from effective_weight import effective_weight
from tiny_training import make_recipe

from lorasweep.components.adapters import lora
from lorasweep.components.bases import stable_diffusion
from lorasweep.core.errors import AdapterError
from lorasweep.core.protocols import Adapter, Base

PROMPTS = ["zkw, red hair", "1girl, blue dress"]


@pytest.fixture(params=[False, True], ids=["unet", "unet+text"])
def knobs(request: pytest.FixtureRequest, adapter_choice: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {**adapter_choice[1], "text_encoder": request.param}


@pytest.fixture
def module(adapter_choice: tuple[str, dict[str, Any]]) -> Any:
    return importlib.import_module(f"lorasweep.components.adapters.{adapter_choice[0]}")


@pytest.fixture
def adapter(module: Any, knobs: dict[str, Any], base: Base) -> Iterator[Adapter]:
    made = module.build(base, seed=0, **knobs)
    yield made
    made.remove()


def look(base: Base) -> torch.Tensor:
    """The denoiser's answer to two prompts, at whatever weight is in force."""
    noisy = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    answer: torch.Tensor = base.unet(noisy, torch.tensor([10, 700]), base.encode_captions(PROMPTS)["embeds"]).sample
    return answer


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


def test_merged_by_the_published_formula_equals_unmerged(
    adapter: Adapter,
    base: Base,
    tiny_sd: Path,
    knobs: dict[str, Any],
    adapter_choice: tuple[str, dict[str, Any]],
) -> None:
    name = adapter_choice[0]
    assert name in FORMULAS, f"write down what {name} adds to a weight in tests/contracts/formulas.py"
    train(adapter, base)
    state = adapter.state_dict()
    for weight in (0.3, 0.7, 1.0):
        adapter.set_weight(weight)
        plain = stable_diffusion.load(make_recipe(tiny_sd).base, device="cpu", precision="fp32")
        with torch.no_grad():
            unmerged, untouched = look(base), look(plain)
            for part in adapter.parameters():
                assert merge(plain.parts[part], part, state, name=name, knobs=knobs, weight=weight) > 0
            moved = (unmerged - untouched).abs().max()
            assert moved > 1e-3
            assert (look(plain) - unmerged).abs().max() < 1e-4 * max(1.0, moved.item())


def test_what_a_layer_says_it_adds_is_what_it_adds(adapter: Any, base: Base) -> None:
    train(adapter, base)
    for weight in (0.7, 1.0):
        adapter.set_weight(weight)
        for name, layer in adapter.layers.items():
            own = layer.get_base_layer().weight
            with torch.no_grad():
                added = effective_weight(layer).view_as(own) - own
                said = weight * adapter.delta(layer)
            assert said.norm() > 0, name
            assert (added - said).abs().max() < 1e-5 * max(1.0, own.abs().max().item()), name


def test_merged_for_a_while_equals_unmerged_and_leaves_no_trace(adapter: Any, base: Base) -> None:
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
    first = shipped.build(lora, base, seed=3, dim=2, targets="full", text_encoder=True)
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


def test_only_its_own_tensors_train_and_all_of_them(adapter: Adapter, base: Base, knobs: dict[str, Any]) -> None:
    parts = adapter.parameters()
    assert set(parts) == ({"unet", "text_encoder"} if knobs["text_encoder"] else {"unet"})
    own = {id(parameter): parameter for part in parts.values() for parameter in part}
    trainable = [
        parameter
        for model in (*base.parts.values(), base.vae)
        for parameter in model.parameters()
        if parameter.requires_grad
    ]
    assert {id(parameter) for parameter in trainable} == own.keys() and len(own) > 0
    assert {parameter.dtype for parameter in own.values()} == {torch.float32}
    # One step may leave a factor whose partner was zero without gradient; two must not.
    train(adapter, base, steps=1)
    train(adapter, base, steps=1)
    without = [tuple(p.shape) for p in own.values() if p.grad is None or p.grad.count_nonzero() == 0]
    assert without == []


def test_the_plan_counts_what_trains(adapter: Adapter, module: Any, knobs: dict[str, Any], tiny_sd: Path) -> None:
    """From the headers of the base's files alone: as many tensors, of the same sizes."""
    options = make_recipe(tiny_sd).base
    weights = {part: stable_diffusion.weight_shapes(options, part) for part in ("unet", "text_encoder")}
    counted = module.trained_shapes(weights, **knobs)
    trained = [parameter.numel() for part in adapter.parameters().values() for parameter in part]
    assert sorted(map(math.prod, counted)) == sorted(trained) and len(trained) > 10


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
    assert shape() != before
    train(adapter, base)
    adapter.remove()
    assert shape() == before
    with torch.no_grad():
        assert torch.equal(look(base), plain)
    assert not any(parameter.requires_grad for parameter in base.unet.parameters())
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


def test_shipped_knobs_have_no_problems(module: Any, adapter_choice: tuple[str, dict[str, Any]]) -> None:
    assert list(getattr(module, "problems", lambda **knobs: [])(**adapter_choice[1])) == []
