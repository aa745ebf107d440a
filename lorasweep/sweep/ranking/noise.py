"""The noise floor: what repeats with other seeds say about a ranking. Pure statistics.

    values by arm and seed  ->  an interval for every arm, and which arms cannot be told from the best

Seeds are repeats. Two arms are compared on the seeds that both were cooked with, since a seed that is kind
to one recipe tends to be kind to all (paired t test); where they share too few, by Welch's test. With two or
three seeds an arm's own variance is hardly known, so it is moderated by what the other arms show:

    s^2 = (df_own s_own^2 + df_prior s_others^2) / (df_own + df_prior)

as in Smyth 2004 (doi:10.2202/1544-6115.1027, eq. 7), with the prior's weight fixed rather than estimated, and
never more than the arm's own: an arm may be noisier than the others, and with two seeds they would outvote
it. With two arms there are no others, and this is the plain paired t test. The best is compared with every
other arm, so the level of each comparison is divided by their number (Bonferroni). Knows nothing about trials
or files.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Values = Mapping[str, Mapping[int, float]]  # by arm, then by seed
ALPHA = 0.05  # 95 % intervals
PRIOR_DF = 2.0  # how much the other arms' variance weighs at most, in degrees of freedom
GROUPS = 10  # ties are looked for below the best so many times at most


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and where it lies with the given confidence."""

    mean: float
    low: float
    high: float
    seeds: int  # how many repeats it rests on

    @property
    def half_width(self) -> float:
        """Mean +- this."""
        return (self.high - self.low) / 2


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How much better one arm is than another; positive is better, whatever the goal."""

    better: str
    worse: str
    difference: float
    low: float | None  # of the interval at the corrected level; None when repeats are missing
    high: float | None
    seeds: int  # that both have, or the fewer of the two when unpaired
    how: Literal["paired", "unpaired", "too few seeds"]

    @property
    def width(self) -> float | None:
        """Of the interval; None when there is none."""
        return None if self.low is None or self.high is None else self.high - self.low

    @property
    def told_apart(self) -> bool:
        """Whether the difference is more than noise."""
        return self.low is not None and self.low > 0


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """What can be said about the order of the arms."""

    order: tuple[str, ...]  # best first, by mean
    intervals: Mapping[str, Interval]  # of the arms with two seeds or more
    groups: tuple[tuple[str, ...], ...]  # arms that cannot be told from the first of their group
    comparisons: tuple[Comparison, ...]  # of the best with every other arm, in order

    @property
    def decided(self) -> bool:
        """Whether the best arm is known: it is told apart from every other."""
        return all(comparison.told_apart for comparison in self.comparisons)


def rank(values: Values, *, goal: str, interim_looks: int = 0) -> Ranking:
    """Rank arms by their means and say which differences are more than noise.

    Args:
        values: at least one value for every arm.
        goal: "maximize" or "minimize".
        interim_looks: how often the ranking was looked at in order to decide whether to go on, this time included; 0
            when nothing depends on it. Looking again and again finds a difference by chance sooner or later,
            so look r is made at the level ALPHA / (r (r + 1)), which sums to ALPHA.
    """
    sign = -1.0 if goal == "minimize" else 1.0
    upward = {arm: {seed: sign * value for seed, value in seeds.items()} for arm, seeds in values.items()}
    means = {arm: statistics.fmean(seeds.values()) for arm, seeds in upward.items()}
    order = sorted(upward, key=lambda arm: -means[arm])  # stable, so equal arms keep the sweep's order
    alpha = ALPHA / (interim_looks * (interim_looks + 1)) if interim_looks else ALPHA
    groups: list[tuple[str, ...]] = []
    first: tuple[Comparison, ...] = ()
    left = order
    while left and len(groups) < GROUPS:
        compared = compare_with(left[0], left[1:], upward, alpha=alpha)
        first = first or compared
        tied = {comparison.worse for comparison in compared if not comparison.told_apart}
        groups.append((left[0], *(arm for arm in left[1:] if arm in tied)))
        left = [arm for arm in left[1:] if arm not in tied]
    return Ranking(order=tuple(order), intervals=arm_intervals(values), groups=tuple(groups), comparisons=first)


def arm_intervals(values: Values) -> dict[str, Interval]:
    """Find the 95 % interval of every arm that has repeats: its mean +- t s / sqrt(n)."""
    variances = {arm: _Variance.of(seeds.values()) for arm, seeds in values.items() if len(seeds) > 1}
    pooled = _Pool(variances.values())
    found = {}
    for arm, own in variances.items():
        variance = pooled.moderate(own)
        count, mean = len(values[arm]), statistics.fmean(values[arm].values())
        half = _t_quantile(1 - ALPHA / 2, variance.df) * math.sqrt(variance.value / count)
        found[arm] = Interval(mean=mean, low=mean - half, high=mean + half, seeds=count)
    return found


def compare_with(best: str, others: Sequence[str], upward: Values, *, alpha: float) -> tuple[Comparison, ...]:
    """Compare the best arm with every other one, all together at level `alpha`; higher values are better."""
    pairs = {other: _differences(upward[best], upward[other]) for other in others}
    pooled = _Pool(_Variance.of(pair) for pair in pairs.values() if len(pair) > 1)
    level = alpha / max(1, len(others))
    return tuple(_compare(best, other, upward, pairs[other], pooled, level=level) for other in others)


def _compare(best: str, other: str, upward: Values, pair: list[float], pooled: _Pool, *, level: float) -> Comparison:
    ours, theirs = list(upward[best].values()), list(upward[other].values())
    half: float | None = None
    how: Literal["paired", "unpaired", "too few seeds"] = "too few seeds"
    if len(pair) > 1:
        how, difference, seeds = "paired", statistics.fmean(pair), len(pair)
        variance = pooled.moderate(_Variance.of(pair))
        half = _t_quantile(1 - level / 2, variance.df) * math.sqrt(variance.value / len(pair))
    else:
        difference, seeds = statistics.fmean(ours) - statistics.fmean(theirs), min(len(ours), len(theirs))
        if seeds > 1:
            how, half = "unpaired", _welch_half_width(ours, theirs, level=level)
    return Comparison(
        better=best,
        worse=other,
        difference=difference,
        low=None if half is None else difference - half,
        high=None if half is None else difference + half,
        seeds=seeds,
        how=how,
    )


def _welch_half_width(ours: list[float], theirs: list[float], *, level: float) -> float:
    parts = [statistics.variance(each) / len(each) for each in (ours, theirs)]
    # Welch-Satterthwaite
    below = sum(part**2 / (len(each) - 1) for part, each in zip(parts, (ours, theirs), strict=True))
    df = sum(parts) ** 2 / below if below > 0 else float(len(ours) + len(theirs) - 2)
    return _t_quantile(1 - level / 2, df) * math.sqrt(sum(parts))


def _differences(ours: Mapping[int, float], theirs: Mapping[int, float]) -> list[float]:
    return [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]


@dataclass(frozen=True)
class _Variance:
    value: float
    df: float

    @classmethod
    def of(cls, sample: Iterable[float]) -> _Variance:
        numbers = list(sample)
        return cls(statistics.variance(numbers), len(numbers) - 1.0)


class _Pool:
    """Variances that have something to say about each other."""

    def __init__(self, variances: Iterable[_Variance]) -> None:
        known = list(variances)
        self._squares = math.fsum(each.value * each.df for each in known)
        self._df = math.fsum(each.df for each in known)

    def moderate(self, own: _Variance) -> _Variance:
        """Draw a member's variance towards that of the others."""
        others_df = self._df - own.df
        if others_df <= 0:
            return own
        others = max(0.0, self._squares - own.value * own.df) / others_df
        prior_df = min(PRIOR_DF, own.df, others_df)
        df = own.df + prior_df
        return _Variance((own.df * own.value + prior_df * others) / df, df)


@functools.lru_cache(maxsize=4096)  # a ranking asks for few degrees of freedom, many times
def _t_quantile(p: float, df: float) -> float:
    """The t with P(T <= t) = p, of Student's distribution with `df` > 0 degrees of freedom."""
    from scipy.special import stdtrit  # a quarter of a second, and only rankings with repeats ask

    return float(stdtrit(df, p))
