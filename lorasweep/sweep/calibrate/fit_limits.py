"""From what harmless and ruined controls show to limits. Pure arithmetic on their rungs.

Per symptom, with n what a harmless adapter shows and b what a ruined one shows,

    limit = (n + b) / 2        width = (b - n) / 12, at least limit / 10

so that half way from one to the other counts a half, and a harmless value next to nothing (0.2 %), unless the
two are so close that nobody could place a limit between them to better than a tenth.

    n   the largest of: the base itself, random adapters, the controls where their held-out loss is lowest
        (nothing that the healthiest checkpoint shows is a symptom)
    b   the smallest of the controls that are told from n by `CLEARLY` standard errors, each where it has lost
        half of its best held-out gain, or at its end when it never does

A symptom with a definite limit has that one, provided that the harmless stay below half of it: a control
that is a little worse than perfect would else make a catastrophe of one disobeyed prompt. A symptom that no
control shows clearly gets no limit, with that as its reason: it would only add noise.
F counts as learned at `LEARNED` of what the controls reached at best, and the stand-in for F is scaled so
that the best held-out gain gives 1 - 1/e^2.

Source: the map from controls is ours; that unlearned and overtrained controls are run beside the recipe is
the practice of any calibrated assay.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorasweep.core.errors import LorasweepError
from lorasweep.core.judging import Symptom
from lorasweep.plan.calibration import Calibration
from lorasweep.plan.symptoms import SYMPTOMS, Limit
from lorasweep.trial.judge import replicates
from lorasweep.trial.judge.score import HELD_OUT, IDENTITY

CLEARLY = 3.0  # standard errors between harmless and ruined
WIDTHS = 12.0  # between harmless and ruined
SHARPEST = 10.0  # limit over width
LOST = 0.5  # share of the best held-out gain that a ruined control has lost
LEARNED = 0.6  # share of the best identity from which a subject counts as learned
LEAST_GAIN = 0.01  # held-out log gain below which a control has learned nothing

Row = Mapping[str, Any]  # "metrics" and "replicates", and for rungs "step"


@dataclass(frozen=True, kw_only=True)
class Control:
    """One overtrained run: its rungs, and the two that matter."""

    arm: str  # which way it was overtrained
    healthy: Row  # the rung with the lowest held-out loss
    burned: Row  # the first later rung that has lost half of that gain, else the last
    gain: float  # -log of the lowest held-out loss over the base's
    identity: float | None  # the best F of all rungs; None when it cannot be read


@dataclass(frozen=True)
class _Level:
    """What some controls show of a symptom, and how sure that is: infinite when nobody knows."""

    value: float
    error: float


def read_control(arm: str, rungs: Sequence[Row]) -> Control:
    """Find the healthy and the burned rung of an overtrained run.

    Raises:
        LorasweepError: it never learned anything, or was never judged after it had.
    """
    judged = [rung for rung in rungs if HELD_OUT in rung["metrics"]]
    if len(judged) < 2:
        hint = "if it diverged, lower optimizer.lr"
        raise LorasweepError(f"control `{arm}` was judged fewer than twice: nothing can be placed ({hint})")
    healthy = min(judged, key=lambda rung: rung["metrics"][HELD_OUT])
    gain = -math.log(healthy["metrics"][HELD_OUT])
    later = [rung for rung in judged if rung["step"] > healthy["step"]]
    if not later:
        raise LorasweepError(
            f"control `{arm}` was still learning at its end (held-out gain {gain:.3f} at step "
            f"{healthy['step']}): overtrain it harder with --times or optimizer.lr"
        )
    if gain < LEAST_GAIN:
        raise LorasweepError(
            f"control `{arm}` never learned: at its best, step {healthy['step']}, it was no better than the base on "
            f"unseen images (held-out gain {gain:.3f}), and then got worse: lower optimizer.lr"
        )
    lost = (rung for rung in later if -math.log(rung["metrics"][HELD_OUT]) <= (1 - LOST) * gain)
    found = [rung["metrics"][IDENTITY] for rung in judged if IDENTITY in rung["metrics"]]
    return Control(
        arm=arm, healthy=healthy, burned=next(lost, later[-1]), gain=gain, identity=max(found) if found else None
    )


def fit_limits(
    controls: Sequence[Control],
    nulls: Mapping[str, Sequence[Row]],
    *,
    name: str,
    holds_for: Mapping[str, Any],
    made: Mapping[str, Any],
) -> Calibration:
    """Fit the limit of every symptom.

    The harmless runs come by kind; `holds_for` is of `calibration.conditions`; `name` and `made` (with what) are for
    people.
    """
    limits: dict[str, Limit] = {}
    unplaced: dict[str, str] = {}
    arms = {control.arm: [c for c in controls if c.arm == control.arm] for control in controls}
    for symptom in SYMPTOMS:
        harmless = [*nulls.values(), *([c.healthy for c in mine] for mine in arms.values())]
        null = max(_levels(symptom, harmless), key=lambda level: level.value, default=None)
        burned = _levels(symptom, [[c.burned for c in mine] for mine in arms.values()])
        if null is None or not burned:
            unplaced[symptom.name] = "the controls could not be asked for it"
            continue
        if limit := definite(symptom, null.value) or _between(null, burned):
            limits[symptom.name] = limit
            continue
        most = max(burned, key=lambda level: level.value)
        error = math.hypot(null.error, most.error)
        sure = f"standard error {error:.3f}" if math.isfinite(error) else "their error is not known"
        unplaced[symptom.name] = (
            f"ruined controls do not show it: {most.value:.3f}, harmless ones up to {null.value:.3f} ({sure})"
        )
    reached = statistics.median([control.identity for control in controls if control.identity is not None] or [0.0])
    learned = {"learned": LEARNED * reached} if reached > 0 else {}
    return Calibration(
        name=name,
        holds_for=dict(holds_for),
        limits=limits,
        unplaced=unplaced,
        gain=statistics.median(control.gain for control in controls) / 2,
        made=dict(made),
        **learned,
    )


def fit_labels(
    harmless: Mapping[str, Sequence[Row]],
    ruined: Mapping[str, Sequence[Row]],
    *,
    name: str,
    now: Calibration,
    holds_for: Mapping[str, Any],
    made: Mapping[str, Any],
) -> Calibration:
    """Fit the limits where somebody else says what is ruined: as controls do, a group an item.

    `harmless` and `ruined` are rungs by item; `now` is what they were judged by, and how F is read stays as it is
    there; the rest as in `fit_limits`.
    """
    (healthy, *_), *_ = harmless.values()
    controls = [
        Control(arm=item, healthy=healthy, burned=row, gain=now.gain, identity=None)
        for item, rows in ruined.items()
        for row in rows
    ]
    fitted = fit_limits(controls, harmless, name=name, holds_for=holds_for, made=made)
    return dataclasses.replace(fitted, gain=now.gain, learned=now.learned)


def definite(symptom: Symptom, harmless: float) -> Limit | None:
    """Return the limit that a symptom has by what its number means, if harmless controls leave it room."""
    if symptom.definite is None or harmless > symptom.definite / 2:
        return None
    return Limit(limit=symptom.definite, width=2 * symptom.definite / WIDTHS, null=harmless)


def _between(null: _Level, burned: Sequence[_Level]) -> Limit | None:
    """Go half way from the harmless to the least of the ruined that are told from it; None without those."""
    clear = [
        level.value
        for level in burned
        if level.value - null.value > max(0.0, CLEARLY * math.hypot(null.error, level.error))
    ]
    if not clear:
        return None
    ruined = min(clear)
    limit = (null.value + ruined) / 2
    width = max((ruined - null.value) / WIDTHS, limit / SHARPEST)
    return Limit(limit=limit, width=width, null=null.value, burned=ruined)


def _levels(symptom: Symptom, groups: Sequence[Sequence[Row]]) -> list[_Level]:
    """Return the median of each group that measured the symptom, with the mean of its standard errors."""
    levels = []
    for rows in groups:
        values = [value for row in rows if (value := symptom.value(row["metrics"])) is not None]
        if values:
            errors = [replicates.standard_error(row["replicates"], symptom.metric) for row in rows]
            known = [error for error in errors if error is not None]
            levels.append(_Level(statistics.median(values), statistics.fmean(known) if known else math.inf))
    return levels
