"""A verdict as files, tables and people read it: `overcook/...` numbers, JSON, and one sentence.

    numbers    overcook/done_at_step, /done_at_exposures       where to stop
               overcook/burned_at_step, /burned_at_exposures   where it is ruined
               overcook/safe_window_exposures                  how forgiving the recipe is
               overcook/best_weight                            of the ladder, at the checkpoint that is kept
               overcook/kept_step                              the checkpoint that every other number is about
               overcook/score_last, /utility_last              O and U where the recipe ends, as declared
    document   "verdict" of metrics.json, see `document`
    sentence   "Done at step 400 (17 exposures per image); from step 700 on it copies its training
               images (M 0.31, limit 0.09); use it at 0.6 to 0.8."

Exposures are per image. Measures nothing; imports no torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from lorasweep.core.records import Measurement
from lorasweep.plan.calibration import Calibration
from lorasweep.plan.symptoms import SYMPTOMS
from lorasweep.trial.judge.ladder import BestWeight
from lorasweep.trial.judge.score import SCORE, UTILITY
from lorasweep.trial.judge.verdict import MainSymptom, RungFacts, Verdict, main_symptom, state_of

FAMILY = SCORE.partition("/")[0]
_WITHIN_ERROR = "though the limit is within the error"
_NOT_ASKED = "whether the subject is there was not measured"


def numbers(
    found: Verdict, rungs: Sequence[RungFacts], *, kept: int, best: BestWeight | None, why_no_weight: str = ""
) -> Measurement:
    """Give the verdict of ascending rungs as metrics; `why_no_weight` is why the ladder showed no `best`."""
    never = "no checkpoint is both learned and safe" if found.best_at is not None else _NOT_ASKED
    still = f"not overcooked by step {found.last_step}"
    if found.last_step is None:
        never = still = "no checkpoint has a score"
    open_window = never if found.open_window is None else f"{still}: at least {found.open_window:.1f}"
    no_weight = why_no_weight or "fewer than two weights have a utility, or none is above 0"
    last = rungs[-1]["metrics"] if rungs else {}
    unscored = "the last checkpoint has no score"

    def exposures(step: int | None) -> float | None:
        return None if step is None else found.exposures[step]

    rows: dict[str, tuple[float | None, str]] = {  # the number, and why it is absent when it is
        "kept_step": (kept, ""),
        "done_at_step": (found.done_at, never),
        "done_at_exposures": (exposures(found.done_at), never),
        "burned_at_step": (found.burned_at, still),
        "burned_at_exposures": (exposures(found.burned_at), still),
        "safe_window_exposures": (found.safe_window, open_window),
        "best_weight": (None if best is None else best.weight, no_weight),
        "score_last": (last.get(SCORE), unscored),
        "utility_last": (last.get(UTILITY), unscored),
    }
    return Measurement(
        values={f"{FAMILY}/{name}": float(value) for name, (value, _) in rows.items() if value is not None},
        missing={f"{FAMILY}/{name}": why for name, (value, why) in rows.items() if value is None},
    )


def document(
    found: Verdict, calibration: Calibration, final: Measurement, *, kept: int, best: BestWeight | None
) -> dict[str, Any]:
    """Give the verdict as JSON; `final` is the kept checkpoint, judged in full.

    Returns:
        "state" of the kept checkpoint, "sentence" for people, "kept" and "kept_because" ("done", "nearest", "last");
        "done_at", "burned_at", "best_at", "learned_from" (steps), "exposures" (per image, by those names),
        "as_good" (steps that the error cannot tell from `done_at`, itself included);
        "safe_window_exposures" or, when it did not burn, "open_window_exposures"; "best_weight" and "weights"
        (low, high); "blame" (symptom, letter, says, value, limit, alone) at `burned_at`; "burned_doubt", in words,
        where the limit is within the error of that one checkpoint's O; "unmeasured"
        (symptom -> reason); "calibration", the digest of the limits. A key without an answer is absent.
    """
    said = sentence(found, calibration, best=best, kept=kept)
    state = state_of(final.values, calibration)
    if kept == found.done_at and state in ("overcooked", "undercooked"):
        burned = state == "overcooked"
        trouble = blamed(main_symptom(final.values, calibration)) if burned else "the subject is not learned yet"
        said = f"{said[:-1]}; but judged on every picture, {trouble}."
    names = ("done_at", "burned_at", "best_at", "learned_from")
    steps = {name: step for name in names if (step := getattr(found, name)) is not None}
    optional = {
        "as_good": list(found.as_good) or None,
        "safe_window_exposures": found.safe_window,
        "open_window_exposures": found.open_window,
        "best_weight": None if best is None else best.weight,
        "weights": None if best is None else [best.low, best.high],
        "blame": None if found.blame is None else dataclasses.asdict(found.blame),
        "burned_doubt": _WITHIN_ERROR if found.within_error else None,
    }
    graded = {symptom.name: f"{FAMILY}/{symptom.name}" for symptom in SYMPTOMS}
    return {
        "state": state,
        "sentence": said,
        "kept": kept,
        "kept_because": _why(found, kept),
        **steps,
        "exposures": {name: found.exposures[step] for name, step in steps.items()},
        **{key: value for key, value in optional.items() if value is not None},
        "unmeasured": {name: final.missing[key] for name, key in graded.items() if key in final.missing},
        "calibration": calibration.digest,
    }


def sentence(
    found: Verdict, calibration: Calibration, *, best: BestWeight | None = None, kept: int | None = None
) -> str:
    """Say the verdict in one sentence; the step that is kept is said when it is not the one that was done."""
    if found.last_step is None:
        return "Could not be judged: no checkpoint has a score."
    if found.best_at is None:
        trouble = _trouble(found)
        return f"{f'Overcooked: {trouble}' if trouble else f'Not overcooked by step {found.last_step}'}; {_NOT_ASKED}."
    said = _where(found, calibration)
    if kept is not None and _why(found, kept) == "nearest":
        return f"{said}; kept is the nearest to done, step {kept}."
    if found.done_at is not None and kept not in (None, found.done_at):
        return f"{said}; kept as declared, at step {kept}."
    if found.done_at is not None and best is not None:
        alone = best.low == best.high
        return f"{said}; use it at {f'{best.weight:g}' if alone else f'{best.low:g} to {best.high:g}'}."
    return f"{said}."


def _why(found: Verdict, kept: int) -> str:
    if kept == found.done_at:
        return "done"
    return "nearest" if kept == found.best_at != found.last_step else "last"


def burning(found: Verdict) -> str:
    """Warn during training: "burned from step 700 (30 exposures per image): ..."."""
    assert found.burned_at is not None and found.blame is not None, "only what has burned is warned of"
    where = _in_brackets(_exposures(found, found.burned_at))
    return f"burned from step {found.burned_at}{where}: {blamed(found.blame)}"


def _exposures(found: Verdict, step: int) -> str:
    """Say exposures up to a step; nothing where files are judged without images."""
    count = found.exposures[step]
    return f"{count:.0f} exposures per image" if count else ""


def _in_brackets(*said: str) -> str:
    told = "; ".join(filter(None, said))
    return f" ({told})" if told else ""


def blamed(blame: MainSymptom) -> str:
    """Say what the main symptom looks like, with its number and its limit."""
    alone = f"{blame.says} ({blame.letter} {blame.value:.2f}, limit {blame.limit:.2f})"
    return alone if blame.alone else f"symptoms add up, above all {alone}"


def _trouble(found: Verdict) -> str:
    if found.blame is None:
        return ""
    doubt = f", {_WITHIN_ERROR}" if found.within_error else ""
    return f"from step {found.burned_at} on {blamed(found.blame)}{doubt}"


def _where(found: Verdict, calibration: Calibration) -> str:
    trouble = _trouble(found)
    if found.done_at is not None:
        many = len(found.as_good) > 1
        as_good = f"{found.as_good[0]} to {found.as_good[-1]} are as good within the error" if many else ""
        where = f"Done at step {found.done_at}{_in_brackets(_exposures(found, found.done_at), as_good)}"
        return f"{where}; {trouble or f'not overcooked by step {found.last_step}'}"
    if trouble:
        return f"Never done: {trouble}, and no checkpoint before has learned the subject"
    if found.learned is not None and found.learned >= calibration.learned:
        return f"Never done: no checkpoint is both learned and safe by step {found.last_step}"
    learned = "unknown" if found.learned is None else f"{found.learned:.2f}"
    return (
        f"Undercooked: by step {found.last_step} the subject is not learned yet "
        f"(identity {learned}, needs {calibration.learned:.2f})"
    )
