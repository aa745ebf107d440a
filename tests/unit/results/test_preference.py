"""Strengths from choices: against closed forms, scikit-learn and scipy, and against truths that are known.

pytest -m slow tests/unit/results/test_preference.py      (coverage)
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import binomtest, kendalltau
from sklearn.linear_model import LogisticRegression

from lorasweep.results import preference
from lorasweep.results.preference import ANSWERS, Choice, fit

FLAT = 1e4  # a prior that says nothing


def simulated(
    truth: Sequence[float], tie: float, bad: float, pairs: Sequence[tuple[int, int]], seed: int
) -> list[Choice]:
    """Answers by the model itself: log strengths, log nu, log beta."""
    chance = np.random.default_rng(seed)
    found = []
    for i, j in pairs:
        log_odds = [truth[i], truth[j], tie + (truth[i] + truth[j]) / 2, bad]
        found.append((str(i), str(j), ANSWERS[chance.choice(4, p=softmax(log_odds))]))
    return found


def test_two_items_have_a_closed_form() -> None:
    counts = {"left": 12, "right": 3, "tie": 6, "both_bad": 2}
    found = fit("ab", [("a", "b", answer) for answer, count in counts.items() for _ in range(count)], prior_sd=FLAT)
    # Four options and three free numbers: every share is met, so a / b = 12 / 3, nu = 6 / sqrt(12 * 3).
    difference, error = found.difference("a", "b")
    assert difference == pytest.approx(math.log(12 / 3), abs=1e-4)
    assert error == pytest.approx(math.sqrt(1 / 12 + 1 / 3), rel=1e-4)  # of a log odds
    assert found.log_P[2] == pytest.approx(math.log(6 / math.sqrt(12 * 3)), abs=1e-4)
    assert found.log_P[3] - found.log_P[:2].mean() == pytest.approx(math.log(2 / math.sqrt(12 * 3)), abs=1e-4)


def test_without_ties_it_is_a_logistic_regression_with_a_ridge() -> None:
    pairs = list(itertools.permutations(range(5), 2)) * 3
    choices = simulated([1.5, 0.7, 0.0, -0.2, -2.0], -50, -50, pairs, seed=3)
    found = fit([str(i) for i in range(5)], choices)
    design = np.zeros((len(pairs), 5))
    for row, (i, j) in enumerate(pairs):
        design[row, i], design[row, j] = 1, -1
    theirs = LogisticRegression(C=preference.PRIOR_SD**2, fit_intercept=False, tol=1e-10, max_iter=1000)
    theirs.fit(design, [answer == "left" for _, _, answer in choices])
    assert found.log_P[:5] == pytest.approx(theirs.coef_[0], abs=1e-4)


def test_who_never_loses_stays_finite_and_who_was_never_shown_is_average() -> None:
    found = fit(["a", "b", "new"], [("a", "b", "left")] * 30)
    assert found.order == ["a", "new", "b"]
    assert 2 < found.difference("a", "b")[0] < 8
    mean, error = found.against_average("new")
    assert mean == pytest.approx(0, abs=1e-6) and error > found.against_average("a")[1] * 0.99
    assert fit("ab", []).difference("a", "b") == (0.0, pytest.approx(2 * math.sqrt(2)))


def test_both_bad_is_evidence_of_ruin_and_no_tie() -> None:
    good = [("a", "b", "left"), ("b", "a", "left")] * 3
    ties = fit("abcd", [*good, *[("c", "d", "tie")] * 6])
    bad = fit("abcd", [*good, *[("c", "d", "both_bad")] * 6])
    assert not any(ties.is_ruined(item) for item in "abcd")
    assert [item for item in "abcd" if bad.is_ruined(item)] == ["c", "d"]
    assert bad.difference("a", "c")[0] > 1 > abs(ties.difference("a", "c")[0])


def test_close_and_little_known_pairs_tell_most() -> None:
    found = fit("abc", [("a", "b", "left")] * 12 + [("a", "c", "left"), ("c", "a", "left")] * 6)
    assert found.information("a", "c") > found.information("a", "b")
    assert fit("abc", [("a", "b", "tie")] * 9).information("a", "c") > found.information("a", "c")


def test_what_a_pair_would_teach_is_the_variance_of_the_score_of_its_answer() -> None:
    """Fisher's information of the log strength of one over the other, by differences; both bad is an answer."""
    found = fit("ab", [("a", "b", "left")] * 5 + [("a", "b", "both_bad")] * 4 + [("b", "a", "left")])
    logits = found.log_P[[0, 1, -1]]

    def chances(shift: float) -> np.ndarray:
        return np.asarray(softmax(logits + np.array([shift / 2, -shift / 2, 0.0])))

    score = (np.log(chances(1e-5)) - np.log(chances(-1e-5))) / 2e-5
    taught = chances(0.0) @ score**2 - (chances(0.0) @ score) ** 2
    assert found.information("a", "b") == pytest.approx(found.difference("a", "b")[1] ** 2 * taught)


