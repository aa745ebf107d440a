"""Max-norm against kohya's formula, on what the published formulas say each adapter adds to a weight."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import shipped
import torch
from adapter_formulas import FORMULAS
from fresh_bases import fresh
from tiny_training import make_plan, make_recipe

from lorasweep.components.regularizers import scale_norm
from lorasweep.config import compose_recipe
from lorasweep.core import registry
from lorasweep.core.errors import ConfigError
from lorasweep.core.protocols import Base
from lorasweep.trial.cache import LatentCache, Store, TextCache
from lorasweep.trial.train.loop import advance
from lorasweep.trial.train.slot import make_slot

KNOBS: dict[str, dict[str, Any]] = {
    "lora": {"dim": 4, "alpha": 2.0, "targets": "full", "text_encoder": True},
    "locon": {"dim": 4, "alpha": 2.0, "conv_dim": 2, "conv_alpha": 2.0},
    "loha": {"dim": 4, "alpha": 2.0, "targets": "full"},
    "lokr": {"dim": 2, "alpha": 1.0, "targets": "full"},
    "dylora": {"dim": 8, "alpha": 4.0, "unit": 4},
    "ia3": {"text_encoder": True},
}


@pytest.fixture
def base(tiny_sd: Path) -> Base:
    return fresh(make_recipe(tiny_sd).base)


@pytest.fixture(params=KNOBS)
def adapter(request: pytest.FixtureRequest, base: Base) -> Iterator[tuple[str, Any]]:
    """An adapter whose tensors were all moved at random, as if trained."""
    name = request.param
    made = shipped.build(registry.load("adapter", name), base, seed=0, **KNOBS[name])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for part in made.parameters().values():
            for parameter in part:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    yield name, made
    made.remove()


def deltas(name: str, adapter: Any, base: Base) -> dict[str, torch.Tensor]:
    """What every module adds to its weight, in float64, by the published formula."""
    state, found = adapter.state_dict(), {}
    for module, layer in adapter.layers.items():
        tensors = {
            key.removeprefix(f"{module}."): tensor.double()
            for key, tensor in state.items()
            if key.startswith(f"{module}.")
        }
        weight = layer.get_base_layer().weight.detach().double()
        found[module] = FORMULAS[name](weight, tensors, KNOBS[name])
    return found


def test_every_module_is_scaled_as_kohya_scales(adapter: tuple[str, Any], base: Base) -> None:
    name, made = adapter
    before = deltas(name, made, base)
    norms = {module: delta.norm().item() for module, delta in before.items()}
    limit = sorted(norms.values())[len(norms) // 2]  # about half of the modules are over it

    logged = scale_norm.build(max_norm=limit).after_step(made)

    after = deltas(name, made, base)
    wanted = {}
    for module, norm in norms.items():
        n = max(norm, limit / 2)
        ratio = min(n, limit) / n
        wanted[module] = norm * ratio
        assert torch.allclose(after[module], before[module] * ratio, rtol=1e-4, atol=1e-6), module
    over = sum(norm > limit * (1 + 1e-6) for norm in norms.values())
    assert 0 < over < len(norms) and abs(logged["norm/keys_scaled"] - over) <= 1  # the limit is one's own norm
    assert logged["norm/max"] == pytest.approx(limit, rel=1e-4)
    assert logged["norm/mean"] == pytest.approx(sum(wanted.values()) / len(wanted), rel=1e-4)


def test_a_high_limit_only_watches(adapter: tuple[str, Any], base: Base) -> None:
    name, made = adapter
    state = made.state_dict()
    norms = [delta.norm().item() for delta in deltas(name, made, base).values()]
    logged = scale_norm.build(max_norm=1e6).after_step(made)
    assert logged["norm/keys_scaled"] == 0 and logged["norm/max"] == pytest.approx(max(norms), rel=1e-4)
    assert logged["norm/mean"] == pytest.approx(sum(norms) / len(norms), rel=1e-4) and min(norms) > 0
    assert all(torch.equal(tensor, state[key]) for key, tensor in made.state_dict().items())


def test_training_stays_under_the_limit_and_logs_it(base: Base, tiny_sd: Path, tmp_path: Path) -> None:
    store, ends = Store(tmp_path / "cache"), {}
    brakes: list[dict[str, dict[str, float]]] = [{}, {"scale_norm": {"max_norm": 0.02}}]
    for regularization in brakes:
        recipe = make_recipe(tiny_sd, regularization=regularization)
        plan = make_plan(recipe, tmp_path / "images")
        latents, texts = LatentCache(base, store), TextCache(base, store)
        slot = make_slot(base, recipe, plan, latents=latents, texts=texts)
        rows: list[dict[str, float]] = []
        advance([slot], base, steps=6, on_step=lambda slot, metrics, rows=rows: rows.append(metrics))  # type: ignore[misc]
        logged = scale_norm.build(max_norm=1e6).after_step(slot.adapter)
        ends[next(iter(regularization), "none")] = (rows, logged["norm/max"])
        slot.close()
    assert ends["none"][1] > 0.03
    rows, largest = ends["scale_norm"]
    assert largest == pytest.approx(0.02, rel=1e-4)
    assert rows[0]["train/norm/max"] == 0.0  # the first step's lr is 0: nothing to divide by
    assert rows[-1]["train/norm/keys_scaled"] > 0 and "train/norm/mean" in rows[-1]


def test_what_cannot_be_is_refused() -> None:
    ((key, message, hint),) = shipped.problems(scale_norm, max_norm=0.0)
    assert key == "max_norm" and "0.0" in message and "10 to only watch" in hint
    with pytest.raises(ConfigError, match="scale_norm cannot brake dora"):
        compose_recipe(["adapter=dora", "regularization=scale_norm"])
