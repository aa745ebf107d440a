"""W*: at which LoRA weight is the held-out loss lowest, and is it still falling at the judged weight?

With l(w) the log of the held-out loss over the base's, a mean over timesteps, at a few weights w, weight 0
(where it is 0) included:

    best   where a parabola through the lowest of them and its two neighbours is lowest
    slope  dl/dw at the judged weight, from a parabola through it and its two neighbours

A slope below 0 says undercooked at this weight, above 0 overcooked at it: "use it at less" as a number, with
no picture drawn. The held-out loss turns before people see it, so the limit for the slope is not 0 but
calibrated.

Source: ours; weight interpolation as in WiSE-FT (arXiv 2109.01903), whose curve over the mixing weight this
is; parabolic interpolation for the minimum as in Brent (1973, chapter 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from lorasweep.components.metrics.generalisation import NONE_HELD_OUT, log_ratio_by_timestep
from lorasweep.core.protocols import JudgeContext
from lorasweep.core.records import Measurement, Plan, Recipe

NAME = "useful_weight"
NEEDS_PICTURES = False
PROBES = ("held_out",)
NAMES = (f"{NAME}/best", f"{NAME}/slope")
FEWEST = 3  # weights with a parabola through them, 0 included
TOO_FEW = "needs a weight besides 0 and this one (metrics.useful_weight.weights)"
Point = tuple[float, float]  # weight, log loss ratio


@dataclass(frozen=True, kw_only=True)
class UsefulWeight:
    """See the module; `weights` are asked besides the judged weight and 0."""

    weights: tuple[Annotated[float, Field(ge=0, le=2)], ...]

    def measure(self, context: JudgeContext) -> Measurement:
        """Measure on the held-out probes, one noise per image and timestep."""
        if "held_out" not in context.probe_sets:
            return Measurement(missing=dict.fromkeys(NAMES, NONE_HELD_OUT))
        points = [(0.0, 0.0)]
        for weight in sorted({context.weight, *self.weights} - {0.0}):
            rows = context.losses("held_out", weight, first_noise=True)
            points.append((weight, float(log_ratio_by_timestep(rows).mean())))
        if len(points) < FEWEST:
            return Measurement(missing=dict.fromkeys(NAMES, TOO_FEW))
        return Measurement(values={f"{NAME}/best": lowest(points), f"{NAME}/slope": slope(points, context.weight)})


build = UsefulWeight


def problems(*, weights: Sequence[float]) -> list[tuple[str, str, str]]:
    """Refuse to measure nothing but the base itself."""
    return [] if any(weights) else [("weights", f"needs a weight above 0, got {list(weights)}", "e.g. [0.4,1.0]")]


def names(recipe: Recipe, plan: Plan) -> dict[str, str]:
    """Return the numbers that `measure` gives for a recipe, and why it cannot; empty when it can."""
    return dict.fromkeys(NAMES, "" if plan.held_out_images() else NONE_HELD_OUT)


def lowest(points: Sequence[Point]) -> float:
    """Return weight of the lowest loss, never outside of the weights that were asked: three or more, ascending."""
    place = min(range(len(points)), key=lambda i: points[i][1])
    (w0, w1), first, bend = _parabola(points, place)
    if bend <= 0:
        return points[place][0]  # a hill has no lowest point
    vertex = (w0 + w1) / 2 - first / (2 * bend)
    return min(max(vertex, points[0][0]), points[-1][0])


def slope(points: Sequence[Point], weight: float) -> float:
    """Return derivative at one of three or more ascending points, of the parabola through it and its neighbours."""
    place = min(range(len(points)), key=lambda i: abs(points[i][0] - weight))
    (w0, w1), first, bend = _parabola(points, place)
    return first + bend * ((weight - w0) + (weight - w1))


def _parabola(points: Sequence[Point], place: int) -> tuple[tuple[float, float], float, float]:
    """Return, in Newton's form, the parabola through a point and its neighbours, at an end the last three."""
    middle = min(max(place, 1), len(points) - 2)
    (w0, l0), (w1, l1), (w2, l2) = points[middle - 1 : middle + 2]
    first, second = (l1 - l0) / (w1 - w0), (l2 - l1) / (w2 - w1)
    return (w0, w1), first, (second - first) / (w2 - w0)
