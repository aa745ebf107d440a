"""From a series of judged checkpoints to a verdict: where the recipe was done, where it burned, what to keep.

    rungs  ->  Verdict  ->  `overcook/...` numbers, JSON and words (`summary`)

A rung is what `events.jsonl` and `metrics.json` hold: "step", "exposures_per_image", "metrics", "replicates"
(see `metrics.replicates`). All rungs are measured alike, so their curves can be compared point by point.

    learned    F >= `calibration.learned`
    safe       O <= 0.5
    done_at    the learned and safe rung of the lowest held-out loss
    best_at    the same; where no rung is both, of the safe ones, and where none is safe, of all
    as_good    the learned and safe rungs around `done_at` whose loss is within one paired standard error of its
    burned_at  the first rung after it from which O stays over its limit to the end
    window     exposures per image from the first learned and safe rung to `burned_at`: how forgiving it is

O says what no longer comes into question; among the rest the loss on held-out images decides, which on fixed
noise hardly errs, while U is read from few pictures, so that the highest of several is often the luckiest.
Where no image was held out it decides all the same, smoothed over the rungs beside it. Measured against other
rules and stoppers in `docs/overcooking_elsewhere.md`. Imports no torch.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lorasweep.plan.calibration import Calibration
from lorasweep.plan.symptoms import SYMPTOMS
from lorasweep.trial.judge import replicates, score
from lorasweep.trial.judge.score import FIDELITY, HELD_OUT, OVERCOOKED, SCORE, UTILITY

CONFIRMED = 2  # rungs over the limit in a row that make a warning without a standard error

RungFacts = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class MainSymptom:
    """The strongest symptom of a burned checkpoint."""

    symptom: str  # its name; letter, says: as the `Symptom` has them
    letter: str
    says: str
    value: float  # how much of it there is
    limit: float  # where it begins to count
    alone: bool  # whether it is over its limit, or symptoms only add up


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is known about a recipe from its rungs; steps are those of rungs, exposures are per image."""

    done_at: int | None = None
    burned_at: int | None = None
    best_at: int | None = None  # `done_at`, or the rung that comes nearest to it
    as_good: tuple[int, ...] = ()  # those, with `done_at`, that the error cannot tell from it; empty without errors
    learned_from: int | None = None  # the first learned and safe rung
    last_step: int | None = None  # the last rung
    exposures: dict[int, float] = field(default_factory=dict)  # by step, of every rung
    blame: MainSymptom | None = None  # the strongest symptom at `burned_at`
    within_error: bool = False  # nothing but one checkpoint says that it burned, and the limit is within O's error
    learned: float | None = None  # F at the last rung

    @property
    def safe_window(self) -> float | None:
        """Exposures per image from the first learned and safe rung to `burned_at`; None without both."""
        if self.learned_from is None or self.burned_at is None:
            return None
        return self.exposures[self.burned_at] - self.exposures[self.learned_from]

    @property
    def open_window(self) -> float | None:
        """What the safe window is at least, when the recipe ended before it burned."""
        if self.learned_from is None or self.burned_at is not None or self.last_step is None:
            return None
        return self.exposures[self.last_step] - self.exposures[self.learned_from]


def rescored(rungs: Sequence[Mapping[str, Any]], calibration: Calibration) -> list[dict[str, Any]]:
    """Score a trial's rungs, oldest first, by other limits; one that was measured and not a number gets no score."""
    found: list[dict[str, Any]] = []
    for rung in rungs:
        scored = SCORE in rung["metrics"]
        if not scored and (rung.get("missing") or {}).get(SCORE) != score.NOTHING:
            found.append(dict(rung))
            continue
        metrics, missing = _measured(rung["metrics"]), _measured(rung.get("missing") or {})
        kind = score.kind_of([each["metrics"] for each in found])
        now = score.summarise(metrics, calibration, missing=missing, kind=kind)
        kind = kind or score.kind_of([metrics | now.values])
        parts = [
            (own := _measured(part))
            | (score.summarise(own, calibration, kind=kind).values if SCORE in part or not scored else {})
            for part in rung.get("replicates") or ()
        ]
        values = replicates.with_errors(metrics | now.values, parts)
        found.append({**rung, "metrics": values, "missing": missing | now.missing, "replicates": parts})
    return found


