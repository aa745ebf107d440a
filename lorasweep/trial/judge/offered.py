"""Which numbers judging a recipe can give, known before anything is trained, and why it cannot give others.

    Recipe + Plan  ->  {"identity/score": "", "generalisation/gap": "there are no held-out images ..."}

Every metric's module says so of its own numbers in `names(recipe, plan)`; what is scored from them follows
here, as it does in `score` and `summary`. A number that is offered may still be missing in the end, because
nothing was learned, say. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lorasweep.core import registry
from lorasweep.core.records import Plan, Recipe
from lorasweep.plan.calibration import Calibration
from lorasweep.plan.symptoms import SYMPTOMS
from lorasweep.trial.judge import replicates, score, summary
from lorasweep.trial.judge.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What judging can give."""

    at_rungs: Mapping[str, str]  # why not, by name; empty for a number that can be had, at every rung and in the end
    in_the_end: Mapping[str, str]  # likewise, of the verdict's numbers, which no rung knows


def offer(recipe: Recipe, plan: Plan, calibration: Calibration) -> Offer:
    """Ask every metric of a recipe what it can give."""
    found: dict[str, str] = {}
    for name in recipe.metrics:
        found |= registry.load("metrics", name).names(recipe, plan)
    found |= _scored(found, calibration)
    found |= {f"{name}_se": found[name] for name in replicates.WITH_ERRORS if name in found}
    told = summary.numbers(Verdict(), [], kept=plan.steps, best=None)
    ended = dict.fromkeys(told.values | told.missing, found[score.SCORE])
    if len({recipe.sample.weight, *recipe.sample.weights}) < 2:
        ended["overcook/best_weight"] = "the ladder has one weight only (sample.weights)"
    return Offer(at_rungs=found, in_the_end=ended)


def better(name: str) -> str | None:
    """Tell which way a number is surely better, `maximize` or `minimize`; None where that depends."""
    known = {symptom.metric: "maximize" if symptom.inverted else "minimize" for symptom in SYMPTOMS}
    known |= {f"overcook/{symptom.name}": "minimize" for symptom in SYMPTOMS}
    known |= {score.SCORE: "minimize", score.UTILITY: "maximize", score.IDENTITY: "maximize"}
    known |= {f"{score.SCORE}_last": "minimize", f"{score.UTILITY}_last": "maximize"}
    known |= {score.HELD_OUT: "minimize", "overcook/safe_window_exposures": "maximize"}
    return known.get(name)


def _scored(found: Mapping[str, str], calibration: Calibration) -> dict[str, str]:
    """Return what `score.summarise` makes of these."""
    grades = {}
    for symptom in SYMPTOMS:
        family = symptom.metric.partition("/")[0]
        why = found.get(symptom.metric, f"metrics has no {family}")
        if not why and symptom.name not in calibration.limits:
            why = calibration.why_unplaced(symptom.name)
        grades[f"overcook/{symptom.name}"] = why
    families = ", ".join(dict.fromkeys(symptom.metric.partition("/")[0] for symptom in SYMPTOMS))
    none = "" if "" in grades.values() else f"nothing that it is made of is measured ({families})"
    learned = [found.get(name) for name in (score.IDENTITY, score.HELD_OUT)]
    unlearned = "" if "" in learned else f"neither {score.IDENTITY} nor {score.HELD_OUT} is measured"
    return {**grades, score.SCORE: none, score.FIDELITY: none or unlearned, score.UTILITY: none or unlearned}
