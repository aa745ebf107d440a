"""From a vector of metrics to two numbers.

    O = 1 - product over questions of (1 - worst grade)     overcook/score, noisy-OR: a fatal one is enough
    U = F (1 - O)                                           overcook/utility
    F                                                       overcook/fidelity

A grade is a symptom's (`symptoms.SYMPTOMS`) by the limit of a calibration, times its severity; F is the
identity, or where that cannot be read a stand-in: which of the two is settled once per trial. Symptoms with
the same letter answer the same question, drift on strangers and drift on landscapes for one, so only the
worst of them counts: what is seen twice has not happened twice. A symptom that could not be measured, or has
no limit, is left out, which can only lower O, and its reason is given under `overcook/<symptom>`; hence
trials are compared without what one of them lacks (`without`). One that came out as NaN or infinity says that
something is broken: then there is no O and no U. Knows nothing about how a metric is measured; imports no
torch.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from lorasweep.core.judging import Symptom
from lorasweep.core.records import Measurement
from lorasweep.plan.calibration import Calibration
from lorasweep.plan.symptoms import SYMPTOMS

SCORE, UTILITY, FIDELITY = "overcook/score", "overcook/utility", "overcook/fidelity"
IDENTITY, HELD_OUT = "identity/score", "generalisation/held_out"
NOTHING = "no symptom could be measured"  # or has a limit
OVERCOOKED = 0.5  # O above which a checkpoint is called overcooked: one symptom at its limit

Kind = Literal["identity", "held_out"]  # what F is read from


def summarise(
    metrics: Mapping[str, float],
    calibration: Calibration,
    *,
    missing: Mapping[str, str] | None = None,
    broken: Collection[str] = (),
    kind: Kind | None = None,
) -> Measurement:
    """Score one checkpoint by whatever could be measured.

    `missing` says why metrics could not be, `broken` names those that came out as NaN or infinity. F is read from
    `kind`, and without one from the identity where there is one.

    Returns:
        `overcook/<symptom>` for every symptom that was measured, `overcook/score`, `overcook/fidelity` and
        `overcook/utility`, and the reason for each of these that is not there.
    """
    found, missing = Measurement(), missing or {}
    grades: dict[str, float] = {}
    for symptom in SYMPTOMS:
        value = symptom.value(metrics)
        if value is None:
            found.missing[f"overcook/{symptom.name}"] = _why(symptom, metrics, missing)
        elif symptom.name not in calibration.limits:
            found.missing[f"overcook/{symptom.name}"] = calibration.why_unplaced(symptom.name)
        else:
            grade = symptom.severity * calibration.limits[symptom.name].grade(value)
            found.values[f"overcook/{symptom.name}"] = grades[symptom.name] = grade
    not_a_number = [s.metric for s in SYMPTOMS if s.metric in broken and s.name in calibration.limits]
    if not_a_number or not grades:
        why = "; ".join(f"{name} {missing.get(name, 'was not a number')}" for name in not_a_number)
        found.missing[SCORE] = found.missing[UTILITY] = why or NOTHING
        return found
    found.values[SCORE] = overcook(grades)
    learned = fidelity(metrics, calibration, kind)
    if learned is None:
        found.missing[UTILITY] = found.missing[FIDELITY] = _why_no_fidelity(missing, kind)
    else:
        found.values[FIDELITY] = learned
        found.values[UTILITY] = learned * (1.0 - found.values[SCORE])
    return found


def overcook(grades: Mapping[str, float]) -> float:
    """Return O of some symptoms' grades, in [0, 1]; of those with the same letter the worst counts."""
    worst: dict[str, float] = {}
    for symptom in SYMPTOMS:
        if symptom.name in grades:
            worst[symptom.letter] = max(grades[symptom.name], worst.get(symptom.letter, 0.0))
    return 1.0 - math.prod(1.0 - grade for grade in worst.values())


def grades_of(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the grades among the numbers of a judged checkpoint, by symptom."""
    return {s.name: metrics[f"overcook/{s.name}"] for s in SYMPTOMS if f"overcook/{s.name}" in metrics}


def without(metrics: Mapping[str, float], symptoms: Collection[str]) -> dict[str, float]:
    """Return the numbers of a judged checkpoint, with O and U as they are without some symptoms.

    Both are absent where nothing else was measured; what was absent stays so.
    """
    found, grades = dict(metrics), grades_of(metrics)
    kept = {name: grade for name, grade in grades.items() if name not in symptoms}
    if SCORE not in metrics or kept == grades:
        return found
    del found[SCORE]
    utility = found.pop(UTILITY, None)
    if not kept:
        return found
    found[SCORE] = overcook(kept)
    learned = metrics.get(FIDELITY)
    if learned is None and utility is not None and metrics[SCORE] < 1:
        learned = utility / (1.0 - metrics[SCORE])  # judged before 2026-11-29
    if learned is not None:
        found[UTILITY] = learned * (1.0 - found[SCORE])
    return found


def kind_of(rungs: Sequence[Mapping[str, float]]) -> Kind | None:
    """Tell what F is read from in a trial: as at its first rung, oldest first, that has a U; None before that."""
    first = next((metrics for metrics in rungs if UTILITY in metrics), None)
    if first is None:
        return None
    return "identity" if IDENTITY in first else "held_out"


def fidelity(metrics: Mapping[str, float], calibration: Calibration, kind: Kind | None = None) -> float | None:
    """Return F: the identity read from pictures, or what was gained on held-out images for it; in [0, 1].

    The stand-in is 1 - exp(-gain / calibration.gain), with gain = -log of the held-out loss over the base's. It orders
    the checkpoints of one dataset; it does not compare datasets. Without a `kind` of the two, the identity is read
    where there is one.
    """
    if kind is None:
        kind = "identity" if IDENTITY in metrics else "held_out"
    if kind == "identity":
        return metrics.get(IDENTITY)
    if HELD_OUT not in metrics:
        return None
    gain = max(0.0, -math.log(metrics[HELD_OUT]))
    return 1.0 - math.exp(-gain / calibration.gain)


def _why_no_fidelity(missing: Mapping[str, str], kind: Kind | None) -> str:
    if kind is None:
        return "neither identity nor a held-out loss was measured"
    name = IDENTITY if kind == "identity" else HELD_OUT
    reason = missing.get(name) or missing.get(name.partition("/")[0]) or "was not measured"
    return f"{name}, which utility is made of in this trial: {reason}"


def _why(symptom: Symptom, metrics: Mapping[str, float], missing: Mapping[str, str]) -> str:
    """Return the metric's own reason, or that of its whole family."""
    family = symptom.metric.partition("/")[0]
    if reason := missing.get(symptom.metric) or missing.get(family):
        return reason
    if any(name.startswith(f"{family}/") for name in (*metrics, *missing)):
        return f"{family} did not measure {symptom.metric.partition('/')[2]} here"
    return f"{symptom.metric} is not among the metrics of this recipe"
