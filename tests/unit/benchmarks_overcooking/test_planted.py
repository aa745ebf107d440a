from __future__ import annotations

import pytest
import torch

from benchmarks.overcooking import planted


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_copier_minimises_the_training_loss(prediction: str) -> None:
    """Against the posterior mean by brute force in float64, and against any other answer."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(3, 2, 4, 4, generator=generator)
    abar = torch.tensor([0.3])[:, None, None, None]
    x = abar.sqrt() * latents[:1] + (1 - abar).sqrt() * torch.randn(1, 2, 4, 4, generator=generator)
    found = planted.ideal(x, abar, latents, prediction=prediction)
    weights = []
    for latent in latents.double():
        gap = (x.double()[0] - abar.double()[0].sqrt() * latent).square().sum()
        weights.append(torch.exp(-gap / (2 * (1 - abar.double()[0, 0, 0, 0]))))
    clean = sum(w * z for w, z in zip(weights, latents.double(), strict=True)) / sum(weights)
    eps = (x.double()[0] - abar.double()[0].sqrt() * clean) / (1 - abar.double()[0]).sqrt()
    velocity = abar.double()[0].sqrt() * eps - (1 - abar.double()[0]).sqrt() * clean
    torch.testing.assert_close(found[0].double(), eps if prediction == "epsilon" else velocity, atol=1e-5, rtol=1e-5)


def test_at_low_noise_the_copier_returns_the_image_it_is_near() -> None:
    latents = torch.randn(5, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    abar = torch.full((5, 1, 1, 1), 0.99)
    noise = torch.randn(5, 2, 4, 4, generator=torch.Generator().manual_seed(2))
    found = planted.ideal(abar.sqrt() * latents + (1 - abar).sqrt() * noise, abar, latents, prediction="epsilon")
    torch.testing.assert_close(found, noise, atol=1e-3, rtol=1e-3)
