"""Linear layers by oneDNN where no gradient is asked for: the same answers, and only where they are asked to."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from lorasweep.components.bases import _onednn


@pytest.fixture
def convolutions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of what is convolved; the CPU has AVX-512, whatever it is."""
    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(_onednn.F, "conv2d", lambda x, *rest: seen.append(tuple(x.shape)) or conv2d(x, *rest))
    return seen


conv2d = F.conv2d


@pytest.mark.parametrize("shape", [(4, 64, 24), (2, 3, 77, 24), (616, 24), (16, 24, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_answers_are_those_of_a_linear_layer(
    convolutions: list[tuple[int, ...]], shape: tuple[int, ...], bias: bool
) -> None:
    layer = torch.nn.Linear(24, 40, bias=bias)
    x = torch.randn(shape)
    with torch.no_grad():
        expected = layer.double()(x.double())
        layer.float()
        _onednn.use_onednn(torch.nn.Sequential(layer))
        found = layer(x)
    assert convolutions, "it was computed as before"
    assert convolutions[0][0] >= 16
    assert found.shape == expected.shape
    assert found.is_contiguous()
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("why", ["gradients", "few rows", "a prime number of rows", "double"])
def test_anything_else_is_computed_as_before(convolutions: list[tuple[int, ...]], why: str) -> None:
    layer = torch.nn.Linear(24, 40)
    x = torch.randn({"few rows": 128, "a prime number of rows": 1009}.get(why, 1024), 24)
    if why == "double":
        layer, x = layer.double(), x.double()
    with torch.set_grad_enabled(why == "gradients"):
        expected = layer(x)
        _onednn.use_onednn(torch.nn.Sequential(layer))
        assert torch.equal(layer(x), expected)
    assert not convolutions


def test_only_plain_layers_and_only_with_avx512(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(torch.nn.Linear):
        pass

    model = torch.nn.Sequential(torch.nn.Linear(4, 4), Own(4, 4))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    _onednn.use_onednn(model)
    assert type(model[0]) is torch.nn.Linear
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    _onednn.use_onednn(model)
    assert type(model[0]) is not torch.nn.Linear
    assert isinstance(model[0], torch.nn.Linear)
    assert type(model[1]) is Own
