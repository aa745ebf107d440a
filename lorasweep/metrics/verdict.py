"""From a series of judged checkpoints to a verdict: where the recipe was done, where it burned, what to keep.

    rungs  ->  Verdict  ->  `overcook/...` numbers and JSON (`summary`), words (`sentence`)

A rung is what `events.jsonl` and `metrics.json` hold: "step", "exposures_per_image", "metrics", "replicates"
(see `metrics.replicates`). All rungs are measured alike, so their curves can be compared point by point.

    learned    F >= `calibration.learned`
    safe       O <= 0.5
    done_at    the earliest learned and safe rung whose U is within one paired standard error of the best
               such U, and not more than `INDIFFERENT` below it: what noise cannot tell from the best, sooner
    burned_at  the first rung after it from which O stays over its limit to the end
    window     exposures per image from the first learned and safe rung to `burned_at`: how forgiving it is

Source: the one-standard-error rule (Breiman et al., "Classification and Regression Trees", 1984, 3.4.3), with
paired errors and a cap, because few pictures make large errors. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lorasweep.metrics import replicates, score
from lorasweep.metrics.calibration import Calibration
from lorasweep.metrics.score import OVERCOOKED, SCORE, UTILITY
from lorasweep.metrics.symptoms import SYMPTOMS

INDIFFERENT = 0.05  # U that nobody would trade exposures for
CONFIRMED = 2  # rungs over the limit in a row that make a warning without a standard error

RungFacts = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Blame:
    """The strongest symptom of a burned checkpoint.

    Attributes:
        symptom, letter, says: as in `symptoms.SYMPTOMS`.
        value, limit: how much of it there is, and where it begins to count.
        alone: whether it is over its limit, or symptoms only add up.
    """

    symptom: str
    letter: str
    says: str
    value: float
    limit: float
    alone: bool


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is known about a recipe from its rungs; steps are those of rungs, exposures are per image.

    Attributes:
        state: of the checkpoint that is kept: "undercooked", "done", "overcooked" or "unknown".
        done_at, burned_at: steps; None when there is none.
        best_at: the rung with the highest U of all, noise and all.
        learned_from: the first learned and safe rung.
        last_step: the last rung.
        exposures: by step, of every rung.
        blame: the strongest symptom at `burned_at`.
        learned: F at the last rung.
    """

    state: str
    done_at: int | None = None
    burned_at: int | None = None
    best_at: int | None = None
    learned_from: int | None = None
    last_step: int | None = None
    exposures: dict[int, float] = field(default_factory=dict)
    blame: Blame | None = None
    learned: float | None = None

    @property
    def safe_window(self) -> float | None:
        """Exposures per image from the first learned and safe rung to `burned_at`; None without both."""
        if self.learned_from is None or self.burned_at is None or self.burned_at < self.learned_from:
            return None
        return self.exposures[self.burned_at] - self.exposures[self.learned_from]

    @property
    def open_window(self) -> float | None:
        """What the safe window is at least, when the recipe ended before it burned."""
        if self.learned_from is None or self.burned_at is not None or self.last_step is None:
            return None
        return self.exposures[self.last_step] - self.exposures[self.learned_from]


def of_rungs(rungs: Sequence[RungFacts], calibration: Calibration) -> Verdict:
    """Judge a series of checkpoints.

    Args:
        rungs: ascending; those without a score are passed over.
        calibration: says when a subject is learned, and names limits.

    Returns:
        The verdict; its state is the last rung's, until `for_kept` is asked for another's.
    """
    scored = [rung for rung in rungs if UTILITY in rung["metrics"]]
    if not scored:
        return Verdict(state="unknown")
    safe = [rung for rung in scored if _is_safe(rung, calibration)]
    done = _done(safe)
    after = [rung for rung in scored if done is None or rung["step"] > done["step"]]
    burned = _burned(after)
    return Verdict(
        state=state_of(scored[-1]["metrics"], calibration),
        done_at=None if done is None else done["step"],
        burned_at=None if burned is None else burned["step"],
        best_at=max(scored, key=lambda rung: (rung["metrics"][UTILITY], -rung["step"]))["step"],
        learned_from=safe[0]["step"] if safe else None,
        last_step=scored[-1]["step"],
        exposures={rung["step"]: float(rung["exposures_per_image"]) for rung in scored},
        blame=None if burned is None else strongest(burned["metrics"], calibration),
        learned=score.fidelity(scored[-1]["metrics"], calibration),
    )


def state_of(metrics: Mapping[str, float], calibration: Calibration) -> str:
    """What one checkpoint is: "undercooked", "done", "overcooked" or "unknown"."""
    if UTILITY not in metrics:
        return "unknown"
    if metrics[SCORE] > OVERCOOKED:
        return "overcooked"
    learned = score.fidelity(metrics, calibration)
    return "done" if learned is not None and learned >= calibration.learned else "undercooked"


def strongest(metrics: Mapping[str, float], calibration: Calibration) -> Blame | None:
    """The gravest symptom of a checkpoint; of equally grave ones the one that anyone sees."""
    found: list[tuple[float, Blame]] = []
    for symptom in SYMPTOMS:
        value, limit = symptom.value(metrics), calibration.limits.get(symptom.name)
        if value is None or limit is None:
            continue
        blame = Blame(
            symptom=symptom.name,
            letter=symptom.letter,
            says=symptom.says,
            value=value,
            limit=limit.limit,
            alone=value >= limit.limit,
        )
        found.append((round(symptom.severity * limit.grade(value), 2), blame))
    return max(found, key=lambda pair: pair[0])[1] if found else None  # max takes the first of equals


def is_sure(rungs: Sequence[RungFacts], found: Verdict) -> bool:
    """Whether a trial that is still cooking has burned beyond doubt: time to warn.

    Either `CONFIRMED` rungs in a row are over the limit, or the last is by more than its standard error.
    """
    if found.burned_at is None:
        return False
    over = [rung for rung in rungs if rung["step"] >= found.burned_at and SCORE in rung["metrics"]]
    last = over[-1]
    error = replicates.standard_error(last.get("replicates") or (), SCORE)
    return len(over) >= CONFIRMED or (error is not None and last["metrics"][SCORE] - error > OVERCOOKED)


def _is_safe(rung: RungFacts, calibration: Calibration) -> bool:
    return state_of(rung["metrics"], calibration) == "done"


def _done(safe: Sequence[RungFacts]) -> RungFacts | None:
    if not safe:
        return None
    best = max(safe, key=lambda rung: (rung["metrics"][UTILITY], -rung["step"]))
    return next(rung for rung in safe if _gap(best, rung) <= _tolerance(best, rung))


def _gap(best: RungFacts, rung: RungFacts) -> float:
    return float(best["metrics"][UTILITY] - rung["metrics"][UTILITY])


def _tolerance(best: RungFacts, rung: RungFacts) -> float:
    error = replicates.paired_error(best.get("replicates") or (), rung.get("replicates") or (), UTILITY)
    return min(error or 0.0, INDIFFERENT)


def _burned(after: Sequence[RungFacts]) -> RungFacts | None:
    """The first rung from which all are over the limit."""
    burned = None
    for rung in reversed(after):
        if rung["metrics"][SCORE] <= OVERCOOKED:
            break
        burned = rung
    return burned
