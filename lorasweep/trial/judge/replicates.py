"""How sure a judgement is: the same judgement with a quarter of the evidence left out, four times.

    JudgeContext  ->  one set of numbers per part of the evidence that was left out  ->  standard errors

The evidence is what was looked at: probe images and pictures. Each replicate leaves out another part of all
of it and is measured and scored anew, without one more forward pass, so every metric, O and U get their error
from the same rule, whatever formula leads to them. The parts are the same at every rung, hence the error of a
difference between two rungs is paired: what makes one picture hard makes it hard at both.

Source: the delete-a-group jackknife (Kott, "The delete-a-group jackknife", J. Official Statistics 17, 2001),
variance = (K - 1) / K x sum over replicates of (value_k - mean)^2. Where a kind of evidence has fewer units
than K, some replicates leave none of it out and the error comes out too large; but of a single unit, as one held-out
image is, none can be left out, and the error knows nothing of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lorasweep.plan.calibration import Calibration
    from lorasweep.trial.judge.context import JudgeContext

WITH_ERRORS = ("overcook/score", "overcook/utility", "identity/score")  # numbers that get an `_se`
GROUPS = 4  # as many as the default hold-out has images

Replicates = Sequence[Mapping[str, float]]


def replicate(
    context: JudgeContext,
    metrics: Mapping[str, Mapping[str, Any]],
    calibration: Calibration,
    *,
    histories: Sequence[Replicates] = (),
) -> list[dict[str, float]]:
    """Judge with one part of the evidence left out after the other; what was asked in full is not asked again.

    `histories` are the replicates of the earlier rungs, oldest first. Returns `GROUPS` sets of values, in the order of
    the parts.
    """
    from lorasweep.trial import judge as judging

    found = []
    for part in range(GROUPS):
        earlier = [replicates[part] for replicates in histories if len(replicates) == GROUPS]
        thinned = context.leaving_out(part, GROUPS, history=earlier)
        found.append(judging.judge(thinned, metrics, calibration).values)
    return found


def standard_error(replicates: Replicates, name: str) -> float | None:
    """Return standard error of one number; None when some replicate lacks it or there are fewer than two."""
    values = [replicate[name] for replicate in replicates if name in replicate]
    return _jackknife(values) if len(values) == len(replicates) else None


def paired_error(left: Replicates, right: Replicates, name: str) -> float | None:
    """Return standard error of the difference of one number between two rungs; None when it cannot be had."""
    if len(left) != len(right) or any(name not in one for one in (*left, *right)):
        return None
    return _jackknife([a[name] - b[name] for a, b in zip(left, right, strict=True)])


def with_errors(values: Mapping[str, float], replicates: Replicates) -> dict[str, float]:
    """Add the standard errors that are known of `WITH_ERRORS`, as `<name>_se`."""
    errors = {name: standard_error(replicates, name) for name in WITH_ERRORS if name in values}
    return dict(values) | {f"{name}_se": error for name, error in errors.items() if error is not None}


def _jackknife(values: Sequence[float]) -> float | None:
    count = len(values)
    if count < 2:
        return None
    mean = sum(values) / count
    return math.sqrt((count - 1) / count * sum((value - mean) ** 2 for value in values))
