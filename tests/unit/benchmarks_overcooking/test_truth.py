from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import entropy

from benchmarks.overcooking import copies, truth

VALUES = ("beach", "forest", "city")


def spoken(*, likeness: float, stranger: float, hits: float, shown: int, corrupt: float, copied: int) -> Any:
    """Ten pictures a group; `shown` different places on the plain prompt; `hits` of ten obeyed."""

    def group(like: float) -> dict[str, list[Any]]:
        return {
            "likeness": [like] * 10,
            "identity": [like] * 10,
            "corrupt": [corrupt] * 10,
            "hits": [[n < 10 * hits] for n in range(10)],
            "shown": [[VALUES[n % shown]] for n in range(10)],
        }

    groups = {"recombined": group(likeness), "plain": group(likeness), "stranger": group(stranger)}
    groups["open"] = group(stranger)
    flags = [1] * copied + [0] * (20 - copied)
    return {"groups": groups, "copied": {"pixel": flags, "nuisance": flags}}


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
        ("corrupt", {"corrupt": 0.06}),
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
    assert found.excess["copies"] == pytest.approx(0.0, abs=1e-12)  # one in twenty is chance
    assert found.harm == pytest.approx(found.worst / 2)


def test_without_images_of_the_subject_nothing_is_copied() -> None:
    silent = {"groups": BASE["groups"]}
    assert truth.judge(silent, BASE).excess["copies"] == 0


def test_variety_is_the_exponential_of_the_entropy() -> None:
    shown = [["beach", "a"], ["beach", "b"], ["city", "c"], ["forest", "d"]]
    by_scipy = [np.exp(entropy([2, 1, 1])), np.exp(entropy([1, 1, 1, 1]))]
    assert truth.variety(shown) == pytest.approx(np.mean(by_scipy))
    assert truth.variety([["beach"]] * 5) == pytest.approx(1.0)


def test_distances_are_root_mean_squares() -> None:
    rng = np.random.default_rng(0)
    pictures, training = rng.random((3, 4, 5, 3)), rng.random((2, 4, 5, 3))
    by_hand = [[np.sqrt(((p - t) ** 2).mean()) for t in training] for p in pictures]
    assert copies.pixel_distances(pictures, training) == pytest.approx(np.array(by_hand))


def test_limits_of_copying_call_chance_a_twentieth_and_copies_copies() -> None:
    rng = np.random.default_rng(1)
    training = rng.random((8, 6, 6, 3))
    own = np.repeat(training, 50, axis=0).reshape(8, 50, 6, 6, 3)
    fresh = own + rng.normal(scale=rng.uniform(0.1, 0.5, size=(8, 50, 1, 1, 1)), size=own.shape)
    training_nuisances = rng.uniform(-1, 1, size=(8, 4))
    fresh_nuisances = rng.uniform(-1, 1, size=(8, 50, 4))
    found = copies.calibrate(fresh, training, fresh_nuisances, training_nuisances)
    flat = fresh.reshape(400, 6, 6, 3)
    near = copies.nearest(copies.pixel_distances(flat, training), found.usual_T)
    assert (near < found.pixel_limit).mean() == pytest.approx(copies.CHANCE, abs=0.005)
    exact = copies.nearest(copies.pixel_distances(training + 0.01, training), found.usual_T)
    assert (exact < found.pixel_limit).all()
    gaps = copies.nuisance_gaps(training_nuisances, training_nuisances)
    assert (gaps < found.nuisance_limit).all()
