from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from benchmarks.overcooking import statistics


@pytest.mark.parametrize("seed", range(5))
def test_area_is_that_of_scikit_learn_ties_included(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(60) < 0.4
    scores = np.round(rng.normal(size=60) + truth, 1)
    assert len(np.unique(scores)) < 60
    assert statistics.auroc(scores, truth) == pytest.approx(roc_auc_score(truth, scores))


def test_area_needs_both_classes() -> None:
    assert math.isnan(statistics.auroc(np.arange(4.0), np.ones(4, dtype=bool)))


def test_rank_correlation_is_that_of_scipy_and_needs_variation() -> None:
    rng = np.random.default_rng(0)
    left = rng.normal(size=20)
    right = left + rng.normal(size=20)
    assert statistics.spearman(left, right) == pytest.approx(stats.spearmanr(left, right).statistic)
    assert math.isnan(statistics.spearman(left, np.ones(20)))
    assert math.isnan(statistics.spearman(left[:2], right[:2]))


def test_the_interval_of_a_mean_over_runs_is_the_classical_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "DRAWS", 4000)
    rng = np.random.default_rng(1)
    values = rng.normal(size=200)
    found = statistics.over_runs(range(200), np.mean, values)
    half = 1.96 * values.std(ddof=1) / math.sqrt(200)
    assert found["value"] == pytest.approx(values.mean())
    assert (found["high"] - found["low"]) / 2 == pytest.approx(half, rel=0.1)


def test_runs_not_rows_are_drawn() -> None:
    """Ten equal rows of each run tell no more than one: copying rows must not narrow the interval."""
    rng = np.random.default_rng(2)
    values = rng.normal(size=15)
    once = statistics.over_runs(range(15), np.mean, values)
    tenfold = np.repeat(values, 10)
    many = statistics.over_runs([n // 10 for n in range(150)], np.mean, tenfold)
    assert many["high"] - many["low"] == pytest.approx(once["high"] - once["low"], rel=1e-6)
    naive = statistics.over_runs(range(150), np.mean, tenfold)
    assert naive["high"] - naive["low"] < 0.5 * (once["high"] - once["low"])


def test_nothing_gives_nothing() -> None:
    found = statistics.over_runs([], np.mean, np.zeros(0))
    assert math.isnan(found["value"])
    assert found["n"] == 0


@pytest.mark.parametrize("folds", [2, 3, 7])
def test_folds_never_tear_a_group_and_test_everyone_once(folds: int) -> None:
    groups = [f"run-{n % 7}" for n in range(40)]
    tested: list[int] = []
    count = 0
    for train, test in statistics.group_folds(groups, folds):
        assert not {groups[n] for n in train} & {groups[n] for n in test}
        assert sorted([*train, *test]) == list(range(40))
        tested += test.tolist()
        count += 1
    assert sorted(tested) == list(range(40))
    assert count == GroupKFold(folds).get_n_splits(groups=groups)
