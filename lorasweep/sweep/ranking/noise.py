"""The noise floor: what repeats with other seeds say about a ranking, and which would say more. Pure statistics.

    rank(values by arm and seed)  ->  an interval for every arm, and which arms cannot be told from the best
    sentence(ranking)             ->  the same for people
    next_round(values, taken)     ->  (arm, seed) pairs to cook so that the best one becomes known

Seeds are repeats. Two arms are compared on the seeds that both were cooked with, since a seed that is kind
to one recipe tends to be kind to all (paired t test); where they share too few, by Welch's test. With two or
three seeds an arm's own variance is hardly known, so it is moderated by what the other arms show:

    s^2 = (df_own s_own^2 + df_prior s_others^2) / (df_own + df_prior)

as in Smyth 2004 (doi:10.2202/1544-6115.1027, eq. 7), with the prior's weight fixed rather than estimated, and
never more than the arm's own: an arm may be noisier than the others, and with two seeds they would outvote
it. With two arms there are no others, and this is the plain paired t test. An arm's own interval counts fewer
degrees of freedom where seeds are kind to all arms alike, for then the others only say again what the arm says.
The best is compared with every other arm, so the level of each comparison is divided by their number (Bonferroni).

Further seeds go to the best arm and to the few that are hardest to tell from it, in units of their own noise: these
decide the question (the idea of OCBA, Chen et al. 2000, doi:10.1023/A:1008349927281). All of a round share a
seed, since comparisons are paired. Knows nothing about trials or files.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Literal

from lorasweep.core.printable import some

Values = Mapping[str, Mapping[int, float]]  # by arm, then by seed
ALPHA = 0.05  # 95 % intervals
PRIOR_DF = 2.0  # how much the other arms' variance weighs at most, in degrees of freedom
GROUPS = 10  # ties are looked for below the best so many times at most
NAMED = 4  # arms by name; the others are counted
CONTENDERS = 3  # beside the best, in one round


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
    shared = _correlation([values[arm] for arm in variances]) ** 2
    found = {}
    for arm, own in variances.items():
        variance = pooled.moderate(own, shared=shared)
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


def _correlation(arms: Sequence[Mapping[int, float]]) -> float:
    """Estimate how alike arms vary over the seeds that all have, in [0, 1]: the intraclass correlation."""
    seeds = sorted(set.intersection(*map(set, arms))) if len(arms) > 1 else []
    if len(seeds) < 2:
        return 0.0
    of_sum = statistics.variance([math.fsum(arm[seed] for arm in arms) for seed in seeds])
    alone = math.fsum(statistics.variance([arm[seed] for seed in seeds]) for arm in arms)
    return min(1.0, max(0.0, (of_sum / alone - 1) / (len(arms) - 1))) if alone > 0 else 0.0


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

    def moderate(self, own: _Variance, *, shared: float = 0.0) -> _Variance:
        """Draw a member's variance towards that of the others.

        `shared` is the correlation of any two members' variances: of normal values the square of the values' own. The
        degrees of freedom are at most those of the weighted sum (Satterthwaite 1946, doi:10.2307/3002019).
        """
        others_df = self._df - own.df
        if others_df <= 0:
            return own
        others = max(0.0, self._squares - own.value * own.df) / others_df
        prior_df = min(PRIOR_DF, own.df, others_df)
        df = own.df + prior_df
        ours, theirs, members = own.df / df, prior_df / df, others_df / own.df
        spread = ours**2 + theirs**2 * (1 + (members - 1) * shared) / members + 2 * ours * theirs * shared
        return _Variance((own.df * own.value + prior_df * others) / df, min(df, own.df / spread))


@functools.lru_cache(maxsize=4096)  # a ranking asks for few degrees of freedom, many times
def _t_quantile(p: float, df: float) -> float:
    """Return the t with P(T <= t) = p, of Student's distribution with `df` > 0 degrees of freedom."""
    from scipy.special import stdtrit  # a quarter of a second, and only rankings with repeats ask

    return float(stdtrit(df, p))


def sentence(ranking: Ranking | None, *, again: str) -> str:
    """Say whether the best arm is known, and if not, what to do; "" with fewer than two. `again` continues it."""
    if ranking is None or len(ranking.order) < 2:
        return ""
    best = ranking.order[0]
    if not ranking.intervals:
        return f"One seed each, so there is no telling what is noise. Repeat the best:\n{again} --until-decided"
    if ranking.decided:
        return f"{best} is better than every other arm by more than the noise between seeds."
    tied = [each for each in ranking.comparisons if not each.told_apart]
    single = [each for each in tied if each.how == "too few seeds"]
    close = [each for each in tied if each.how != "too few seeds"]
    parts = []
    if close:
        parts.append(f"{best} cannot be told apart from {_named(close)}: {_by(close[0])}.")
    if single:
        parts.append(f"Too few seeds to compare {best} with {_named(single)}.")
    return f"{' '.join(parts)} More seeds where they tell most:\n{again} --until-decided"


def _by(comparison: Comparison) -> str:
    width = comparison.width or 0.0
    # On the seeds that both have, which may say otherwise than the means over all.
    side = "behind" if comparison.difference >= 0 else "ahead"
    by = f"{abs(comparison.difference):.3f} ± {width / 2:.3f} on {comparison.seeds} seeds"
    return f"{comparison.worse} is {side} by {by}"


def _named(comparisons: list[Comparison]) -> str:
    return some([each.worse for each in comparisons], NAMED)


def next_round(
    values: Values, taken: Mapping[str, Set[int]], *, goal: str, interim_looks: int, limit: Mapping[str, int]
) -> list[tuple[str, int]]:
    """Choose the repeats of one round as (arm, seed); none when the best arm is known, or none is left that could help.

    Args:
        values: by arm and seed, of the trials that have one.
        taken: seeds that an arm was cooked with, with or without a value.
        goal: "maximize" or "minimize".
        interim_looks: how often was looked, this time included.
        limit: how many seeds an arm may have at most.
    """
    if len(values) < 2:
        return []
    ranking = rank(values, goal=goal, interim_looks=interim_looks)
    best = ranking.order[0]
    open_ones = [each for each in ranking.comparisons if not each.told_apart and _room(each.worse, taken, limit)]
    if not open_ones or not _room(best, taken, limit):
        return []
    chosen = [best, *(each.worse for each in _hardest(open_ones)[:CONTENDERS])]
    seed = _common_seed([taken[arm] for arm in chosen])
    return [(arm, seed) for arm in chosen if seed not in taken[arm]]


def _hardest(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Sort by difference over noise; where an arm has no repeats, its noise is taken to be the others'."""
    widths = [width for each in comparisons if (width := each.width) is not None]
    usual = statistics.median(widths) if widths else 1.0

    def ratio(each: Comparison) -> float:
        width = usual if each.width is None else each.width
        return each.difference / width if width > 0 else 0.0

    return sorted(comparisons, key=ratio)


def _room(arm: str, taken: Mapping[str, Set[int]], limit: Mapping[str, int]) -> bool:
    return len(taken[arm]) < limit[arm]


def _common_seed(taken: Sequence[Set[int]]) -> int:
    """Return the smallest seed that some have and others lack, so that pairs become whole; else a new one."""
    some, every = set().union(*taken), set(taken[0]).intersection(*taken)
    return min(some - every, default=max(some, default=-1) + 1)
