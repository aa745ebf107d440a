"""The delete-a-group jackknife against its closed form and against a simulation."""

from __future__ import annotations

import numpy as np
import pytest

from lorasweep.trial.judge import replicates


def leave_one_out(values: np.ndarray) -> list[dict[str, float]]:
    return [{"m": float(np.delete(values, k).mean())} for k in range(len(values))]


def test_the_error_of_a_mean_is_the_textbook_one() -> None:
    values = np.random.default_rng(0).normal(size=4)
    expected = values.std(ddof=1) / 2
    assert replicates.standard_error(leave_one_out(values), "m") == pytest.approx(expected)


def test_pairing_removes_what_two_rungs_have_in_common() -> None:
    rng = np.random.default_rng(1)
    hard = rng.normal(size=4)
    left, right = hard + 0.01 * rng.normal(size=4), hard + 0.5
    paired = replicates.paired_error(leave_one_out(left), leave_one_out(right), "m")
    assert paired == pytest.approx((left - right).std(ddof=1) / 2)
    alone = replicates.standard_error(leave_one_out(left), "m")
    assert paired is not None and alone is not None and paired < alone / 10


def test_the_error_of_a_curved_function_is_right_on_average() -> None:
    rng = np.random.default_rng(2)
    units, groups, trials = 40, replicates.GROUPS, 2000
    found, truth = [], []
    for _ in range(trials):
        values = rng.normal(1.0, 0.5, size=units)
        truth.append(np.exp(values.mean()))
        parts = [{"m": float(np.exp(np.delete(values, np.s_[k::groups]).mean()))} for k in range(groups)]
        error = replicates.standard_error(parts, "m")
        assert error is not None
        found.append(error**2)
    assert np.sqrt(np.mean(found)) == pytest.approx(np.std(truth), rel=0.06)


def test_an_error_that_cannot_be_had_is_none() -> None:
    assert replicates.standard_error([{"m": 1.0}], "m") is None
    assert replicates.standard_error([{"m": 1.0}, {}], "m") is None
    assert replicates.standard_error([{"m": 1.0}, {"m": 2.0}, {}], "m") is None
    assert replicates.paired_error([{"m": 1.0}] * 2, [{"m": 1.0}] * 3, "m") is None
    score, utility = "overcook/score", "overcook/utility"
    errors = replicates.with_errors({score: 1.0, utility: 2.0}, [{score: 0.0}, {score: 2.0}])
    assert errors == {score: 1.0, utility: 2.0, f"{score}_se": 1.0}
    parts = [{score: 0.0, utility: 1.0}, {score: 2.0, utility: 1.5}]
    assert replicates.with_errors({score: 1.0}, parts) == {score: 1.0, f"{score}_se": 1.0}, "no error without a number"


def test_every_replicate_leaves_out_evidence_and_asks_nothing_new(
    context: object, adapter: object, perturb: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lorasweep.plan import calibration

    perturb(adapter, 0.05)  # type: ignore[operator]
    metrics = {"generalisation": {"weights": ()}, "prior_drift": {"weights": ()}}
    limits = calibration.read(calibration.NEAREST)
    from lorasweep.trial import judge as judging

    whole = judging.judge(context, metrics, limits).values  # type: ignore[arg-type]
    monkeypatch.setattr(type(context.base), "predict", lambda *_: pytest.fail("a forward pass was made again"))  # type: ignore[attr-defined]
    parts = replicates.replicate(context, metrics, limits)  # type: ignore[arg-type]
    assert len(parts) == replicates.GROUPS
    for name in ("generalisation/held_out", "generalisation/train", "prior_drift/class"):
        values = [part[name] for part in parts]
        assert len(set(values)) > 1 and min(values) < whole[name] < max(values)
