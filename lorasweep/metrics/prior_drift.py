"""P: what became of prompts that have nothing to do with the subject?

For pictures that the base drew for other prompts, noised on fixed noise,

    P = E ||eps_adapted - eps_base||^2 / E ||eps - eps_base||^2

per prompt tier: "class" (somebody else of the subject's kind, no trigger) and "unrelated". 0 is untouched; 1
means that the adapter moved the prediction by as much as the base errs. Rising on "unrelated" is damage
everywhere.

Source: latent Fisher divergence of Infusion (arXiv 2404.14007), Monte-Carlo on the base's own pictures; the
division by the base's error, which makes it free of units and of timestep weights, is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorasweep.metrics.probes import PRIOR_TIERS
from lorasweep.records import Measurement

if TYPE_CHECKING:
    from lorasweep.metrics.context import JudgeContext


@dataclass(frozen=True, kw_only=True)
class PriorDrift:
    """See the module."""

    weights: tuple[float, ...]
    needs_samples = False

    def measure(self, context: JudgeContext) -> Measurement:
        """Measure each tier at the weight that counts, and at others under names ending in `_w1`, say."""
        found = Measurement()
        for tier in PRIOR_TIERS:
            if tier not in context.probes.sets:
                found.missing[f"prior_drift/{tier}"] = f"the plan has no {tier} prompts (dataset.prompts)"
                continue
            for weight in dict.fromkeys((context.weight, *self.weights)):
                suffix = "" if weight == context.weight else f"_w{weight:g}"
                rows = context.drift(tier, weight)
                found.values[f"prior_drift/{tier}{suffix}"] = float(rows.adapted.mean() / rows.base.mean())
        return found


def build(*, weights: tuple[float, ...] | list[float]) -> PriorDrift:
    """Build the metric.

    Args:
        weights: LoRA weights to ask at besides the one that counts.
    """
    return PriorDrift(weights=tuple(weights))