def test_the_evidence_of_a_pair_is_its_likelihood_ratio_whichever_is_named_first() -> None:
    choices = [("c", "a", "left")] * 12 + [("c", "a", "right")] * 3 + [("b", "d", "left")] * 2
    found = fit("abcd", choices, prior_sd=FLAT)
    ratio = 12 * math.log(12 / 15) + 3 * math.log(3 / 15) - 15 * math.log(1 / 2)
    for pair in (("c", "a"), ("a", "c")):
        assert found.evidence(*pair) == pytest.approx(math.sqrt(2 * ratio), abs=1e-3)


def test_kendalls_tau_is_scipys() -> None:
    truth = [2.0, 1.0, 0.0, -1.0, -2.0, -3.0]
    items = [str(i) for i in range(6)]
    found = fit(items, simulated(truth, -1, -3, list(itertools.permutations(range(6), 2)) * 2, seed=0))
    values = dict(zip(items, [0.5, 0.7, 0.6, 0.3, 0.35, 0.1], strict=True))
    tau, low, high = found.rank_correlation(values, same=1e-6) or (0, 0, 0)
    assert tau == pytest.approx(kendalltau(found.log_P[:6], list(values.values())).statistic)
    assert low <= tau <= high and low < high
    assert found.rank_correlation(dict.fromkeys(items, 0.5), same=1e-6) is None


@pytest.mark.parametrize(("agreed", "of"), [(0, 5), (5, 5), (13, 40), (1, 1)])
def test_the_interval_of_a_share_is_scipys(agreed: int, of: int) -> None:
    theirs = binomtest(agreed, of).proportion_ci(method="wilson")
    assert preference.share_interval(agreed, of) == pytest.approx((theirs.low, theirs.high), abs=1e-4)


@pytest.mark.slow
def test_intervals_cover_the_truth() -> None:
    """Seconds; strengths are drawn from the prior of the fit, so 95 % is meant."""
    chance, inside = np.random.default_rng(1), []
    for seed in range(150):
        truth = chance.normal(0, preference.PRIOR_SD, 4)
        pairs = list(itertools.permutations(range(4), 2)) * 4
        found = fit([str(i) for i in range(4)], simulated(truth, -1, -2, pairs, seed))
        for i in range(4):
            mean, error = found.against_average(str(i))
            inside.append(abs(mean - (truth[i] - truth.mean())) <= preference.Z95 * error)
    assert 0.92 < np.mean(inside) < 0.98  # 600 intervals: 0.95 +- 0.02


@pytest.mark.parametrize(("share", "told_apart", "wrongly"), [(0.5, 0.05, 0.025), (0.75, 0.94, 0.001)])
def test_how_often_two_are_told_apart_within_sixty_answers(share: float, told_apart: float, wrongly: float) -> None:
    """Exactly, over all ways in which one may win with a chance of `share`, and one looks after every answer."""
    alive, told, wrong = {(0, 0): 1.0}, 0.0, 0.0
    for _ in range(60):
        after: dict[tuple[int, int], float] = {}
        for (won, lost), chance in alive.items():
            for counts, part in (((won + 1, lost), share), ((won, lost + 1), 1 - share)):
                after[counts] = after.get(counts, 0.0) + part * chance
        ended = {counts for counts in after if told_from(max(counts), min(counts))}
        told += sum(after[counts] for counts in ended)
        wrong += sum(after[won, lost] for won, lost in ended if won < lost)
        alive = {counts: chance for counts, chance in after.items() if counts not in ended}
    assert told == pytest.approx(told_apart, abs=0.01) and wrong <= wrongly


@functools.cache
def told_from(won: int, lost: int) -> bool:
    return won - lost > 3 and fit("ab", [("a", "b", "left")] * won + [("a", "b", "right")] * lost).settled


def test_what_always_wins_is_settled_soon_and_what_is_ruined_needs_no_order() -> None:
    order = [(a, b, "left") for a, b in itertools.pairwise("abc")] * 12
    assert fit("abc", order).settled and not fit("abc", order[:10]).settled
    assert not fit("abcd", [*order, ("c", "d", "tie")]).settled
    rejected = [("c", "d", "both_bad")] * 8 + [("a", "d", "left")] * 2
    assert fit("abcd", [*order, *rejected]).settled
    assert not fit("abcd", [*order, *rejected[8:]]).settled
    assert not fit("abcd", [("c", "d", "both_bad")] * 2).settled  # nothing is known of a and b
