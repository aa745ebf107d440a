"""Geometry of a report's charts: identity against overcooking, curves over exposures, intervals.

    Findings  ->  scales, points and where labels go, which svg.html.j2 draws

Every chart is about as wide as a phone and grows a little on a bigger screen. Knows nothing about SVG.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from lorasweep.results.report.reading import IDENTITY, SCORE, UTILITY, Findings, Rung, TrialFindings
from lorasweep.sweep.ranking.leaderboard import ArmRow, undominated
from lorasweep.sweep.ranking.state import SweepState

LABELS_AT_MOST, OF_THE_FRONT = 14, 7  # labels; of a crowd only the front's
LABEL_GAP_PX = 15.0
LABEL_RISE_PX = 7.0  # above its mark, or the front's line would strike the name through
LETTER_PX = 7.0  # of a label's letters, on average


@dataclass(frozen=True)
class Scale:
    """A straight line from values to px; a range of no width is drawn in its middle."""

    low: float
    high: float
    start_px: float
    end_px: float

    def __call__(self, value: float) -> float:
        """Return the px of a value; values outside are drawn at the edge."""
        span = self.high - self.low
        share = 0.5 if span == 0 else (value - self.low) / span
        return self.start_px + min(1.0, max(0.0, share)) * (self.end_px - self.start_px)

    def ticks(self, count: int = 5) -> list[float]:
        """Return round values inside the range, about `count` of them."""
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        raw = span / max(1, count)
        power = 10.0 ** math.floor(math.log10(raw))
        step = power * next(nice for nice in (1, 2, 2.5, 5, 10) if nice * power >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(index * step, 12) for index in range(first, last + 1)]


def spread(places: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Move labels apart along one axis, as little as their order allows: `gap` between two, within `low` and `high`."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = [min(max(places[index], low), high) for index in order]
    for index in range(1, len(moved)):
        moved[index] = max(moved[index], moved[index - 1] + gap)
    limit = high
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], limit)
        limit = moved[index] - gap
    return [moved[order.index(index)] for index in range(len(places))]


# ------------------------------------------------------------------------------------------------ pareto


@dataclass(frozen=True, kw_only=True, eq=False)  # a mark is itself, not what it shows: thousands are looked up
class Mark:
    """A trial at the checkpoint that it keeps; of several objectives an arm, whose numbers are means over its seeds."""

    trial: TrialFindings
    x: float
    y: float


@dataclass(frozen=True, kw_only=True)
class Label:
    """The name beside a mark; `leader` joins them where the name had to move, in px."""

    text: str
    x: float
    y: float
    anchor: str
    leader: tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Pareto:
    """One number (up) against another (right): identity and overcooking, or the first two objectives of the sweep."""

    title: str
    names: tuple[str, str]  # of x and y, as marks say them
    axes: tuple[str, str]  # the same, with which way is better
    x: Scale
    y: Scale
    marks: Sequence[Mark]
    front: Sequence[Mark]  # by ascending x
    stairs: Sequence[tuple[float, float]]  # that join the front, px; none with more objectives than there are axes
    labels: Sequence[Label]
    of_harm: bool  # whether it is identity against overcooking
    of_arms: bool  # whether there are objectives, and each mark is an arm


def pareto(findings: Findings) -> Pareto | None:
    """Place each trial's kept checkpoint, or of several objectives each arm; None while none has both numbers."""
    state, further = findings.state, [*findings.state.further]
    of_harm = not further or {state.metric, further[0]} == {IDENTITY, SCORE}
    y_metric, x_metric = (IDENTITY, SCORE) if of_harm else (state.metric, further[0])
    ranked = {row.arm: row for row in findings.arms if row.value is not None}
    if further:
        measured = [
            (findings.shown_trial(arm), _of_arm(state, row, x_metric), _of_arm(state, row, y_metric))
            for arm, row in ranked.items()
        ]
    else:
        measured = [(t, _known(t.kept.metrics.get(SCORE)), _known(t.kept.learned)) for t in findings.trials if t.kept]
    marks = [Mark(trial=trial, x=x, y=y) for trial, x, y in measured if x is not None and y is not None]
    if not marks:
        return None
    if further:
        front = sorted((m for m in marks if ranked[m.trial.state.arm].front), key=lambda mark: (mark.x, mark.y))
    else:
        compared = [mark for mark in marks if mark.trial.rank is not None]
        front = [compared[place] for place in undominated([(mark.x, -mark.y) for mark in compared])]
    goals = {SCORE: "minimize", state.metric: state.goal, **state.further}
    is_less = [goals.get(name) == "minimize" for name in (x_metric, y_metric)]
    names = ("overcook", "identity") if of_harm else (x_metric, y_metric)
    x_said, y_said = ("overcook O", "identity F") if of_harm else names
    x = _axis([mark.x for mark in marks], 40, 400, whole=of_harm)
    y = _axis([mark.y for mark in marks], 320, 30, whole=of_harm)
    return Pareto(
        title="Identity against overcooking" if of_harm else f"{y_metric} against {x_metric}",
        names=names,
        axes=(_side(x_said, is_less[0]), _side(y_said, is_less[1])),
        x=x,
        y=y,
        marks=marks,
        front=front,
        stairs=_stairs([(x(mark.x), y(mark.y)) for mark in front], is_less[0]) if len(further) < 2 else [],
        labels=_labels(_worth_a_label(marks, front), x, y),
        of_harm=of_harm,
        of_arms=bool(further),
    )


