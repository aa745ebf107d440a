"""Limits from controls made by hand: half way, clear of noise, and silent about what no control shows."""

from __future__ import annotations

from typing import Any

import pytest

from lorasweep.core.errors import LorasweepError
from lorasweep.plan.calibration import Calibration
from lorasweep.sweep.calibrate.fit_limits import Control, fit_limits, read_control
from lorasweep.trial.judge import score


def row(step: int = 0, *, noise: float = 0.0, **metrics: float) -> dict[str, Any]:
    values = {key.replace("__", "/"): value for key, value in metrics.items()}
    parts = [{k: v + sign * noise for k, v in values.items()} for sign in (1, -1, 1, -1)]
    return {"step": step, "metrics": values, "replicates": parts}


def rungs(*held_out: float, **metrics: float) -> list[dict[str, Any]]:
    return [row(100 * n, generalisation__held_out=value, **metrics) for n, value in enumerate(held_out, start=1)]


def control(arm: str, healthy: dict[str, Any], burned: dict[str, Any], **more: Any) -> Control:
    return Control(arm=arm, healthy=healthy, burned=burned, **{"gain": 0.3, "identity": 0.9} | more)


def placed(controls: list[Control], nulls: dict[str, list[dict[str, Any]]]) -> Calibration:
    return fit_limits(controls, nulls, name="test", holds_for={}, made={})


def test_the_rungs_that_matter() -> None:
    found = read_control("long", rungs(0.8, 0.7, 0.75, 0.86, 0.9, 1.2))
    assert found.healthy["step"] == 200 and found.gain == pytest.approx(0.357, abs=1e-3)
    assert found.burned["step"] == 400, "half of the gain is lost at exp(-0.178) = 0.837, so at 0.86"


def test_the_rungs_that_matter_when_little_is_lost() -> None:
    assert read_control("long", rungs(0.8, 0.7, 0.72, 0.75)).burned["step"] == 400
    with pytest.raises(LorasweepError, match="still learning at its end"):
        read_control("long", rungs(0.9, 0.8, 0.7))
    with pytest.raises(LorasweepError, match="still learning at its end"):
        read_control("long", rungs(1.3, 1.2, 1.1))
    for ruined in (rungs(1.0, 1.01, 1.02), rungs(3.2, 10.7, 10.4), rungs(1.3, 1.2, 1.4)):
        with pytest.raises(LorasweepError, match="never learned: .* lower optimizer.lr"):
            read_control("long", ruined)
    with pytest.raises(LorasweepError, match="fewer than twice"):
        read_control("long", rungs(0.9))
    twice = read_control("long", rungs(0.7, 0.9))
    assert (twice.healthy["step"], twice.burned["step"], twice.identity) == (100, 200, None)
    assert read_control("long", rungs(0.7, 0.9, identity__score=0.6)).identity == 0.6


def test_a_limit_is_half_way_and_grades_run_from_nothing_to_all() -> None:
    made = placed(
        [control("long", row(prior_drift__class=0.2), row(prior_drift__class=1.0))],
        {"base": [row(prior_drift__class=0.0)], "random": [row(prior_drift__class=0.1)]},
    )
    limit = made.limits["class_drift"]
    assert (limit.null, limit.burned, limit.limit) == (0.2, 1.0, pytest.approx(0.6))
    grades = [limit.grade(value) for value in (0.2, 0.6, 1.0)]
    assert grades[0] < 0.01 and grades[1] == pytest.approx(0.5, abs=0.01) and grades[2] > 0.99
    healthy, ruined = (
        score.summarise({"prior_drift/class": value, "identity/score": 1.0}, made).values for value in (0.2, 1.0)
    )
    assert healthy["overcook/score"] < 0.05 and ruined["overcook/score"] > 0.95


def test_the_milder_of_two_ruins_and_the_larger_of_the_harmless_decide() -> None:
    made = placed(
        [
            control("long", row(generalisation__gap=0.1), row(generalisation__gap=0.12, noise=0.1)),
            control("hot", row(generalisation__gap=0.05), row(generalisation__gap=2.0)),
            control("hot", row(generalisation__gap=0.05), row(generalisation__gap=4.0)),
            control("hotter", row(generalisation__gap=0.05), row(generalisation__gap=9.0)),
        ],
        {
            "base": [row(generalisation__gap=0.0)],
            "random": [row(generalisation__gap=0.3), row(generalisation__gap=0.5)],
        },
    )
    limit = made.limits["gap"]
    assert (limit.null, limit.burned) == (0.4, 3.0), "medians over runs; what is not clear of noise is no ruin"


def test_what_no_control_shows_clearly_gets_no_limit() -> None:
    made = placed(
        [
            control(
                "long",
                row(generalisation__gap=0.1, prior_drift__class=0.1),
                row(generalisation__gap=0.2, prior_drift__class=0.9, noise=0.05),
            )
        ],
        {"base": [row(generalisation__gap=0.0, prior_drift__class=0.0)]},
    )
    assert "gap" not in made.limits and "class_drift" in made.limits
    assert made.unplaced["gap"].startswith("ruined controls do not show it: 0.200, harmless ones up to 0.100")
    assert made.unplaced["burn"] == "the controls could not be asked for it"


def test_what_means_the_same_everywhere_is_not_moved_by_controls() -> None:
    """One prompt of eight that a hot control disobeys is no catastrophe."""
    made = placed(
        [control("long", row(prompt_control__score=1.0), row(prompt_control__score=0.875))],
        {"base": [row(prompt_control__score=1.0)]},
    )
    assert made.limits["control"].limit == 0.25 and made.limits["control"].grade(0.125) < 0.1


def test_a_limit_is_never_sharper_than_a_tenth() -> None:
    made = placed(
        [control("long", row(prior_drift__class=0.95), row(prior_drift__class=1.05))],
        {"base": [row(prior_drift__class=0.0)]},
    )
    assert made.limits["class_drift"].limit == pytest.approx(1.0)
    assert made.limits["class_drift"].width == pytest.approx(0.1)


@pytest.mark.parametrize(("harmless", "has_limit"), [(0.95, True), (0.7, False)])
def test_what_means_the_same_everywhere_has_a_limit_all_the_same(harmless: float, has_limit: bool) -> None:
    """Unless harmless adapters show half of it already: then the number means something else here."""
    same = row(diversity__relative=harmless)
    made = placed([control("long", same, same)], {"base": [row(diversity__relative=1.0)]})
    assert ("diversity" in made.limits) == has_limit
    assert ("diversity" in made.unplaced) != has_limit
    if has_limit:
        limit = made.limits["diversity"]
        assert (limit.limit, limit.burned) == (0.5, None) and limit.null == pytest.approx(0.05)
        assert limit.grade(0.05) < 0.01 < 0.45 < limit.grade(0.5)


def test_learning_is_measured_by_what_the_controls_reached() -> None:
    found = placed([control("long", row(), row(), gain=0.2), control("hot", row(), row(), gain=0.4)], {})
    assert found.learned == pytest.approx(0.54) and found.gain == pytest.approx(0.15)
    for identity in (None, 0.0):  # not read, or never anything of the subject
        blind = placed([control("long", row(), row(), identity=identity)], {})
        assert blind.learned == Calibration(name="", holds_for={}, limits={}).learned