def _measured(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Return what does not follow from limits."""
    return {name: value for name, value in numbers.items() if name.partition("/")[0] != "overcook"}


def of_rungs(rungs: Sequence[RungFacts], calibration: Calibration) -> Verdict:
    """Judge a series of checkpoints, ascending; those without a score are passed over.

    Where no utility was measured, only burning is told.
    """
    scored = [rung for rung in rungs if UTILITY in rung["metrics"]]
    if not scored:
        return _of_scores([rung for rung in rungs if SCORE in rung["metrics"]], calibration)
    decides = HELD_OUT if all(HELD_OUT in rung["metrics"] for rung in scored) else UTILITY
    merits = dict(zip((rung["step"] for rung in scored), _merits(scored, decides), strict=True))
    safe = [rung for rung in scored if rung["metrics"][SCORE] <= OVERCOOKED]
    learned = [rung for rung in safe if state_of(rung["metrics"], calibration) == "done"]
    best = max(learned or safe or scored, key=lambda rung: (merits[rung["step"]], -rung["step"]))
    done = best if learned else None
    burning = _of_scores(scored, calibration, after=None if done is None else done["step"])
    return dataclasses.replace(
        burning,
        done_at=None if done is None else done["step"],
        best_at=best["step"],
        as_good=_as_good(learned, done, decides),
        learned_from=learned[0]["step"] if learned else None,
        learned=_fidelity(scored[-1]["metrics"], calibration),
    )


def _of_scores(scored: Sequence[RungFacts], calibration: Calibration, *, after: int | None = None) -> Verdict:
    """Say where it burns, past a step, and nothing of what it learned."""
    burned = _burned([rung for rung in scored if after is None or rung["step"] > after])
    return Verdict(
        burned_at=None if burned is None else burned["step"],
        last_step=scored[-1]["step"] if scored else None,
        exposures={rung["step"]: float(rung["exposures_per_image"]) for rung in scored},
        blame=None if burned is None else main_symptom(burned["metrics"], calibration),
        within_error=burned is not None and burned is scored[-1] and _is_beyond(burned) is False,
    )


def state_of(metrics: Mapping[str, float], calibration: Calibration) -> str:
    """Name what one checkpoint is: "undercooked", "done", "overcooked" or "unknown"."""
    if metrics.get(SCORE, 0.0) > OVERCOOKED:
        return "overcooked"
    if UTILITY not in metrics:
        return "unknown"
    learned = _fidelity(metrics, calibration)
    return "done" if learned is not None and learned >= calibration.learned else "undercooked"


def main_symptom(metrics: Mapping[str, float], calibration: Calibration) -> MainSymptom:
    """Return the gravest symptom of a checkpoint that has a score; of equally grave ones the one that anyone sees."""
    found = [
        (round(symptom.severity * calibration.limits[symptom.name].grade(value), 2), symptom, value)
        for symptom in SYMPTOMS
        if symptom.name in calibration.limits and (value := symptom.value(metrics)) is not None
    ]
    _, symptom, value = max(found, key=lambda row: row[0])  # the first of equals
    limit = calibration.limits[symptom.name].limit
    return MainSymptom(
        symptom=symptom.name,
        letter=symptom.letter,
        says=symptom.says,
        value=value,
        limit=limit,
        alone=value >= limit,
    )


def is_sure(rungs: Sequence[RungFacts], found: Verdict) -> bool:
    """Tell whether a trial that is still cooking has burned beyond doubt: time to warn.

    Either `CONFIRMED` rungs in a row are over the limit, or the last is by more than its standard error.
    """
    if found.burned_at is None:
        return False
    over = [rung for rung in rungs if rung["step"] >= found.burned_at and SCORE in rung["metrics"]]
    return len(over) >= CONFIRMED or _is_beyond(over[-1]) is True


def _is_beyond(rung: RungFacts) -> bool | None:
    """Tell whether O is over the limit by more than its standard error; None without one."""
    error = replicates.standard_error(rung.get("replicates") or (), SCORE)
    return None if error is None else rung["metrics"][SCORE] - error > OVERCOOKED


def _fidelity(metrics: Mapping[str, float], calibration: Calibration) -> float | None:
    """Return F as U is made of it; rungs from before 2026-11-29 do not have it."""
    return metrics.get(FIDELITY, score.fidelity(metrics, calibration))


def _merits(scored: Sequence[RungFacts], decides: str) -> list[float]:
    """Return what decides between rungs, higher is better: minus the held-out loss, or U smoothed (1, 2, 1)."""
    if decides == HELD_OUT:
        return [-rung["metrics"][HELD_OUT] for rung in scored]
    utilities = [rung["metrics"][UTILITY] for rung in scored]
    padded = [utilities[0], *utilities, utilities[-1]]
    return [(padded[k] + 2 * padded[k + 1] + padded[k + 2]) / 4 for k in range(len(utilities))]


def _as_good(learned: Sequence[RungFacts], done: RungFacts | None, decides: str) -> tuple[int, ...]:
    """Return the unbroken stretch around the done rung that the error of what decides cannot tell from it."""
    if done is None or not done.get("replicates"):
        return ()

    def is_as_good(rung: RungFacts) -> bool:
        error = replicates.paired_error(done["replicates"], rung.get("replicates") or (), decides)
        behind = done["metrics"][decides] - rung["metrics"][decides]
        return error is not None and (-behind if decides == HELD_OUT else behind) <= error

    place = next(k for k, rung in enumerate(learned) if rung["step"] == done["step"])
    before = itertools.takewhile(is_as_good, reversed(learned[:place]))
    after = itertools.takewhile(is_as_good, learned[place + 1 :])
    return tuple(rung["step"] for rung in (*reversed([*before]), done, *after))


def _burned(after: Sequence[RungFacts]) -> RungFacts | None:
    """Return the first rung from which all are over the limit."""
    burned = None
    for rung in reversed(after):
        if rung["metrics"][SCORE] <= OVERCOOKED:
            break
        burned = rung
    return burned
