"""Likeness by means: closed forms, an estimator without bias, and what it says of planted pictures."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lorasweep.components.metrics import _resemblance as resemblance
from lorasweep.components.metrics import identity

SUBJECT, STRANGER = 2.0, 0.0  # what planted pictures show on every number, on the average


def pictures(shown: float, count: int, *, seed: int, scatter: float = 1.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(shown + scatter * torch.randn(count, 4, 50, generator=generator, dtype=torch.float64))


@pytest.fixture
def context() -> Any:
    """Pictures are their own features, (T, D) each."""
    return SimpleNamespace(
        encoder=lambda name, *, subject_only: object() if name == "base" else None,
        gallery=SimpleNamespace(train=pictures(SUBJECT, 20, seed=1), held_out=()),
        features=lambda pictures, *, encoder=None, keep=False: {"features": torch.stack(list(pictures))},
    )


def test_the_squared_distance_in_closed_form() -> None:
    left, right = torch.tensor([[0.0], [2.0]]), torch.tensor([[5.0], [5.0]])
    # means 1 and 5; the left scatters with variance 2, which a mean of two carries as 1
    assert resemblance.squared_distance(left, right) == pytest.approx(16 - 1)


def test_the_squared_distance_is_right_on_average_where_the_plain_one_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    plain, unbiased = [], []
    for _ in range(200):
        left = torch.randn(8, 40, generator=generator)
        right = 0.3 + torch.randn(20, 40, generator=generator)
        plain.append(float((left.mean(0) - right.mean(0)).square().mean()))
        unbiased.append(resemblance.squared_distance(left, right))
    assert sum(unbiased) / 200 == pytest.approx(0.09, abs=0.01)
    assert sum(plain) / 200 == pytest.approx(0.09 + 1 / 8 + 1 / 20, abs=0.01)


def test_likeness_goes_from_the_base_to_the_subject_and_falls_again_beyond(context: Any) -> None:
    view = resemblance.make_scale(context, "base", pictures(STRANGER, 8, seed=2))
    said = [view.likeness(pictures(shown, 8, seed=3))[0] for shown in (STRANGER, 0.5, 1.0, 1.5, SUBJECT, 4.0, 7.0)]
    assert said[0] == pytest.approx(0, abs=0.1) and said[4] == pytest.approx(1, abs=0.1)
    assert said[:5] == sorted(said[:5]) and said[4] > said[5] > said[6]
    assert said[2] == pytest.approx(1 - 0.5**2, abs=0.1), "half way is a quarter of the squared distance"
    wild = view.likeness(pictures(SUBJECT, 8, seed=4, scatter=3.0))[0]
    assert wild == pytest.approx(1, abs=0.25), "scatter alone is no distance"


def test_what_strangers_gained_is_the_share_of_the_way(context: Any) -> None:
    everything = pictures(STRANGER, 16, seed=5)
    view = resemblance.make_scale(context, "base", everything)
    base = everything[:4]
    assert view.gain(base, base) == 0
    moved = [picture + 0.25 * (SUBJECT - STRANGER) for picture in base]
    assert view.gain(moved, base) == pytest.approx(0.25, abs=0.03)
    generator = torch.Generator().manual_seed(6)
    aside = torch.randn(4, 50, generator=generator, dtype=torch.float64)
    assert abs(view.gain([picture + 3 * aside for picture in base], base)) < 0.3, "another way is no bleeding"


def test_what_cannot_be_told_is_said(context: Any) -> None:
    for few, reason in (
        ({"gallery": None}, "two training images"),
        (
            {"gallery": SimpleNamespace(train=pictures(STRANGER, 8, seed=2), held_out=())},
            "cannot tell the subject",
        ),
    ):
        about = SimpleNamespace(**{**vars(context), **few})
        with pytest.raises(resemblance.CannotTell, match=reason):
            resemblance.make_scale(about, "base", pictures(STRANGER, 8, seed=2))
    with pytest.raises(resemblance.CannotTell, match="two pictures by the base"):
        resemblance.make_scale(context, "base", pictures(STRANGER, 1, seed=2))
    with pytest.raises(resemblance.CannotTell, match="dino"):
        resemblance.make_scale(context, "dino", pictures(STRANGER, 8, seed=2))


def test_an_identity_that_is_no_number_is_not_called_none_of_the_subject(context: Any) -> None:
    drawn, context.reader = pictures(SUBJECT, 8, seed=3), None
    drawn[0][0, 0] = math.nan
    found = identity.by(context, "base", drawn, pictures(STRANGER, 8, seed=2))  # type: ignore[arg-type]
    assert math.isnan(found.values["identity/score"])


def by_dino(train: np.ndarray, held_out: np.ndarray, base: np.ndarray) -> resemblance.SimilarityScale:
    """Pictures are their own features, (D,) each, to an encoder that sees the subject only."""
    about: Any = SimpleNamespace(
        encoder=lambda name, *, subject_only: name if name == "dino" and subject_only else None,
        gallery=SimpleNamespace(train=list(train), held_out=list(held_out)),
        features=lambda pictures, *, encoder, keep=False: {encoder: None, "whole": torch.tensor(np.array(pictures))},
    )
    return resemblance.make_scale(about, "dino", list(base))  # type: ignore[arg-type]


def mean_cosine(some: Any, others: Any) -> float:
    """What DreamBooth has of two sets of pictures, pair by pair."""
    return float(np.mean([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a in some for b in others if a is not b]))


def test_by_a_published_encoder_it_is_the_mean_cosine_between_the_bases_pictures_and_unseen_ones() -> None:
    rng = np.random.default_rng(0)
    subject = rng.standard_normal(30)
    train, held_out = (subject + 0.5 * rng.standard_normal((count, 30)) for count in (6, 3))
    base, drawn = rng.standard_normal((5, 30)), 0.4 * subject + rng.standard_normal((4, 30))
    for unseen in (held_out, held_out[:0]):
        scale = by_dino(train, unseen, base)
        none, mine = mean_cosine(base, train), mean_cosine(drawn, train)
        full = mean_cosine(unseen, train) if len(unseen) else mean_cosine(rows := list(train), rows)
        likeness, details = scale.likeness(list(drawn))  # type: ignore[arg-type]
        assert none < mine < full and likeness == pytest.approx((mine - none) / (full - none))
        named = {"resemblance": mine, "base_resemblance": none, "held_out_resemblance": full}
        assert details == pytest.approx(named)
        gained = scale.gain(list(drawn), list(base[:2]))  # type: ignore[arg-type]
        assert gained == pytest.approx((mine - mean_cosine(base[:2], train)) / (full - none))
    with pytest.raises(resemblance.CannotTell, match="dino cannot tell the subject"):
        by_dino(train, held_out, train + 0.01)
