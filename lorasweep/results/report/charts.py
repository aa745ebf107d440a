"""Geometry of a report's charts: identity against overcooking, curves over exposures, intervals.

    Findings  ->  scales, points and where labels go, which svg.html.j2 draws

Every chart is about as wide as a phone and grows a little on a bigger screen. Knows nothing about SVG.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lorasweep.results.report.reading import SCORE, UTILITY, Findings, Rung, TrialFindings

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
    """A trial at the checkpoint that it keeps."""

    trial: TrialFindings
    overcook: float
    identity: float


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
    """Identity (up) against overcooking (right)."""

    x: Scale
    y: Scale
    marks: Sequence[Mark]
    front: Sequence[Mark]  # by ascending overcooking
    labels: Sequence[Label]


def pareto(findings: Findings) -> Pareto | None:
    """Place every trial's kept checkpoint; None while there is none with both numbers."""
    marks = [
        Mark(trial=trial, overcook=overcook, identity=identity)
        for trial in findings.trials
        if trial.kept and (overcook := _known(trial.kept.metrics.get(SCORE))) is not None
        if (identity := _known(trial.kept.learned)) is not None
    ]
    if not marks:
        return None
    ranked = [mark for mark in marks if mark.trial.rank is not None]
    front = [ranked[place] for place in pareto_front([(mark.overcook, mark.identity) for mark in ranked])]
    x, y = Scale(0.0, 1.0, 40, 400), Scale(0.0, 1.0, 320, 30)
    return Pareto(x=x, y=y, marks=marks, front=front, labels=_labels(_worth_a_label(marks, front), x, y))


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return indices of the (overcook, identity) points that no other beats in both, by ascending overcook.

    A point is beaten by one that is at least as good in both and better in one.
    """

    def beaten(o: float, f: float) -> bool:
        return any(other != (o, f) and other[0] <= o and other[1] >= f for other in points)

    front = [index for index, point in enumerate(points) if not beaten(*point)]
    return sorted(front, key=lambda index: points[index])


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
        points = [(x(mark.overcook), y(mark.identity), mark.trial.state.arm) for mark in marks]
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
