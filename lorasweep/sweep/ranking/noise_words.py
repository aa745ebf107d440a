"""What repeats say about a ranking, in a sentence for people. Knows nothing about how it is shown."""

from __future__ import annotations

from lorasweep.sweep.ranking.noise import Comparison, Ranking

NAMED = 4  # arms by name; the others are counted


def sentence(ranking: Ranking | None, *, sweep: str) -> str:
    """Say whether the best arm is known, and if not, what to do; "" with fewer than two arms."""
    if ranking is None or len(ranking.order) < 2:
        return ""
    best = ranking.order[0]
    if not ranking.intervals:
        return (
            "One seed each, so there is no telling what is noise. "
            f"Repeat the best: lorasweep sweep {sweep} --until-decided"
        )
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
    return f"{' '.join(parts)} More seeds where they tell most: lorasweep sweep {sweep} --until-decided"


def _by(comparison: Comparison) -> str:
    width = comparison.width or 0.0
    return f"{comparison.worse} is behind by {comparison.difference:.3f} ± {width / 2:.3f} on {comparison.seeds} seeds"


def _named(comparisons: list[Comparison]) -> str:
    names = [each.worse for each in comparisons[:NAMED]]
    more = len(comparisons) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
