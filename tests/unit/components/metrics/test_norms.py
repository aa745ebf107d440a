"""N against what numpy and PEFT say of the same weights, and intruders of known number."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import shipped
import torch

from lorasweep.components.adapters import dora, ia3, loha
from lorasweep.components.metrics import norms


def with_adapter(context: Any, adapter: Any) -> Any:
    return dataclasses.replace(context, adapter=adapter, _cache={})


def test_relative_norms_agree_with_numpy(context: Any, perturb: Any) -> None:
    perturb(context.adapter, 0.1)
    found = norms.build(decompose=0).measure(context).values
    expected = []
    for layer in context.adapter.layers.values():
        base = layer.get_base_layer().weight.detach().numpy()
        delta = 0.7 * layer.get_delta_weight(context.adapter.name).detach().numpy()
        expected.append(np.sqrt((delta**2).sum()) / np.sqrt((base**2).sum()))
    assert found["norms/relative"] == pytest.approx(np.mean(expected), rel=1e-4)
    assert found["norms/relative_max"] == pytest.approx(np.max(expected), rel=1e-4)
    assert "norms/intruders" not in found


def test_some_modules_from_all_over_are_decomposed_as_numpy_does(context: Any, perturb: Any) -> None:
    """Of n modules every k-th, with the smallest k that leaves no more than were asked for."""
    perturb(context.adapter, 0.1)
    layers, asked = list(context.adapter.layers.values()), 3
    k = next(k for k in range(1, len(layers) + 1) if len(layers) // k <= asked and len(layers) / k <= asked)
    assert k > 1
    spectral, stable = [], []
    for layer in layers[k - 1 :: k]:
        base = layer.get_base_layer().weight.detach().numpy()
        delta = 0.7 * layer.get_delta_weight(context.adapter.name).detach().numpy()
        values = np.linalg.svd(delta.reshape(len(delta), -1), compute_uv=False)
        spectral.append(values[0] / np.linalg.svd(base.reshape(len(base), -1), compute_uv=False)[0])
        stable.append((values**2).sum() / values[0] ** 2)
    found = norms.build(decompose=asked).measure(context).values
    assert found["norms/spectral_max"] == pytest.approx(np.max(spectral), rel=1e-4)
    assert found["norms/stable_rank"] == pytest.approx(np.mean(stable), rel=1e-4)


@pytest.mark.parametrize("module", [dora, ia3, loha], ids=["dora", "ia3", "loha"])
def test_an_untrained_adapter_of_any_kind_has_moved_nothing(context: Any, perturb: Any, module: Any) -> None:
    context.adapter.remove()
    adapter = shipped.build(module, context.base, seed=0)
    idle = norms.build(decompose=4).measure(with_adapter(context, adapter)).values
    assert idle["norms/relative"] == pytest.approx(0, abs=1e-5)
    assert idle["norms/intruders"] == 0
    perturb(adapter, 0.5)
    moved = norms.build(decompose=4).measure(with_adapter(context, adapter)).values
    assert moved["norms/relative"] > 1e-3
    adapter.remove()


def test_as_many_intruders_as_were_planted() -> None:
    """With orthogonal left and right vectors, the sum's singular vectors are known in closed form."""
    rng = np.random.default_rng(0)
    left, _ = np.linalg.qr(rng.standard_normal((40, 40)))
    right, _ = np.linalg.qr(rng.standard_normal((30, 30)))
    # The base lives in the first 20 directions, the strangers outside of them.
    base = left[:, :20] @ np.diag(np.linspace(3, 1, 20)) @ right[:, :20].T
    for planted in (0, 1, 4):
        change = 10 * left[:, 20 : 20 + planted] @ right[:, 20 : 20 + planted].T
        found = norms.decomposed(*(torch.from_numpy(np.asarray(m)) for m in (base[:, :], change)))
        # The base has no vector outside its own 20 directions to resemble: those that svd makes up for zero
        # singular values are arbitrary, so only the planted ones are looked for among the meaningful.
        assert found.spectral == pytest.approx(10 / 3 if planted else 0)
        assert found.stable_rank == pytest.approx(planted)


def test_intruders_of_a_full_rank_base() -> None:
    rng = np.random.default_rng(1)
    left, _ = np.linalg.qr(rng.standard_normal((64, 64)))
    right, _ = np.linalg.qr(rng.standard_normal((64, 64)))
    base = left @ np.diag(np.linspace(2, 1, 64)) @ right.T
    # A sum of all the base's left vectors is equally far from each of them: cosine 1 / 8.
    stranger = left.sum(1) / 8
    change = 50 * np.outer(stranger, right.sum(1) / 8)
    assert np.abs(stranger @ left).max() == pytest.approx(1 / 8)
    assert norms.decomposed(torch.from_numpy(base), torch.from_numpy(change)).intruders == 1
    own = 50 * np.outer(left[:, 5], right[:, 5])
    assert norms.decomposed(torch.from_numpy(base), torch.from_numpy(own)).intruders == 0


@pytest.mark.parametrize("planted", [0, 1, 4])
def test_intruders_of_a_module_with_more_outputs_than_inputs(planted: int) -> None:
    """Its base has no vector in most directions, so none there is its own; the sum's vectors in closed form.

    A base vector of singular value s and a stranger of 10 on the same input make one vector, whose cosine with the
    base's own is s / sqrt(s^2 + 100), below 0.3.
    """
    rng = np.random.default_rng(2)
    left, _ = np.linalg.qr(rng.standard_normal((40, 40)))
    right, _ = np.linalg.qr(rng.standard_normal((20, 20)))
    base = left[:, :20] @ np.diag(np.linspace(3, 1, 20)) @ right.T
    change = 10 * left[:, 20 : 20 + planted] @ right[:, :planted].T
    assert norms.decomposed(torch.from_numpy(base), torch.from_numpy(change)).intruders == planted


def test_half_the_weight_is_half_the_norm(context: Any, perturb: Any) -> None:
    perturb(context.adapter, 0.1)
    whole = norms.build(decompose=0).measure(context).values["norms/relative"]
    half = dataclasses.replace(context, weight=0.35, _cache={})
    assert norms.build(decompose=0).measure(half).values["norms/relative"] == pytest.approx(whole / 2, rel=1e-4)
