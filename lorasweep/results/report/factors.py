"""What mattered: how much each axis of a space decides the value; between arms, what one change made.

    Findings  ->  Importance, or one-factor Changes

Knows nothing about HTML.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass

from lorasweep.core.records import Status
from lorasweep.results.report.reading import Findings, TrialFindings
from lorasweep.sweep.ranking.state import params

RECIPES_AT_LEAST = 8  # different recipes, from which on a sweep is looked at as a space rather than as arms
_UNSAID = "default"


@dataclass(frozen=True, kw_only=True)
class Importance:
    """How much each axis decides the value; `why_not` when that cannot be said."""

    shares: Mapping[str, float]  # axis -> [0, 1], the largest first
    conditions: Mapping[str, str]  # axis -> how many trials have it, for those that not all have
    trials: int
    why_not: str = ""


@dataclass(frozen=True, kw_only=True)
class Change:
    """Two arms that differ in one thing."""

    factor: str  # `buckets`
    before: str  # `single`
    after: str
    arms: tuple[str, str]
    difference: float  # of the value: the second arm's mean less the first's


def is_space(findings: Findings) -> bool:
    """Tell whether so many different recipes were cooked that axes are weighed rather than arms compared."""
    recipes = [{**trial.recipe, "seed": None} for trial in findings.trials if trial.recipe]
    return len({json.dumps(recipe, sort_keys=True) for recipe in recipes}) >= RECIPES_AT_LEAST


def importance(findings: Findings) -> Importance:
    """Weigh the axes of a space."""
    from lorasweep.sweep.search.importance import TRIALS_AT_LEAST
    from lorasweep.sweep.search.importance import importance as weigh

    known = [
        (params(trial.state.overrides), trial.state.value)
        for trial in findings.trials
        if trial.state.value is not None and trial.state.status is Status.COMPLETED
    ]
    shares: Mapping[str, float] = {}
    if len(known) < TRIALS_AT_LEAST:
        why_not = f"{len(known)} trials have a value; weighing axes takes {TRIALS_AT_LEAST}"
    else:
        try:
            shares = weigh(known)
            why_not = "" if shares else "every trial has the same value, or no axis varies"
        except ImportError as error:
            why_not = f"it needs {error.name}"
    having = {axis: sum(axis in chosen for chosen, _ in known) for axis in shares}
    conditions = {axis: f"of {count} trials" for axis, count in having.items() if count < len(known)}
    return Importance(shares=shares, conditions=conditions, trials=len(known), why_not=why_not)


def changes(findings: Findings) -> list[Change]:
    """Return pairs of arms that differ in exactly one thing, the largest difference first."""
    values = {row.arm: row.value for row in findings.arms}
    shown = [trial for trial in findings.shown if trial.recipe]
    found = []
    for one, other in itertools.combinations(sorted(shown, key=lambda trial: trial.state.number), 2):
        before, after = values[one.state.arm], values[other.state.arm]
        factors = differing(one, other)
        if len(factors) == 1 and before is not None and after is not None:
            found.append(
                Change(
                    factor=factors[0],
                    before=said(one, factors[0]),
                    after=said(other, factors[0]),
                    arms=(one.state.arm, other.state.arm),
                    difference=after - before,
                )
            )
    return sorted(found, key=lambda change: -abs(change.difference))


def differing(one: TrialFindings, other: TrialFindings) -> list[str]:
    """Tell what differs between two recipes: a group (`optimizer`) where another part was chosen, else keys."""
    keys = [key for key in dict.fromkeys((*one.recipe, *other.recipe)) if key != "seed"]
    unequal = [key for key in keys if one.recipe.get(key) != other.recipe.get(key)]
    swapped = {key.removesuffix(".name") for key in unequal if key.endswith(".name")}
    # Bucket sets share a generator; what tells them apart for people is the name of the set.
    swapped |= {"buckets"} if any(key.startswith("buckets.") for key in unequal) else set()
    groups = [key.split(".")[0] for key in unequal]
    named = (group if group in swapped else key for group, key in zip(groups, unequal, strict=True))
    return list(dict.fromkeys(named))


def said(trial: TrialFindings, factor: str) -> str:
    """Tell what a trial has for a factor, as people typed it where they did."""
    typed = params(trial.state.overrides)
    value = typed.get(factor, trial.recipe.get(factor, trial.recipe.get(f"{factor}.name", _UNSAID)))
    if factor == "buckets" and factor not in typed:
        return _UNSAID
    return value if isinstance(value, str) else json.dumps(value)
