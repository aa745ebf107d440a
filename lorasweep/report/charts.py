"""The charts of a report: identity against overcooking, curves over exposures, intervals.

    Findings  ->  SVG

Every chart is about as wide as a phone and grows a little on a bigger screen. What a colour says, a shape and
a word say too (colours: Okabe and Ito's, safe for colour-blind readers; they live in page.css).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lorasweep.metrics.score import OVERCOOKED
from lorasweep.report.axes import Scale, frame, line, marker, padded, spread, svg, text
from lorasweep.report.markup import Child, Markup, tag
from lorasweep.report.reading import SCORE, UTILITY, Findings, Rung, TrialFindings

SHAPES = {"done": "circle", "overcooked": "cross", "undercooked": "triangle"}
OTHER_SHAPE = "square"
LABELS_AT_MOST, OF_THE_FRONT = 14, 7  # labels; of a crowd only the front's
LABEL_GAP_PX = 15.0
LABEL_RISE_PX = 7.0  # above its mark, or the front's line would strike the name through
LETTER_PX = 7.0  # of a label's letters, on average
ISO_UTILITY = (0.2, 0.4, 0.6, 0.8)


# ------------------------------------------------------------------------------------------------ pareto


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the (overcook, identity) points that no other beats in both, by ascending overcook.

    A point is beaten by one that is at least as good in both and better in one.
    """

    def beaten(index: int) -> bool:
        o, f = points[index]
        return any(
            other_o <= o and other_f >= f and (other_o < o or other_f > f)
            for place, (other_o, other_f) in enumerate(points)
            if place != index
        )

    front = [index for index in range(len(points)) if not beaten(index)]
    return sorted(front, key=lambda index: points[index])


def pareto(findings: Findings) -> Markup | None:
    """Identity (up) against overcooking (right) of every trial's kept checkpoint."""
    judged = [(trial, trial.kept) for trial in findings.trials if trial.kept]
    known = [(trial, kept.metrics.get(SCORE), kept.learned) for trial, kept in judged]
    points = [(trial, o, f) for trial, o, f in known if o is not None and f is not None]
    if not points:
        return None
    x, y = Scale(0.0, 1.0, 40, 400), Scale(0.0, 1.0, 320, 30)
    full = [place for place, (trial, _, _) in enumerate(points) if trial.rank is not None]
    front = [full[place] for place in pareto_front([points[place][1:] for place in full])]
    many_seeds = len(findings.seeds) > 1
    limit_px = x(OVERCOOKED)
    parts: list[Child] = [
        tag("rect", x=limit_px, y=30, width=400 - limit_px, height=290, class_="burned-zone"),
        frame(x, y, x_name="overcook O, less is better", y_name="identity F, more is better"),
        text(limit_px + 5, 312, "overcooked", class_="tick burned"),
        *_iso_utility(x, y),
    ]
    if len(front) > 1:
        parts.append(line(_stairs([(x(points[i][1]), y(points[i][2])) for i in front]), class_="front"))
    labels = []
    for place, (trial, o, f) in enumerate(points):
        name = f"{trial.state.arm} seed {trial.state.seed}" if many_seeds else trial.state.arm
        shape = SHAPES.get(trial.verdict, OTHER_SHAPE)
        told = f"{name}: identity {f:.2f}, overcook {o:.2f}"
        parts.append(marker(shape, x(o), y(f), class_=f"mark {trial.verdict or 'unknown'}", title=told))
        labels.append((place, x(o), y(f), trial.state.arm))
    chosen = _worth_a_label(labels, front, once=many_seeds)
    return svg(
        420,
        366,
        *parts,
        *_labels(chosen, low=44, high=312),
        label=f"Identity against overcooking of {len(points)} trials; the numbers are in the leaderboard.",
        shown_px=540,
    )


def _iso_utility(x: Scale, y: Scale) -> list[Child]:
    """Lines of equal utility F (1 - O), named at their upper ends: good recipes crowd the lower ones."""
    parts: list[Child] = []
    for utility in ISO_UTILITY:
        overs = [index / 40 * (1 - utility) for index in range(41)]
        parts.append(line([(x(o), y(utility / (1 - o))) for o in overs], class_="iso"))
        parts.append(text(x(1 - utility) + 3, y(1.0) + 12, f"U {utility:g}", class_="tick faint"))
    return parts