def _of_arm(state: SweepState, row: ArmRow, metric: str) -> float | None:
    return _known(row.value if metric == state.metric else row.metrics.get(metric))


def _side(name: str, is_less: bool) -> str:
    return f"{name}, {'less' if is_less else 'more'} is better"


def _axis(values: Sequence[float], start_px: float, end_px: float, *, whole: bool) -> Scale:
    """Return the scale of scores in [0, 1], or of what was measured, with some room around."""
    low, high = (0.0, 1.0) if whole else (min(values), max(values))
    room = 0.0 if whole else 0.05 * (high - low or abs(high) or 1.0)
    return Scale(low - room, high + room, start_px, end_px)


def _stairs(points: Sequence[tuple[float, float]], across_first: bool) -> list[tuple[float, float]]:
    """Join points by steps whose corners are what nobody reaches."""
    found = [*points[:1]]
    for (here_x, here_y), (next_x, next_y) in itertools.pairwise(points):
        found += [(next_x, here_y) if across_first else (here_x, next_y), (next_x, next_y)]
    return found


def _worth_a_label(marks: Sequence[Mark], front: Sequence[Mark]) -> list[Mark]:
    """Return one of each arm, when they fit, else some of the front."""
    of_arm: dict[str, Mark] = {}
    for mark in sorted(marks, key=lambda mark: mark not in front):
        of_arm.setdefault(mark.trial.state.arm, mark)
    found = list(of_arm.values())
    return found if len(found) <= LABELS_AT_MOST else [mark for mark in found if mark in front][:OF_THE_FRONT]


def _labels(marks: Sequence[Mark], x: Scale, y: Scale) -> list[Label]:
    """Return names beside their marks, on the side with more room, moved apart where they would cover each other."""
    found = []
    for anchor, shift in (("start", 11), ("end", -11)):
        points = [(x(mark.x), y(mark.y), mark.trial.state.arm) for mark in marks]
        group = [point for point in points if (point[0] < 230) == (anchor == "start")]
        heights = spread([at_y for _, at_y, _ in group], gap=LABEL_GAP_PX, low=44, high=312)
        for (at_x, at_y, name), height in zip(group, heights, strict=True):
            middle = height - LABEL_RISE_PX
            moved = ((at_x, at_y), (at_x + 0.8 * shift, middle)) if abs(height - at_y) > 4 else ()
            text = _shortened(name, 386 - at_x if anchor == "start" else at_x - 54)
            found.append(Label(text=text, x=at_x + shift, y=middle + 4, anchor=anchor, leader=moved))
    return found


