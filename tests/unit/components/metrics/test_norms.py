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


def test_half_the_weight_is_half_the_norm(context: Any, perturb: Any) -> None:
    perturb(context.adapter, 0.1)
    whole = norms.build(decompose=0).measure(context).values["norms/relative"]
    half = dataclasses.replace(context, weight=0.35, _cache={})
    assert norms.build(decompose=0).measure(half).values["norms/relative"] == pytest.approx(whole / 2, rel=1e-4)