def _stairs(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """What the front dominates ends in steps, not in slopes."""
    found = [points[0]]
    for (_, before_y), (x, y) in zip(points, points[1:], strict=False):
        found += [(x, before_y), (x, y)]
    return found


_Label = tuple[int, float, float, str]


def _worth_a_label(labels: Sequence[_Label], front: Sequence[int], *, once: bool) -> list[_Label]:
    """All when they fit, else some of the front; with several seeds each arm is named once."""
    ordered = sorted(labels, key=lambda label: (label[0] not in front, label[0]))
    if once:
        ordered = list({label[3]: label for label in reversed(ordered)}.values())[::-1]
    return ordered if len(ordered) <= LABELS_AT_MOST else ordered[: min(len(front), OF_THE_FRONT)]


def _labels(labels: Sequence[_Label], *, low: float, high: float) -> list[Child]:
    """Names beside their marks, on the side with more room, moved apart where they would cover each other."""
    parts: list[Child] = []
    sides = {
        "start": [label for label in labels if label[1] < 230],
        "end": [label for label in labels if label[1] >= 230],
    }
    for anchor, group in sides.items():
        heights = spread([y for _, _, y, _ in group], gap=LABEL_GAP_PX, low=low, high=high)
        for (_, x, y, name), label_y in zip(group, heights, strict=True):
            shift = 11 if anchor == "start" else -11
            shown = _shortened(name, 400 - x - 14 if anchor == "start" else x - 54)
            middle = label_y - LABEL_RISE_PX
            if abs(label_y - y) > 4:
                parts.append(line([(x, y), (x + 0.8 * shift, middle)], class_="leader"))
            parts.append(text(x + shift, middle + 4, shown, anchor=anchor, class_="label"))
    return parts


def _shortened(name: str, room_px: float) -> str:
    letters = max(6, int(room_px / LETTER_PX))
    return name if len(name) <= letters else name[: letters - 1] + "…"


# ------------------------------------------------------------------------------------------------ curves


@dataclass(frozen=True)
class _Curve:
    name: str
    class_: str
    shape: str

    def value(self, rung: Rung) -> float | None:
        """What the curve shows of a rung; None when it was not measured."""
        if self.name == "identity":
            return rung.learned
        return rung.metrics.get(SCORE if self.name == "overcook" else UTILITY)


_CURVES = (
    _Curve("identity", "identity", "square"),
    _Curve("overcook", "overcook", "cross"),
    _Curve("utility", "utility", "circle"),
)


def curves(trials: Sequence[TrialFindings], *, exposures_max: float) -> Markup | None:
    """One arm over exposures per image: identity, overcooking, utility; a fine line for each further seed.

    Args:
        trials: of one arm, the one that is shown first.
        exposures_max: the common end of the axis, so that arms are compared by eye.
    """
    shown = [trial for trial in trials if trial.rungs]
    if not shown:
        return None
    x, y = Scale(0.0, exposures_max, 30, 250), Scale(0.0, 1.0, 176, 26)
    parts: list[Child] = [
        frame(x, y, x_name="exposures per image", x_ticks=4, y_ticks=4),
        line([(x.start_px, y(OVERCOOKED)), (x.end_px, y(OVERCOOKED))], class_="limit"),
    ]
    parts += _moments(shown[0], x, y)
    ends: list[tuple[_Curve, float, float]] = []
    for place, trial in enumerate(shown):
        for curve in _CURVES:
            values = [(rung.exposures, curve.value(rung)) for rung in trial.rungs]
            points = [(x(exposures), y(value)) for exposures, value in values if value is not None]
            parts.append(line(points, class_=f"curve {curve.class_}" + (" further" if place else "")))
            if place == 0:
                parts += [
                    marker(curve.shape, *point, class_=f"mark {curve.class_}", radius=3.4) for point in points
                ]
                ends += [(curve, *points[-1])] if points else []
    heights = spread([end_y for _, _, end_y in ends], gap=14, low=y.end_px, high=y.start_px)
    for (curve, end_x, _), label_y in zip(ends, heights, strict=True):
        parts.append(text(end_x + 8, label_y + 4, curve.name, class_=f"label {curve.class_}"))
    last = shown[0].rungs[-1]
    told = ", ".join(f"{c.name} {v:.2f}" for c in _CURVES if (v := c.value(last)) is not None)
    return svg(320, 216, *parts, label=f"{shown[0].state.arm} over exposures per image; at the end {told}.")


def _moments(trial: TrialFindings, x: Scale, y: Scale) -> list[Child]:
    """Where it was done and where it burned, as lines with a word on top."""
    moments = [("done", trial.rung(trial.done_at)), ("burned", trial.rung(trial.burned_at))]
    known = [(word, x(rung.exposures)) for word, rung in moments if rung]
    parts: list[Child] = []
    heads = spread([px for _, px in known], gap=46, low=x.start_px + 16, high=x.end_px - 4)
    for (word, px), head in zip(known, heads, strict=True):
        parts.append(line([(px, y.start_px), (px, y.end_px - 4)], class_=f"moment {word}"))
        parts.append(text(head, y.end_px - 9, word, anchor="middle", class_=f"label {word}"))
    return parts


# --------------------------------------------------------------------------------------------- intervals


def interval_scale(values: Sequence[float]) -> Scale:
    """The common scale of the leaderboard's small charts."""
    return Scale(*padded(values), 6, 114)


def interval(
    scale: Scale, value: float, *, low: float | None, high: float | None, seeds: Sequence[float], class_: str
) -> Markup:
    """A value, its interval where there is one, and each seed's own value."""
    parts: list[Child] = [line([(scale.start_px, 10), (scale.end_px, 10)], class_="grid")]
    if low is not None and high is not None:
        parts.append(line([(scale(low), 10), (scale(high), 10)], class_="whisker"))
    parts += [line([(scale(seed), 6), (scale(seed), 14)], class_="seed") for seed in seeds if len(seeds) > 1]
    parts.append(marker(SHAPES.get(class_, OTHER_SHAPE), scale(value), 10, class_=f"mark {class_}", radius=4))
    told = "" if low is None or high is None else f", between {low:.3f} and {high:.3f}"
    return svg(120, 20, *parts, label=f"{value:.3f}{told}", class_="interval")