def _shortened(name: str, room_px: float) -> str:
    letters = max(6, int(room_px / LETTER_PX))
    return name if len(name) <= letters else name[: letters - 1] + "…"


# ------------------------------------------------------------------------------------------------ curves


@dataclass(frozen=True, kw_only=True)
class Curves:
    """One arm over exposures per image: identity, overcooking, utility."""

    arm: str  # its name
    at_end: str  # the last value of each, in words
    x: Scale  # exposures; common to all arms, so that they are compared by eye
    y: Scale  # from 0 to 1
    lines: Sequence[tuple[str, bool, Sequence[tuple[float, float]]]]  # name, whether of a further seed, points in px
    names: Sequence[tuple[str, float, float]]  # of the curves, and where they stand, px
    moments: Sequence[tuple[str, float, float]]  # `done` and `burned`: word, where it was, where the word stands, px


def curves(findings: Findings) -> list[Curves]:
    """Place the curves of every arm that has any checkpoint, best arm first."""
    ends = [trial.rungs[-1].exposures for trial in findings.trials if trial.rungs]
    x, y = Scale(0.0, max(ends, default=1.0), 30, 250), Scale(0.0, 1.0, 176, 26)
    return [_curves(findings, trial, x, y) for trial in findings.shown if trial.rungs]


def _curves(findings: Findings, trial: TrialFindings, x: Scale, y: Scale) -> Curves:
    others = [other for other in findings.of_arm(trial.state.arm) if other is not trial]
    lines = [
        (name, each is not trial, [(x(exposures), y(value)) for exposures, value in points])
        for each in (trial, *others)
        for name, points in _points(each.rungs).items()
    ]
    shown = _points(trial.rungs)
    ends = [(x(points[-1][0]), y(points[-1][1])) for points in shown.values()]
    heights = spread([end_y for _, end_y in ends], gap=14, low=y.end_px, high=y.start_px)
    rungs = [("done", trial.rung(trial.done_at)), ("burned", trial.rung(trial.burned_at))]
    moments = [(word, x(rung.exposures)) for word, rung in rungs if rung]
    heads = spread([px for _, px in moments], gap=46, low=x.start_px + 16, high=x.end_px - 4)
    return Curves(
        arm=trial.state.arm,
        at_end=", ".join(f"{name} {points[-1][1]:.2f}" for name, points in shown.items()),
        x=x,
        y=y,
        lines=lines,
        names=[(name, end_x, at_y) for name, (end_x, _), at_y in zip(shown, ends, heights, strict=True)],
        moments=[(word, px, head) for (word, px), head in zip(moments, heads, strict=True)],
    )


def _points(rungs: Sequence[Rung]) -> dict[str, list[tuple[float, float]]]:
    """Name of each curve that was measured anywhere -> its (exposures, value)."""
    found: dict[str, list[tuple[float, float]]] = {}
    for rung in rungs:
        values = (rung.learned, rung.metrics.get(SCORE), rung.metrics.get(UTILITY))
        for name, value in zip(("identity", "overcook", "utility"), values, strict=True):
            if (known := _known(value)) is not None:
                found.setdefault(name, []).append((rung.exposures, known))
    return found


def _known(value: float | None) -> float | None:
    """Return a measured number; NaN and infinity have no place on an axis, and none at its good end above all."""
    return value if value is not None and math.isfinite(value) else None


# --------------------------------------------------------------------------------------------- intervals


def interval_scale(findings: Findings) -> Scale:
    """Return the common scale of the leaderboard's small charts: every trial's value, every arm's interval."""
    ranked = [trial.state.value for trial in findings.trials if trial.rank is not None]
    ends = [end for row in findings.arms if row.interval for end in (row.interval.low, row.interval.high)]
    # Rounded, or a mean would stand apart from the equal values that it is of.
    known = [round(value, 9) for each in (*ranked, *ends) if (value := _known(each)) is not None] or [0.0]
    return Scale(min(known), max(known), 12, 108)
