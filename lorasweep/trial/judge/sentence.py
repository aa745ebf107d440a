"""The verdict in words that anyone understands.

    "Done at step 400 (17 exposures per image); from 700 it copies its training images (M 0.31, limit 0.09);
    use it at 0.6 to 0.8."

Takes a `Verdict` and the ladder's answer, returns text. Measures nothing.
"""

from __future__ import annotations

from lorasweep.trial.judge.calibration import Calibration
from lorasweep.trial.judge.ladder import BestWeight
from lorasweep.trial.judge.verdict import Blame, Verdict


def sentence(
    found: Verdict, calibration: Calibration, *, best: BestWeight | None = None, kept: int | None = None
) -> str:
    """Say it in one sentence.

    Args:
        found: what the rungs showed.
        calibration: what "learned" was.
        best: the weight to use, when the ladder was drawn.
        kept: the step whose adapter is kept; said when it is not the one that was done.
    """
    if found.state == "unknown" and found.last_step is None:
        return "Could not be judged: no checkpoint has a score."
    parts = [_where(found, calibration)]
    if best is not None and found.done_at is not None and kept in (None, found.done_at):
        parts.append(f"use it at {_range(best)}")
    if found.done_at is not None and kept is not None and kept != found.done_at:
        parts.append(f"kept as declared, at step {kept}")
    return "; ".join(parts) + "."


def burning(found: Verdict) -> str:
    """The warning while a trial is still cooking: "burned from step 700 (30 exposures per image): ..."."""
    exposures = found.exposures[found.burned_at or 0]
    return f"burned from step {found.burned_at} ({exposures:.0f} exposures per image): {blamed(found.blame)}"


def _where(found: Verdict, calibration: Calibration) -> str:
    trouble = "" if found.burned_at is None else f"from {found.burned_at} {blamed(found.blame)}"
    if found.done_at is not None:
        exposures = f"{found.exposures[found.done_at]:.0f} exposures per image"
        where = f"Done at step {found.done_at} ({exposures}{_as_good(found)})"
        return f"{where}; {trouble}" if trouble else f"{where}; not overcooked by step {found.last_step}"
    if trouble:
        return f"Never done: {trouble}, and no checkpoint before has learned the subject"
    if found.learned is not None and found.learned >= calibration.learned:
        return f"Never done: no checkpoint is both learned and safe by step {found.last_step}"
    learned = "unknown" if found.learned is None else f"{found.learned:.2f}"
    return (
        f"Undercooked: by step {found.last_step} the subject is not learned yet "
        f"(identity {learned}, needs {calibration.learned:.2f})"
    )


def _as_good(found: Verdict) -> str:
    if len(found.as_good) < 2:
        return ""
    return f"; {found.as_good[0]} to {found.as_good[-1]} are as good within the error"


def blamed(blame: Blame | None) -> str:
    """What the strongest symptom looks like, with its number and its limit."""
    if blame is None:
        return "it is overcooked"
    alone = f"{blame.says} ({blame.letter} {blame.value:.2f}, limit {blame.limit:.2f})"
    return alone if blame.alone else f"symptoms add up, above all {alone}"


def _range(best: BestWeight) -> str:
    return f"{best.weight:g}" if best.low == best.high else f"{best.low:g} to {best.high:g}"
