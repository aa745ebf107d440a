"""W* on curves whose minimum and slope are known, against scipy, and on a live LoRA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shipped
from scipy.optimize import minimize_scalar

from lorasweep.components.metrics import useful_weight


def points(curve: Any, weights: tuple[float, ...] = (0.0, 0.4, 0.7, 1.0)) -> list[tuple[float, float]]:
    return [(w, float(curve(w))) for w in weights]


@pytest.mark.parametrize("best", [0.35, 0.55, 0.7, 0.9])
def test_exact_on_parabolas(best: float) -> None:
    def curve(w: float) -> float:
        return 0.8 * (w - best) ** 2 - 0.3

    assert useful_weight.lowest(points(curve)) == pytest.approx(best)
    assert useful_weight.slope(points(curve), 0.7) == pytest.approx(1.6 * (0.7 - best))


def test_close_on_a_curve_that_is_no_parabola() -> None:
    def curve(w: float) -> float:
        return float(np.log(1 - 0.9 * w + 0.7 * w**2 + 0.1 * w**3))

    best = minimize_scalar(curve, bounds=(0, 1), method="bounded").x
    assert useful_weight.lowest(points(curve)) == pytest.approx(best, abs=0.03)
    slope = (curve(0.7001) - curve(0.6999)) / 0.0002
    assert useful_weight.slope(points(curve), 0.7) == pytest.approx(slope, abs=0.08)


def test_the_ends_are_taken_as_they_are() -> None:
    assert useful_weight.lowest(points(lambda w: -w)) == 1.0
    assert useful_weight.lowest(points(lambda w: w)) == 0.0
    assert useful_weight.slope(points(lambda w: w * w), 1.0) == pytest.approx(2.0)


def test_a_live_adapters_slope_is_the_difference_of_its_losses(context: Any, perturb: Any) -> None:
    metric = useful_weight.build(weights=[0.69, 0.71])
    idle = metric.measure(context).values
    assert idle["useful_weight/slope"] == pytest.approx(0, abs=1e-4)
    perturb(context.adapter, 0.3)
    context._cache.clear()
    context.answers.clear()
    found = metric.measure(context).values["useful_weight/slope"]
    logs = []
    for weight in (0.69, 0.71):
        rows = context.losses("held_out", weight, first_noise=True)
        ratios = [
            (rows.adapted[rows.timestep == t].mean() / rows.base[rows.timestep == t].mean()).log()
            for t in rows.timestep.unique()
        ]
        logs.append(float(sum(ratios) / len(ratios)))
    assert abs(found) > 1e-3
    assert found == pytest.approx((logs[1] - logs[0]) / 0.02, rel=1e-3)


def test_weights_must_make_sense() -> None:
    assert shipped.problems(useful_weight, weights=[0.4, 1.0]) == []
    assert "above 0" in shipped.problems(useful_weight, weights=[0.0])[0][1]
    assert "[0, 2]" in shipped.problems(useful_weight, weights=[-1.0, 0.5])[0][1]
