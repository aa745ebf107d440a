"""S: does the trigger own what was learned, or does it fire without being called?

With gain(c) = log of the base's loss over the adapted loss on training images under caption c,

    S = 1 - gain(caption without the trigger) / gain(caption with the trigger)

1: nothing happens without the trigger. 0: the adapter does to every prompt what it does to its own. Undefined
while nothing has been gained, and without a trigger.

Source: ours; a cousin, without an image encoder, of DreamBooth's prior-preservation metric (arXiv 2208.12242,
section 4.3). What the remaining caption still gives away (a rare outfit, say) counts against S.
"""

from __future__ import annotations

from dataclasses import dataclass

from lorasweep.components.metrics.generalisation import NONE_TRAINED, log_ratio_by_timestep
from lorasweep.core.judging import Rows
from lorasweep.core.protocols import JudgeContext
from lorasweep.core.ranges import Positive
from lorasweep.core.records import Measurement, Plan, Recipe

NAME = "trigger_selectivity"
NEEDS_PICTURES = False
PROBES = ("train",)
NO_TRIGGER = "the captions have no trigger (captions.trigger)"


@dataclass(frozen=True, kw_only=True)
class TriggerSelectivity:
    """See the module."""

    min_gain: Positive

    def measure(self, context: JudgeContext) -> Measurement:
        """Measure on the training probes at the judged weight."""
        if "train" not in context.probe_sets:
            return Measurement(missing={f"{NAME}/score": NONE_TRAINED})
        with_trigger = gain(context.losses("train", context.weight))
        found = Measurement(values={f"{NAME}/gain": with_trigger})
        if not context.plan.trigger:
            found.missing[f"{NAME}/score"] = NO_TRIGGER
            return found
        without = gain(context.losses("train", context.weight, trigger=False))
        found.values[f"{NAME}/gain_without"] = without
        if with_trigger < self.min_gain:
            found.missing[f"{NAME}/score"] = (
                f"nothing was learned yet to be selective about: gain {with_trigger:.4f} < {self.min_gain:g}"
            )
        else:
            found.values[f"{NAME}/score"] = 1.0 - without / with_trigger
        return found


build = TriggerSelectivity


def names(recipe: Recipe, plan: Plan) -> dict[str, str]:
    """Return the numbers that `measure` gives for a recipe, and why it cannot; empty when it can."""
    none = "" if plan.train_images() else NONE_TRAINED
    why = none or ("" if plan.trigger else NO_TRIGGER)
    return {f"{NAME}/gain": none, f"{NAME}/gain_without": why, f"{NAME}/score": why}


def gain(rows: Rows) -> float:
    """Return log base loss over adapted loss, mean over timesteps, every timestep weighing the same."""
    return -float(log_ratio_by_timestep(rows).mean())
