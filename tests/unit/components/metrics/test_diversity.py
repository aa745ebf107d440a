"""V against the published numbers and closed forms of the Vendi score, and on planted sets of pictures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from lorasweep.components.metrics import _similarity as similarity
from lorasweep.components.metrics import burn, diversity
from lorasweep.core.judging import Picture
from lorasweep.core.records import SampleOptions


def test_vendi_in_closed_form() -> None:
    assert similarity.vendi(torch.eye(7)) == pytest.approx(7)
    assert similarity.vendi(torch.ones(7, 7)) == pytest.approx(1)
    # n copies of each of k different pictures are k pictures
    assert similarity.vendi(torch.kron(torch.eye(3), torch.ones(4, 4))) == pytest.approx(3)


def test_vendi_gives_the_packages_published_number() -> None:
    """README of vendi-score: samples 0, 0, 10, 10, 20, 20 under exp(-|a - b|) give 2.9999."""
    samples = torch.tensor([0.0, 0, 10, 10, 20, 20])
    assert similarity.vendi((-(samples[:, None] - samples).abs()).exp()) == pytest.approx(2.9999, abs=1e-4)


def test_vendi_is_scipys_entropy_of_the_spectrum() -> None:
    points = np.random.default_rng(0).standard_normal((9, 5))
    kernel = np.exp(-((points[:, None] - points) ** 2).sum(-1) / 8)
    expected = np.exp(entropy(np.linalg.eigvalsh(kernel / 9)))
    assert similarity.vendi(torch.from_numpy(kernel)) == pytest.approx(expected)


def test_one_picture_over_and_over_is_one() -> None:
    base = pictures(8)
    theirs = diversity.kernel(base, base)
    assert similarity.vendi(theirs) > 3
    assert diversity.relative(theirs, theirs) == 1
    same = base[:1].expand(8, -1, -1)
    only = diversity.relative(diversity.kernel(same, base), theirs)
    assert only == pytest.approx(1 / similarity.vendi(theirs))
    two = torch.cat([base[:1].expand(4, -1, -1), base[1:2].expand(4, -1, -1)])
    assert only < diversity.relative(diversity.kernel(two, base), theirs) < 0.7


def test_the_kernel_in_closed_form() -> None:
    base = torch.tensor([[[1.0, 0.0]], [[-1.0, 0.0]], [[0.0, 1.0]], [[0.0, -1.0]]])  # mean 0, deviations equal
    expected = torch.tensor([[2.0, 0, 1, 1], [0, 2, 1, 1], [1, 1, 2, 0], [1, 1, 0, 2]]).double() / 2
    assert torch.allclose(diversity.kernel(base, base), expected)


def test_broken_pictures_are_not_more_varied_and_a_look_that_all_share_is_less() -> None:
    base = pictures(8)
    theirs = diversity.kernel(base, base)
    far = base.mean(0) + 5 * (base - base.mean(0))  # everything five times as far from everything
    assert torch.cdist(far.flatten(1), far.flatten(1)).mean() > 4 * torch.pdist(base.flatten(1)).mean()
    assert diversity.relative(diversity.kernel(far, base), theirs) == pytest.approx(1)
    shared = [diversity.relative(diversity.kernel(base + k, base), theirs) for k in (0.0, 0.5, 1.0, 3.0)]
    assert shared == sorted(shared, reverse=True) and shared[-1] < 0.5


def pictures(count: int) -> torch.Tensor:
    """Features of different pictures, (N, T, D)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 4, 10, generator=generator, dtype=torch.float64)


def test_standardised_by_the_reference() -> None:
    generator = torch.Generator().manual_seed(0)
    reference = 3 + 2 * torch.randn(50, 4, 6, generator=generator, dtype=torch.float64)
    scaled = similarity.standardised(reference, reference)
    assert torch.allclose(scaled.mean(0), torch.zeros(4, 6, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(scaled.square().mean((0, 1)), torch.ones(6, dtype=torch.float64))
    constant = torch.ones(5, 1, 3)
    assert torch.isfinite(similarity.standardised(constant, constant)).all()


@pytest.mark.parametrize("unit", [1e-8, 1e6])
def test_the_unit_of_features_changes_nothing(unit: float) -> None:
    noise = torch.randn(6, 4, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    features = torch.cat([pictures(6), 1 + 1e-12 * noise], dim=2)  # the last number varies by rounding only
    same = 1 + 1e-9 * pictures(6)
    plain, scaled = (similarity.standardised(each, each) for each in (features, unit * features))
    assert torch.allclose(scaled, plain, atol=1e-4) and plain[:, :, -1].abs().max() < 1e-3
    assert [similarity.is_one_picture(unit * each) for each in (features, same)] == [False, True]


@pytest.mark.parametrize("count", [2, 3])
def test_from_three_pictures_on_the_variety_is_that_over_the_bases(count: int) -> None:
    base = pictures(3)[:count]
    drawn = torch.cat([base[:1], base[:-1]])  # the first one twice
    features: dict[Any, torch.Tensor] = {}

    def shown(kind: str, of: torch.Tensor) -> list[Picture]:
        features.update({f"{kind} {seed}": row for seed, row in enumerate(of)})
        return [Picture(prompt="zkw", seed=seed, image=f"{kind} {seed}") for seed in range(count)]  # type: ignore[arg-type]

    mine, theirs = shown("drawn", drawn), shown("base", base)
    context = SimpleNamespace(
        pictures=lambda *tiers: mine,
        base_pictures=lambda *tiers: theirs,
        features=lambda images, keep=False: {"features": torch.stack([features[image] for image in images])},
    )
    found = diversity.Diversity(tiers=("recombined",)).measure(context)  # type: ignore[arg-type]
    assert ("diversity/relative" in found.values) == (count == 3)
    if count == 3:
        vendi = [similarity.vendi(diversity.kernel(each, base)) for each in (drawn, base)]
        assert found.values["diversity/relative"] == pytest.approx(vendi[0] / vendi[1]) and vendi[0] < vendi[1]

    recipe: Any = SimpleNamespace(
        sample=SampleOptions(seeds=tuple(range(count))),
        metrics={"diversity": {"tiers": ("recombined",)}, "burn": {"min_reference": 4}},
    )
    plan: Any = SimpleNamespace(prompts={"recombined": ("zkw",)}, train_images=lambda: [0] * 4)
    assert (diversity.names(recipe, plan)["diversity/relative"] == "") == (count == 3)
    assert (burn.names(recipe, plan)["burn/score"] == "") == (count == 3)
