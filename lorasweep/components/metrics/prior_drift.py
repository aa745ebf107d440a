"""P: what became of prompts that have nothing to do with the subject?

For pictures that the base drew for other prompts, noised on fixed noise,

    P = E ||eps_adapted - eps_base||^2 / E ||eps - eps_base||^2

per prompt tier, from near to far: "plain" (the training captions without the trigger), "class" (somebody else
of the subject's kind), "neighbour" (other subjects that the base's YAML names) and "unrelated". 0 is
untouched; 1 means that the adapter moved the prediction by as much as the base errs. Expect it to fall from
near to far; rising on "unrelated" is damage everywhere. Of the three near tiers two are there as a rule:
where the class prompts are derived from captions they are the plain ones, and the dollhouse names no
neighbours.

When the text encoder is trained, names ending in `_unet` and `_text_encoder` say what each part does alone:
the text encoder fries first.

Source: latent Fisher divergence of Infusion (arXiv 2404.14007), Monte-Carlo on the base's own pictures; the
division by the base's error, which makes it free of units and of timestep weights, is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from lorasweep.components.metrics._offers import OtherWeight, by_suffix, prior_prompts
from lorasweep.core.judging import PARTS, PRIOR_TIERS, Rows, Symptom
from lorasweep.core.protocols import JudgeContext
from lorasweep.core.records import Measurement, Plan, Recipe

NEEDS_PICTURES = False
PROBES = ("plain", "class", "neighbour", "unrelated")
SYMPTOMS = (
    Symptom(name="class_drift", letter="P", rank=8, metric="prior_drift/class", says="strangers are redrawn"),
    Symptom(
        name="neighbour_drift",
        letter="P",
        rank=9,
        metric="prior_drift/neighbour",
        says="the subject's neighbours are redrawn",
    ),
    # A prompt that leaves the person open drifts with the default person.
    Symptom(
        name="unrelated_drift",
        letter="P",
        rank=10,
        metric="prior_drift/unrelated",
        says="unrelated prompts are redrawn",
    ),
)
WHY_MISSING = {
    "plain": "there is no trigger to leave out, or the class prompts are the captions without it",
    "class": "the plan has no class prompts (dataset.prompts)",
    "neighbour": "the base names no neighbours (base.neighbour_prompts)",
    "unrelated": "the plan has no unrelated prompts (dataset.prompts)",
}


@dataclass(frozen=True, kw_only=True)
class PriorDrift:
    """See the module."""

    weights: tuple[OtherWeight, ...]

    def measure(self, context: JudgeContext) -> Measurement:
        """Measure each tier at the judged weight, and at others under names ending in `_w1`, say."""
        found = Measurement()
        for tier in PRIOR_TIERS:
            if tier not in context.probe_sets:
                found.missing[f"prior_drift/{tier}"] = WHY_MISSING[tier]
                continue
            for suffix, weight in by_suffix(context.weight, self.weights).items():
                found.values[f"prior_drift/{tier}{suffix}"] = drift(context.drift(tier, weight))
            for part in PARTS if context.trains_text else ():
                rows = context.drift(tier, context.weight, part=part)
                found.values[f"prior_drift/{tier}_{part}"] = drift(rows)
        return found


build = PriorDrift


def names(recipe: Recipe, plan: Plan) -> dict[str, str]:
    """Return the numbers that `measure` gives for a recipe, and why it cannot; empty when it can."""
    endings = list(by_suffix(recipe.sample.weight, recipe.metrics["prior_drift"]["weights"]))
    if recipe.adapter.options.get("text_encoder"):
        endings += [f"_{part}" for part in PARTS]
    asked = prior_prompts(recipe, plan, plan.train_images())
    return {
        f"prior_drift/{tier}{ending}": "" if tier in asked else WHY_MISSING[tier]
        for tier in PRIOR_TIERS
        for ending in endings
    }


def drift(rows: Rows) -> float:
    """Mean squared distance from the base over the base's mean squared error; >= 0."""
    return float(rows.adapted.mean() / rows.base.mean())
