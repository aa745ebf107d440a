from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import entropy

from benchmarks.overcooking import truth

VALUES = ("beach", "forest", "city")


def spoken(*, likeness: float, stranger: float, hits: float, shown: int, corrupt: float, copied: int) -> Any:
    """Ten pictures a group; `shown` different places on the plain prompt; `hits` of ten obeyed."""

    def group(like: float) -> dict[str, list[Any]]:
        return {
            "likeness": [like] * 10,
            "corrupt": [corrupt] * 10,
            "hits": [[n < 10 * hits] for n in range(10)],
            "shown": [[VALUES[n % shown]] for n in range(10)],
        }

    groups = {"recombined": group(likeness), "plain": group(likeness), "stranger": group(stranger)}
    groups["open"] = group(stranger)
    nearness = [0.3] * copied + [1.1] * (20 - copied)
    return {"groups": groups, "copied": {"nearness": nearness}}


BASE = spoken(likeness=0.2, stranger=0.1, hits=1.0, shown=3, corrupt=0.0, copied=0)


def test_the_base_is_untouched() -> None:
    found = truth.judge(BASE, BASE)
    assert found.identity == 0
    assert found.harm == 0
    assert not found.overcooked


@pytest.mark.parametrize(
    ("symptom", "change"),
    [
        ("bleed", {"stranger": 0.25}),
        ("control", {"hits": 0.7}),
        ("variety", {"shown": 1}),
        ("corrupt", {"corrupt": 0.12}),
        ("copies", {"copied": 4}),
    ],
)
def test_each_symptom_alone_is_enough(symptom: str, change: dict[str, Any]) -> None:
    healthy = {"likeness": 0.6, "stranger": 0.1, "hits": 1.0, "shown": 3, "corrupt": 0.0, "copied": 1}
    assert not truth.judge(spoken(**healthy), BASE).overcooked
    found = truth.judge(spoken(**healthy | change), BASE)
    assert found.overcooked
    assert max(found.excess, key=lambda name: found.excess[name]) == symptom
    assert found.utility < found.identity


def test_excess_and_harm_by_hand() -> None:
    found = truth.judge(spoken(likeness=0.6, stranger=0.15, hits=0.9, shown=3, corrupt=0.0, copied=1), BASE)
    assert found.identity == pytest.approx((0.6 - 0.2) / 0.8)
    assert found.excess["bleed"] == pytest.approx(0.05 / truth.LIMITS["bleed"])
    assert found.excess["control"] == pytest.approx(0.1 / truth.LIMITS["control"])
    assert found.excess["copies"] == pytest.approx(0.05 / truth.LIMITS["copies"])
    assert found.harm == pytest.approx(found.worst / 2)


def test_without_images_of_the_subject_nothing_is_copied() -> None:
    silent = {"groups": BASE["groups"]}
    assert truth.judge(silent, BASE).excess["copies"] == 0


def test_the_two_halves_see_every_picture_once() -> None:
    testimony = spoken(likeness=0.6, stranger=0.1, hits=1.0, shown=3, corrupt=0.0, copied=0)
    testimony["groups"]["recombined"]["likeness"] = [0.9, 0.3] * 5
    testimony["copied"]["nearness"] = [0.1, 1.0] * 10
    first, second = truth.halves(testimony, BASE)
    whole = truth.judge(testimony, BASE)
    assert first.identity > whole.identity > second.identity
    assert (first.identity + second.identity) / 2 == pytest.approx(whole.identity)
    assert first.excess["copies"] == pytest.approx(1.0 / truth.LIMITS["copies"])
    assert second.excess["copies"] == 0


def test_variety_is_the_exponential_of_the_entropy() -> None:
    shown = [["beach", "a"], ["beach", "b"], ["city", "c"], ["forest", "d"]]
    by_scipy = [np.exp(entropy([2, 1, 1])), np.exp(entropy([1, 1, 1, 1]))]
    assert truth.variety(shown) == pytest.approx(np.mean(by_scipy))
    assert truth.variety([["beach"]] * 5) == pytest.approx(1.0)


def test_distances_are_root_mean_squares() -> None:
    rng = np.random.default_rng(0)
    pictures, training = rng.random((3, 4, 5, 3)), rng.random((2, 4, 5, 3))
    by_hand = [[np.sqrt(((p - t) ** 2).mean()) for t in training] for p in pictures]
    assert truth.pixel_distances(pictures, training) == pytest.approx(np.array(by_hand))


@pytest.mark.parametrize("shrink", [0.0, 0.5, 1.0])
def test_whoever_copies_nothing_is_the_nearest_once_in_twenty_times(shrink: float) -> None:
    """However near the average a picture is: that is what a fixed threshold gets wrong."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(150):
        drawn = rng.normal(size=(21, 6, 2, 2, 3))  # a training set, 19 replicas of it, and pictures
        found += (truth.nearness(shrink * drawn[20], drawn[0], drawn[1:20]) < 1).tolist()
    assert np.mean(found) == pytest.approx(0.05, abs=0.02)


def test_copies_are_called_copies_of_whichever_image() -> None:
    rng = np.random.default_rng(2)
    drawn = rng.random((20, 6, 4, 4, 3))
    blurred = drawn[0][::-1] + rng.normal(scale=0.1, size=drawn[0].shape)
    assert (truth.nearness(blurred, drawn[0], drawn[1:]) < truth.NEAR).all()
    assert truth.nearness(drawn[0], drawn[0], drawn[1:]) == pytest.approx(np.zeros(6), abs=1e-6)


def test_what_comes_uncalled_is_counted_against_what_was_called() -> None:
    found = truth.judge(spoken(likeness=0.6, stranger=0.3, hits=1.0, shown=3, corrupt=0.0, copied=0), BASE).extra
    assert found["uncalled"] == pytest.approx((0.3 - 0.1) / (0.6 - 0.2))
    nothing = spoken(likeness=0.25, stranger=0.3, hits=1.0, shown=3, corrupt=0.0, copied=0)
    assert np.isnan(truth.judge(nothing, BASE).extra["uncalled"])


def test_change_is_against_the_base_picture_of_the_same_noise() -> None:
    def bare(shown: int, count: int) -> Any:
        found = spoken(likeness=0.6, stranger=0.3, hits=1.0, shown=shown, corrupt=0.0, copied=0)
        found["groups"]["open"]["shown"] = [[VALUES[n % shown]] for n in range(count)]
        return found

    same = sum(VALUES[n % 2] == VALUES[n % 3] for n in range(24)) / 24
    assert 0 < same < 1
    assert truth.judge(bare(2, 24), bare(3, 24)).extra["changed_open"] == pytest.approx(1 - same)
    assert truth.judge(bare(3, 24), bare(3, 24)).extra["changed_open"] == 0
    assert np.isnan(truth.judge(bare(2, 10), bare(3, 10)).extra["changed_open"]), "too few to know"
