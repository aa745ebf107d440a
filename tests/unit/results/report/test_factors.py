"""What mattered: single changes between arms, and importance on functions whose variance is known."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from sweep_folders import Cooked, write_sweep

from lorasweep.results.report import factors
from lorasweep.results.report.reading import read_findings
from lorasweep.sweep.search.importance import importance


def test_only_arms_that_differ_in_one_thing_are_compared(tmp_path: Path) -> None:
    trials = [
        Cooked(arm="a", overrides=["optimizer=adamw", "buckets=single"], overcook=0, identity=0.5),
        Cooked(arm="b", overrides=["optimizer=adamw", "buckets=four"], overcook=0, identity=0.7),
        Cooked(arm="c", overrides=["optimizer=prodigy", "buckets=five"], overcook=0, identity=0.6),
    ]
    findings = read_findings(write_sweep(tmp_path / "m", trials))

    [change] = factors.changes(findings)

    assert (change.factor, change.before, change.after) == ("buckets", "single", "four")
    assert change.arms == ("a", "b") and change.difference == pytest.approx(0.2)


def test_another_part_is_one_thing_however_many_keys_it_brings(tmp_path: Path) -> None:
    trials = [Cooked(arm="a"), Cooked(arm="b", overrides=["optimizer=prodigy"])]
    findings = read_findings(write_sweep(tmp_path / "m", trials))

    assert [change.factor for change in factors.changes(findings)] == ["optimizer"]


def test_few_trials_are_not_weighed_and_the_reason_is_said(tmp_path: Path) -> None:
    trials = [Cooked(arm=f"p{n}", overrides=[f"adapter.dim={4 + n}"], pictures=False) for n in range(9)]
    findings = read_findings(write_sweep(tmp_path / "m", trials))

    assert factors.is_space(findings)
    assert factors.importance(findings).why_not == "9 trials have a value; weighing axes takes 12"
    trials += [Cooked(arm=f"q{n}", overrides=[f"adapter.dim={20 + n}"], identity=0.6, pictures=False) for n in range(3)]
    found = factors.importance(read_findings(write_sweep(tmp_path / "more", trials)))
    assert (found.shares, found.conditions, found.trials) == ({"adapter.dim": 1.0}, {}, 12)


def test_importance_finds_the_axis_that_decides() -> None:
    draw = random.Random(0)
    points = [{"lr": 10 ** draw.uniform(-5, -2), "dim": draw.randint(4, 64), "noise": draw.random()} for _ in range(80)]
    # Variances of 3 x and x on equally spread x: 9 to 1.
    value = [3 * (math.log10(p["lr"]) + 5) / 3 + (p["dim"] - 4) / 60 for p in points]

    found = importance(list(zip(points, value, strict=True)))

    assert list(found)[:2] == ["lr", "dim"]
    assert found["lr"] == pytest.approx(0.9, abs=0.06) and found["noise"] < 0.03
    assert sum(found.values()) == pytest.approx(1.0)


def test_conditional_axes_are_weighed_where_they_are() -> None:
    draw = random.Random(1)
    trials: list[tuple[dict[str, object], float]] = []
    for _ in range(80):
        x, lr = draw.random(), draw.random()
        if draw.random() < 0.5:
            trials.append(({"optimizer": "adamw", "x": x, "optimizer.lr": lr}, 4 * lr + x))
        else:
            trials.append(({"optimizer": "prodigy", "x": x, "optimizer.d": lr}, 2 + x))

    found = importance(trials)

    assert found["optimizer.lr"] > 0.7 and found["optimizer.d"] < 0.2


def test_importance_needs_trials_and_something_that_varies() -> None:
    assert importance([({"x": float(n)}, float(n)) for n in range(5)]) == {}
    assert importance([({"x": 1.0}, float(n)) for n in range(20)]) == {}
    assert importance([({"x": float(n)}, 1.0) for n in range(20)]) == {}
