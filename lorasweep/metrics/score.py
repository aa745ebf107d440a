"""From a vector of metrics to two numbers and a sentence.

    O = 1 - product over symptoms of (1 - o_i)      overcook/score, noisy-OR: one fatal symptom is enough
    U = F (1 - O)                                   overcook/utility

with o_i the grades of `symptoms.SYMPTOMS` and F the identity. A symptom that could not be measured is left
out of the product, which can only lower O. Knows nothing about how a metric is measured; imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lorasweep.metrics.symptoms import SYMPTOMS
from lorasweep.records import Measurement

SCORE, UTILITY = "overcook/score", "overcook/utility"
IDENTITY, HELD_OUT = "identity/score", "generalisation/held_out"
OVERCOOKED = 0.5  # O above which a checkpoint is called overcooked
LEARNED = 0.4  # F below which a checkpoint is called undercooked
FALLBACK_GAIN = 0.15  # held-out log gain at which the stand-in for F reaches 1 - 1/e


def summarise(metrics: Mapping[str, float]) -> Measurement:
    """Score one checkpoint.

    Args:
        metrics: whatever could be measured.

    Returns:
        `overcook/<symptom>` for every symptom that was measured, `overcook/score` and `overcook/utility`, or
        the reason why there is none.
    """
    grades = {s.name: s.grade(value) for s in SYMPTOMS if (value := s.value(metrics)) is not None}
    if not grades:
        reason = "no symptom could be measured"
        return Measurement(missing={SCORE: reason, UTILITY: reason})
    score = 1.0 - math.prod(1.0 - grade for grade in grades.values())
    values = {f"overcook/{name}": grade for name, grade in grades.items()} | {SCORE: score}
    learned = fidelity(metrics)
    if learned is None:
        reason = "neither identity nor a held-out loss was measured"
        return Measurement(values=values, missing={UTILITY: reason})
    return Measurement(values=values | {UTILITY: learned * (1.0 - score)})


def fidelity(metrics: Mapping[str, float]) -> float | None:
    """F: the reader's identity, else a stand-in from what was gained on held-out images; in [0, 1].

    The stand-in is 1 - exp(-gain / FALLBACK_GAIN), with gain = -log of the held-out loss over the base's. It
    orders the checkpoints of one dataset; it does not compare datasets.
    """
    if IDENTITY in metrics:
        return metrics[IDENTITY]
    if HELD_OUT in metrics:
        return 1.0 - math.exp(-max(0.0, -math.log(metrics[HELD_OUT])) / FALLBACK_GAIN)
    return None


# ------------------------------------------------------------------------------------------- in words


def verdict(rungs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Say, from a series of judged checkpoints, where the recipe was done and where it burned.

    Args:
        rungs: ascending, each with "step", "exposures_per_image" and "metrics" (as `summarise` left them).

    Returns:
        "state" of the last checkpoint: "undercooked", "done", "overcooked" or "unknown"; "done_at": the step
        with the best utility among the safe ones (O <= 0.5) that learned the subject (F >= 0.5), the earliest
        on ties; "burned_at": the first overcooked step after it, or the first of all when there is none; each
        absent when there is no such step; "sentence" for people.
    """
    scored = [rung for rung in rungs if UTILITY in rung["metrics"]]
    if not scored:
        return {"state": "unknown", "sentence": "Could not be judged: no checkpoint has a score."}
    safe = [r for r in scored if r["metrics"][SCORE] <= OVERCOOKED and _learned(r) >= LEARNED]
    done = max(safe, key=lambda rung: (rung["metrics"][UTILITY], -rung["step"])) if safe else None
    after = [r for r in scored if done is None or r["step"] > done["step"]]
    burned = next((rung for rung in after if rung["metrics"][SCORE] > OVERCOOKED), None)
    found: dict[str, Any] = {"state": _state(scored[-1])}
    if done is not None:
        found["done_at"] = done["step"]
    if burned is not None:
        found["burned_at"] = burned["step"]
    return found | {"sentence": _sentence(scored[-1], done, burned)}


def _learned(rung: Mapping[str, Any]) -> float:
    learned = fidelity(rung["metrics"])
    return 0.0 if learned is None else learned


def _state(rung: Mapping[str, Any]) -> str:
    if rung["metrics"][SCORE] > OVERCOOKED:
        return "overcooked"
    return "done" if _learned(rung) >= LEARNED else "undercooked"


def _sentence(
    last: Mapping[str, Any], done: Mapping[str, Any] | None, burned: Mapping[str, Any] | None
) -> str:
    trouble = f"from {burned['step']} {_worst(burned)}" if burned else ""
    if done is not None:
        where = f"Done at step {done['step']} ({done['exposures_per_image']:.0f} exposures per image)"
        return f"{where}; {trouble}." if trouble else f"{where}; not overcooked by step {last['step']}."
    if burned:
        return f"Never done: {trouble}, and no checkpoint before has learned the subject."
    measured = "identity" if IDENTITY in last["metrics"] else "learned"
    found = f"{measured} {_learned(last):.2f}, needs {LEARNED:.2f}"
    return f"Undercooked: by step {last['step']} the subject is not learned yet ({found})."


def _worst(rung: Mapping[str, Any]) -> str:
    """What the strongest symptom of a checkpoint looks like, with its number and its limit."""
    metrics = rung["metrics"]
    measured = [(symptom, value) for symptom in SYMPTOMS if (value := symptom.value(metrics)) is not None]
    symptom, value = max(measured, key=lambda pair: round(pair[0].grade(pair[1]), 2))  # the first of equals
    alone = f"{symptom.says} ({value:.2f}, limit {symptom.limit:.2f})"
    return alone if value >= symptom.limit else f"symptoms add up, above all {alone}"
