"""Scales, ticks, label placement and fronts, against brute force and closed forms."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
from sweep_folders import Cooked, write_sweep

from lorasweep.results.report import charts
from lorasweep.results.report.charts import Scale, spread
from lorasweep.results.report.reading import Rung, read_findings
from lorasweep.sweep.ranking.leaderboard import undominated


def test_scale_is_a_line_and_clips() -> None:
    scale = Scale(10.0, 20.0, 100.0, 0.0)
    assert [scale(value) for value in (10, 15, 20, 5, 99)] == [100, 50, 0, 100, 0]
    assert Scale(3.0, 3.0, 0.0, 10.0)(3.0) == 5.0


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.0, 80.0, [0, 20, 40, 60, 80]),
        (-0.3, 0.31, [-0.2, 0, 0.2]),
        (7.0, 7.0, [7.0]),
    ],
)
def test_ticks_are_round_and_inside(low: float, high: float, ticks: list[float]) -> None:
    assert Scale(low, high, 0, 1).ticks() == pytest.approx(ticks)


def test_labels_keep_their_order_and_their_distance() -> None:
    draw = random.Random(0)
    for _ in range(200):
        places = [draw.uniform(0, 100) for _ in range(draw.randint(1, 6))]
        moved = spread(places, gap=15, low=0, high=100)
        ordered = [moved[i] for i in sorted(range(len(places)), key=lambda i: places[i])]
        assert all(b - a >= 15 - 1e-9 for a, b in itertools.pairwise(ordered))
        assert min(moved) >= -1e-9 and max(moved) <= 100 + 1e-9


def test_labels_with_room_stay_where_they_are() -> None:
    assert spread([10, 50, 90], gap=15, low=0, high=100) == [10, 50, 90]


@pytest.mark.parametrize("score", [0.0, 0.2, 1.0])
def test_what_was_learned_is_what_utility_is_made_of_also_where_an_identity_turned_up_later(score: float) -> None:
    stand_in = {"overcook/fidelity": 0.5, "overcook/score": score, "overcook/utility": 0.5 * (1 - score)}
    assert Rung(step=1, exposures=1.0, metrics=stand_in | {"identity/score": 0.9}).learned == 0.5
    assert Rung(step=1, exposures=1.0, metrics=stand_in).learned == 0.5


def test_of_a_crowd_the_fronts_arms_are_named(tmp_path: Path) -> None:
    """Also with several seeds, whose marks share a name."""
    dull = [Cooked(arm=f"dull{n}", seed=seed, identity=0.1, overcook=0.5) for n in range(14) for seed in (0, 1)]
    good = [Cooked(arm=f"good{n}", seed=seed, identity=0.4 + n / 10) for n in range(3) for seed in (0, 1)]
    chart = charts.pareto(read_findings(write_sweep(tmp_path / "m", [*dull, *good])))
    assert chart is not None
    assert {mark.trial.state.arm for mark in chart.front} == {"good2"}
    assert [label.text for label in chart.labels] == ["good2"]


def test_front_by_brute_force() -> None:
    draw = random.Random(1)
    for _ in range(100):
        points = [(draw.randint(0, 6) / 6, draw.randint(0, 6) / 6) for _ in range(draw.randint(1, 12))]
        unbeaten = {p for p in points if not any(q != p and q[0] <= p[0] and q[1] >= p[1] for q in points)}
        front = undominated([(overcook, -identity) for overcook, identity in points])
        assert {points[i] for i in front} == unbeaten
        assert [points[i] for i in front] == sorted(points[i] for i in front)


def test_of_two_objectives_one_recipe_has_room_around_it_and_round_numbers(tmp_path: Path) -> None:
    goals = {"identity/score": "maximize", "burn/score": "minimize"}
    chart = charts.pareto(read_findings(write_sweep(tmp_path / "m", [Cooked(arm="alone")], objectives=goals)))
    assert chart is not None
    for scale, value in ((chart.x, chart.marks[0].x), (chart.y, chart.marks[0].y)):
        assert scale(value) == (scale.start_px + scale.end_px) / 2
        assert len(scale.ticks()) > 3 and all(len(f"{tick:g}") < 6 for tick in scale.ticks())


@pytest.mark.parametrize("goals", [*itertools.product(("minimize", "maximize"), repeat=2)])
def test_the_fronts_steps_turn_where_both_neighbours_are_better(goals: tuple[str, str], tmp_path: Path) -> None:
    """Or the line would pass through what an arm of the front beats, and leave out what none does."""
    draw = random.Random(1)
    arms = [Cooked(arm=f"a{n}", identity=draw.random(), overcook=draw.random(), pictures=False) for n in range(12)]
    objectives = dict(zip(("identity/score", "burn/score"), goals, strict=True))
    chart = charts.pareto(read_findings(write_sweep(tmp_path / "m", arms, objectives=objectives)))
    assert chart is not None and len(chart.front) > 1
    worse = {"minimize": max, "maximize": min}
    marks = chart.front
    points = [(chart.x(mark.x), chart.y(mark.y)) for mark in marks]
    corners = [
        (chart.x(worse[goals[1]](one.x, other.x)), chart.y(worse[goals[0]](one.y, other.y)))
        for one, other in itertools.pairwise(marks)
    ]
    assert chart.stairs[::2] == points and chart.stairs[1::2] == corners
