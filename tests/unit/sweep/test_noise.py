"""Statistics of repeats, against scipy and closed forms."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from scipy import stats

from lorasweep.sweep.ranking import noise
from lorasweep.sweep.ranking.noise import PRIOR_DF, _t_quantile, arm_intervals, rank


def seeded(*values):
    return dict(enumerate(values))


@pytest.mark.parametrize("p", [0.6, 0.9, 0.975, 0.9999])
def test_quantiles_in_closed_form(p):
    assert _t_quantile(p, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)), rel=1e-9)
    q = 2 * p - 1
    assert _t_quantile(p, 2) == pytest.approx(q * math.sqrt(2 / (1 - q * q)), rel=1e-9)
    assert _t_quantile(1 - p, 2) == pytest.approx(-_t_quantile(p, 2))


def test_a_lone_arm_has_students_interval():
    values = (0.61, 0.58, 0.66)
    (interval,) = arm_intervals({"a": seeded(*values)}).values()
    low, high = stats.t.interval(0.95, 2, statistics.fmean(values), stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx((low, high))
    assert (interval.mean, interval.seeds) == (pytest.approx(statistics.fmean(values)), 3)


def test_two_arms_are_compared_in_pairs_as_scipy_does():
    a, b = (0.70, 0.55, 0.90), (0.60, 0.47, 0.77)
    (comparison,) = rank({"b": seeded(*b), "a": seeded(*a)}, goal="maximize").comparisons
    known = stats.ttest_rel(a, b)
    low, high = known.confidence_interval(0.95)
    assert (comparison.better, comparison.how, comparison.seeds) == ("a", "paired", 3)
    assert (comparison.low, comparison.high) == pytest.approx((low, high))
    assert comparison.told_apart and known.pvalue < 0.05
    # The very same numbers without their pairing tell nothing.
    assert stats.ttest_ind(a, b).pvalue > 0.3


def test_arms_without_common_seeds_are_compared_as_welch_did():
    a, b = (0.70, 0.55, 0.90), (0.20, 0.27)
    (comparison,) = rank({"a": seeded(*a), "b": {7: b[0], 8: b[1]}}, goal="maximize").comparisons
    low, high = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert (comparison.how, comparison.seeds) == ("unpaired", 2)
    assert (comparison.low, comparison.high) == pytest.approx((low, high))


def test_a_variance_is_drawn_to_that_of_the_others():
    values = {"a": seeded(1.0, 2.0), "b": seeded(5.0, 9.0), "c": seeded(3.0, 3.0)}
    own, others = 0.5, (8.0 + 0.0) / 2
    # With two seeds each, the others' word counts as much as its own and no more.
    half = _t_quantile(0.975, 1 + 1) * math.sqrt((own + others) / 2 / 2)
    assert arm_intervals(values)["a"].half_width == pytest.approx(half)
    longer = {arm: {**seeds, 2: sum(seeds.values()) / 2} for arm, seeds in values.items()}
    own, others = 0.25, (4.0 + 0.0) / 2
    variance = (2 * own + PRIOR_DF * others) / (2 + PRIOR_DF)
    half = _t_quantile(0.975, 2 + PRIOR_DF) * math.sqrt(variance / 3)
    assert arm_intervals(longer)["a"].half_width == pytest.approx(half)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_arms_that_seeds_treat_alike_have_students_interval_each(seeds):
    """What all arms share they do not measure anew: the others' variance is the arm's own, said again."""
    chance = random.Random(seeds)
    common = [chance.gauss(0, 1) for _ in range(seeds)]
    intervals = arm_intervals({f"arm{k}": seeded(*(value + k for value in common)) for k in range(4)})
    for k in range(4):
        low, high = stats.t.interval(0.95, seeds - 1, statistics.fmean(common) + k, stats.sem(common))
        assert (intervals[f"arm{k}"].low, intervals[f"arm{k}"].high) == pytest.approx((low, high))


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("common", [0.0, 1.0, 5.0, 100.0])
def test_intervals_cover_what_they_say(seeds, common):
    """Three arms whose seeds are kind to all of them, `common` times as much as to one alone."""
    chance = random.Random(0)
    sweeps, covered = 4000, 0
    for _ in range(sweeps):
        shared = [chance.gauss(0, common) for _ in range(seeds)]
        values = {f"arm{k}": {seed: shared[seed] + chance.gauss(0, 1) for seed in range(seeds)} for k in range(3)}
        covered += sum(each.low <= 0 <= each.high for each in arm_intervals(values).values())
    # 95 % where the seeds do nothing in common, or everything; between these at 2 seeds 92.6 % (89.9 % before).
    assert covered / sweeps / 3 > 0.915


@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_the_unit_of_the_metric_changes_no_interval(unit):
    chance = random.Random(3)
    shared = [chance.gauss(0, 2) for _ in range(3)]
    values = {f"arm{k}": {seed: shared[seed] + chance.gauss(0, 1) for seed in range(3)} for k in range(4)}
    plain = arm_intervals(values)
    scaled = arm_intervals({arm: {seed: unit * value for seed, value in own.items()} for arm, own in values.items()})
    for arm, interval in plain.items():
        assert (scaled[arm].low / unit, scaled[arm].high / unit) == pytest.approx((interval.low, interval.high))


def test_the_level_is_shared_by_the_comparisons():
    a, b, c = (0.70, 0.55, 0.90), (0.60, 0.47, 0.77), (0.1, 0.3, 0.2)
    comparison = rank({"a": seeded(*a), "b": seeded(*b), "c": seeded(*c)}, goal="maximize").comparisons[0]
    gaps = {arm: [x - y for x, y in zip(a, other, strict=True)] for arm, other in (("b", b), ("c", c))}
    variance = (2 * statistics.variance(gaps["b"]) + PRIOR_DF * statistics.variance(gaps["c"])) / (2 + PRIOR_DF)
    half = stats.t.ppf(1 - 0.05 / 2 / 2, 2 + PRIOR_DF) * math.sqrt(variance / 3)
    assert comparison.worse == "b"
    assert comparison.high - comparison.low == pytest.approx(2 * half)


def test_one_seed_has_no_interval_and_decides_nothing():
    ranking = rank({"a": {0: 0.9}, "b": {0: 0.1}}, goal="maximize")
    assert ranking.order == ("a", "b")
    assert ranking.intervals == {}
    (comparison,) = ranking.comparisons
    assert (comparison.how, comparison.low, comparison.told_apart) == ("too few seeds", None, False)
    assert not ranking.decided and ranking.groups == (("a", "b"),)


def test_groups_are_arms_that_cannot_be_told_from_their_first():
    values = {
        "good": seeded(0.90, 0.91, 0.92),
        "good too": seeded(0.89, 0.92, 0.91),
        "bad": seeded(0.20, 0.21, 0.22),
        "bad too": seeded(0.21, 0.20, 0.22),
    }
    ranking = rank(values, goal="maximize")
    assert ranking.groups == (("good", "good too"), ("bad", "bad too"))
    assert not ranking.decided
    assert rank({key: values[key] for key in ("good", "bad")}, goal="maximize").decided
    assert rank(values, goal="minimize").groups[0] == ("bad", "bad too")


def test_a_difference_is_positive_where_the_best_is_better():
    values = {"low": seeded(0.1, 0.2), "high": seeded(0.5, 0.7)}
    for goal, best in (("minimize", "low"), ("maximize", "high")):
        (comparison,) = rank(values, goal=goal).comparisons
        assert comparison.better == best
        assert comparison.difference == pytest.approx(0.45)


def test_looking_again_and_again_asks_for_more():
    values = {"a": seeded(0.70, 0.55, 0.90), "b": seeded(0.60, 0.47, 0.77)}
    widths = [rank(values, goal="maximize", interim_looks=looks).comparisons[0].width for looks in (0, 1, 2, 3)]
    assert widths == sorted(widths) and len(set(widths)) == 4
    assert sum(noise.ALPHA / (look * (look + 1)) for look in range(1, 10_000)) <= noise.ALPHA


def test_a_single_arm_is_decided_and_equal_values_are_tied():
    assert rank({"a": {0: 1.0}}, goal="maximize").decided
    assert not rank({"a": seeded(0.5, 0.5), "b": seeded(0.5, 0.5)}, goal="maximize").decided


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize(
    "noises", [(1.0, 1.0, 1.0, 1.0), (0.3, 1.0, 1.0, 3.0), (0.2, 0.2, 0.2, 0.2, 0.2, 3.0), (1.0, 1.0)]
)
def test_equal_arms_are_rarely_told_apart(noises, seeds):
    """`pytest -m slow tests/unit/sweep/test_noise.py`: simulated sweeps in which no arm is better."""
    chance = random.Random(0)
    sweeps, wrong = 1500, 0
    for _ in range(sweeps):
        shared = [chance.gauss(0, 1) for _ in range(seeds)]
        values = {
            f"arm{arm}": {seed: shared[seed] + chance.gauss(0, sd) for seed in range(seeds)}
            for arm, sd in enumerate(noises)
        }
        wrong += any(each.told_apart for each in rank(values, goal="maximize").comparisons)
    # 5 % where the noises are alike, give or take three standard errors; a few percent more where with two
    # or three seeds one arm is far noisier than the rest.
    allowed = 0.05 if len(set(noises)) == 1 else 0.075
    assert wrong / sweeps < allowed + 3 * math.sqrt(allowed * (1 - allowed) / sweeps)


def test_an_arm_that_leads_on_the_seeds_that_both_have_is_not_called_behind() -> None:
    values = {"more": {0: 0.50, 1: 0.50, 2: 0.90}, "fewer": {0: 0.55, 1: 0.51}}
    said = noise.sentence(rank(values, goal="maximize"), again="again")
    assert "more cannot be told apart from fewer: fewer is ahead by 0.030 ± 0.254 on 2 seeds" in said
