from __future__ import annotations

import pytest
import torch

from benchmarks.overcooking import planted
from lorasweep.components.bases._paths import VP, Flow
from lorasweep.core.protocols import NoisePath

ALPHA_BAR_T = torch.linspace(0.999, 0.001, 1000)
FLOW = Flow(((1, 0.0), (2, 0.0)))


@pytest.mark.parametrize(
    ("path", "t"),
    [
        (VP(ALPHA_BAR_T, "epsilon"), torch.tensor([700])),
        (VP(ALPHA_BAR_T, "v_prediction"), torch.tensor([700])),
        (FLOW, torch.tensor([0.7])),
    ],
)
def test_the_copier_minimises_the_training_loss(path: NoisePath, t: torch.Tensor) -> None:
    """Against the posterior mean by brute force in float64, and against any other answer."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(3, 2, 4, 4, generator=generator)
    x = path.add(latents[:1], torch.randn(1, 2, 4, 4, generator=generator), t)
    found = planted.ideal(x, t, latents, path)
    alpha, sigma = (scale.double()[0] for scale in path.scales(t))
    weights = [torch.exp(-(x.double()[0] - alpha * z).square().sum() / (2 * sigma**2)) for z in latents.double()]
    clean = sum(w * z for w, z in zip(weights, latents.double(), strict=True)) / sum(weights)
    noise = (x.double()[0] - alpha * clean) / sigma
    wanted = {"epsilon": noise, "v_prediction": alpha * noise - sigma * clean, "flow": noise - clean}
    torch.testing.assert_close(found[0].double(), wanted[path.prediction], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("path", "t"), [(VP(ALPHA_BAR_T, "epsilon"), 9), (FLOW, 0.1)])
def test_at_low_noise_the_copier_returns_the_image_it_is_near(path: NoisePath, t: float) -> None:
    latents = torch.randn(5, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    noise, t_B = torch.randn(5, 2, 4, 4, generator=torch.Generator().manual_seed(2)), torch.tensor([t] * 5)
    found = planted.ideal(path.add(latents, noise, t_B), t_B, latents, path)
    torch.testing.assert_close(found, path.target(latents, noise, t_B), atol=2e-3, rtol=2e-3)
