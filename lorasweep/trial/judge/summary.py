"""A verdict as files and tables read it: `overcook/...` numbers, reasons for those that are absent, and JSON.

    numbers    overcook/done_at_step, /done_at_exposures       where to stop
               overcook/burned_at_step, /burned_at_exposures   where it is ruined
               overcook/safe_window_exposures                  how forgiving the recipe is
               overcook/best_weight                            of the ladder, at the checkpoint that is kept
               overcook/kept_step                              the checkpoint that every other number is about
               overcook/score_last, /utility_last              O and U where the recipe ends, as declared
    document   "verdict" of metrics.json, see `document`

Exposures are per image. Measures nothing; imports no torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from lorasweep.core.records import Measurement
from lorasweep.trial.judge import sentence
from lorasweep.trial.judge.calibration import Calibration
from lorasweep.trial.judge.ladder import BestWeight
from lorasweep.trial.judge.score import OVERCOOKED, SCORE, UTILITY
from lorasweep.trial.judge.symptoms import SYMPTOMS
from lorasweep.trial.judge.verdict import RungFacts, Verdict, state_of, strongest

FAMILY = SCORE.partition("/")[0]


def numbers(
    found: Verdict, rungs: Sequence[RungFacts], *, kept: int, best: BestWeight | None, why_no_weight: str = ""
) -> Measurement:
    """Give the verdict as metrics.

    Args:
        found: what the rungs showed.
        rungs: ascending.
        kept: the step whose adapter is kept.
        best: what the ladder showed.
        why_no_weight: the reason, when the ladder showed nothing.
    """
    values: dict[str, float | None] = {"kept_step": float(kept)}
    never = "no checkpoint is both learned and safe"
    still = f"not overcooked by step {found.last_step}"
    if found.last_step is None:
        never = still = "no checkpoint has a score"
    missing = {"best_weight": why_no_weight or "fewer than two weights have a utility, or none is above 0"}
    for name, step, reason in (("done_at", found.done_at, never), ("burned_at", found.burned_at, still)):
        values[f"{name}_step"] = None if step is None else float(step)
        values[f"{name}_exposures"] = None if step is None else found.exposures[step]
        missing |= dict.fromkeys((f"{name}_step", f"{name}_exposures"), reason)
    values["safe_window_exposures"] = found.safe_window
    at_least = found.open_window
    missing["safe_window_exposures"] = never if at_least is None else f"{still}: at least {at_least:.1f}"
    values["best_weight"] = None if best is None else best.weight
    last = rungs[-1]["metrics"] if rungs else {}
    for name, key in (("score_last", SCORE), ("utility_last", UTILITY)):
        values[name] = last.get(key)
        missing[name] = "the last checkpoint has no score"
    return Measurement(
        values={f"{FAMILY}/{name}": value for name, value in values.items() if value is not None},
        missing={f"{FAMILY}/{name}": why for name, why in missing.items() if values.get(name) is None},
    )


def document(
    found: Verdict,
    calibration: Calibration,
    final: Measurement,
    *,
    kept: int,
    best: BestWeight | None,
) -> dict[str, Any]:
    """Give the verdict as JSON.

    Args:
        found: what the rungs showed.
        calibration: what they were judged by.
        final: the kept checkpoint, judged in full.
        kept: its step.
        best: what the ladder showed.

    Returns:
        "state" of the kept checkpoint, "sentence" for people, "kept" and "kept_because" ("done" or "last");
        "done_at", "burned_at", "best_at", "learned_from" (steps), "exposures" (per image, by those names),
        "as_good" (steps that the error of U cannot tell from `done_at`, itself included);
        "safe_window_exposures" or, when it did not burn, "open_window_exposures"; "best_weight" and "weights"
        (low, high); "blame" (symptom, letter, says, value, limit, alone) at `burned_at`; "unmeasured"
        (symptom -> reason); "calibration", the digest of the limits. A key without an answer is absent.
    """
    steps = {
        "done_at": found.done_at,
        "burned_at": found.burned_at,
        "best_at": found.best_at,
        "learned_from": found.learned_from,
    }
    known = {name: step for name, step in steps.items() if step is not None}
    optional = {
        "as_good": list(found.as_good) or None,
        "safe_window_exposures": found.safe_window,
        "open_window_exposures": found.open_window,
        "best_weight": None if best is None else best.weight,
        "weights": None if best is None else [best.low, best.high],
        "blame": None if found.blame is None else dataclasses.asdict(found.blame),
    }
    return {
        "state": state_of(final.values, calibration),
        "sentence": _sentence(found, calibration, final, kept=kept, best=best),
        "kept": kept,
        "kept_because": "done" if kept == found.done_at else "last",
        **known,
        "exposures": {name: found.exposures[step] for name, step in known.items()},
        **{key: value for key, value in optional.items() if value is not None},
        "unmeasured": _unmeasured(final.missing),
        "calibration": calibration.digest,
    }


def _sentence(
    found: Verdict, calibration: Calibration, final: Measurement, *, kept: int, best: BestWeight | None
) -> str:
    """The rungs' sentence, and a word of doubt when the full judgement of the kept one contradicts it."""
    said = sentence.sentence(found, calibration, best=best, kept=kept)
    if kept != found.done_at or final.values.get(SCORE, 0.0) <= OVERCOOKED:
        return said
    return f"{said[:-1]}; but judged on every picture, {sentence.blamed(strongest(final.values, calibration))}."


def _unmeasured(missing: Mapping[str, str]) -> dict[str, str]:
    keys = {symptom.name: f"{FAMILY}/{symptom.name}" for symptom in SYMPTOMS}
    return {name: missing[key] for name, key in keys.items() if key in missing}
