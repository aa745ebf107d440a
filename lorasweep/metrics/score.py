"""From a vector of metrics to two numbers.

    O = 1 - product over questions of (1 - worst grade)     overcook/score, noisy-OR: a fatal one is enough
    U = F (1 - O)                                           overcook/utility

A grade is a symptom's (`symptoms.SYMPTOMS`) by the limit of a calibration, times its severity; F is the
identity. Symptoms with the same letter answer the same question, drift on strangers and drift on landscapes
for one, so only the worst of them counts: what is seen twice has not happened twice. A symptom that could not
be measured, or has no limit, is left out, which can only lower O, and its reason is given under
`overcook/<symptom>`. Knows nothing about how a metric is measured; imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from lorasweep.metrics.calibration import Calibration
from lorasweep.metrics.symptoms import SYMPTOMS, Symptom
from lorasweep.records import Measurement

SCORE, UTILITY = "overcook/score", "overcook/utility"
IDENTITY, HELD_OUT = "identity/score", "generalisation/held_out"
OVERCOOKED = 0.5  # O above which a checkpoint is called overcooked: one symptom at its limit


def summarise(
    metrics: Mapping[str, float], calibration: Calibration, *, missing: Mapping[str, str] | None = None
) -> Measurement:
    """Score one checkpoint.

    Args:
        metrics: whatever could be measured.
        calibration: where each symptom begins to count.
        missing: why metrics could not be measured.

    Returns:
        `overcook/<symptom>` for every symptom that was measured, `overcook/score` and `overcook/utility`, and
        the reason for each of these that is not there.
    """
    found = Measurement()
    worst: dict[str, float] = {}
    for symptom in SYMPTOMS:
        value = symptom.value(metrics)
        if value is None:
            found.missing[f"overcook/{symptom.name}"] = _why(symptom, missing or {})
        elif symptom.name not in calibration.limits:
            found.missing[f"overcook/{symptom.name}"] = calibration.why_unplaced(symptom.name)
        else:
            grade = symptom.severity * calibration.limits[symptom.name].grade(value)
            found.values[f"overcook/{symptom.name}"] = grade
            worst[symptom.letter] = max(grade, worst.get(symptom.letter, 0.0))
    if not found.values:
        found.missing[SCORE] = found.missing[UTILITY] = "no symptom could be measured"
        return found
    score = 1.0 - math.prod(1.0 - grade for grade in worst.values())
    found.values[SCORE] = score
    learned = fidelity(metrics, calibration)
    if learned is None:
        found.missing[UTILITY] = "neither identity nor a held-out loss was measured"
    else:
        found.values[UTILITY] = learned * (1.0 - score)
    return found


def fidelity(metrics: Mapping[str, float], calibration: Calibration) -> float | None:
    """F: the identity read from pictures, else a stand-in from what was gained on held-out images; in [0, 1].

    The stand-in is 1 - exp(-gain / calibration.gain), with gain = -log of the held-out loss over the base's.
    It orders the checkpoints of one dataset; it does not compare datasets.
    """
    if IDENTITY in metrics:
        return metrics[IDENTITY]
    gain = held_out_gain(metrics)
    return None if gain is None else 1.0 - math.exp(-gain / calibration.gain)


def held_out_gain(metrics: Mapping[str, float]) -> float | None:
    """The log by which the held-out loss is below the base's, >= 0; None when it was not measured."""
    return max(0.0, -math.log(metrics[HELD_OUT])) if HELD_OUT in metrics else None


def _why(symptom: Symptom, missing: Mapping[str, str]) -> str:
    """The metric's own reason, or that of its whole family."""
    family = symptom.metric.partition("/")[0]
    reason = missing.get(symptom.metric) or missing.get(family)
    return reason or f"{symptom.metric} is not among the metrics of this recipe"
