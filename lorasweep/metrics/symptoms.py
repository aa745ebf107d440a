"""The ways of being overcooked, each a metric with a limit. Plain data and one curve; imports no torch.

The limits are provisional, set by eye on 2026-11-23 with one dollhouse subject (`zkw`, 20 images, LoRA dim
32, AdamW, batch 4, weight 0.7) on bases that were still in training. There, at step 320
(cosine: with restarts):

    lr                   class drift   gap    burn   O      what a person sees
    2e-3, cosine         0.24          0.22   0.06   0.24   the subject, strangers intact
    5e-3, constant       0.66          0.34   0.32   0.68   the subject, its marks on strangers' heads
    1e-2, constant       26            -0.08  3.8    1.00   noise

On another base the limits order checkpoints; they do not judge them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Symptom:
    """One way to be overcooked.

    Attributes:
        name: its grade is logged as `overcook/<name>`.
        metric: the number it reads.
        limit: where it has half its effect.
        width: how sharply; limit / width >= 4 keeps harmless values near 0.
        says: what a person would say, for the verdict.
        severity: the grade of a full-blown case, (0, 1]; 1 is fatal by itself.
        inverted: the metric is good at 1 and bad at 0, so 1 - value is read.
    """

    name: str
    metric: str
    limit: float
    width: float
    says: str
    severity: float = 1.0
    inverted: bool = False

    def value(self, metrics: Mapping[str, float]) -> float | None:
        """How much of the symptom there is, >= 0; None when it was not measured."""
        if self.metric not in metrics:
            return None
        return max(0.0, 1.0 - metrics[self.metric] if self.inverted else metrics[self.metric])

    def grade(self, value: float) -> float:
        """The symptom's o_i in [0, severity): exactly 0 at 0, half the severity near the limit, ever rising.

        A logistic curve, shifted and scaled so that a symptom at zero adds nothing.
        """
        at_zero = _sigmoid(-self.limit / self.width)
        return self.severity * (_sigmoid((value - self.limit) / self.width) - at_zero) / (1.0 - at_zero)


# From what anyone sees at once to what only a loss tells: the verdict names the first of those equally grave.
SYMPTOMS: tuple[Symptom, ...] = (
    Symptom(
        name="burn",
        metric="burn/score",
        limit=1.0,
        width=0.2,
        says="pictures look fried",
    ),
    Symptom(
        name="control",
        metric="prompt_control/score",
        limit=0.35,
        width=0.07,
        says="prompts are no longer obeyed",
        inverted=True,
    ),
    Symptom(
        name="bleed_class",
        metric="prompt_control/bleed_class",
        limit=0.2,
        width=0.05,
        says="strangers look like the subject",
    ),
    # Without regularisation images every recipe turns the default person into the subject, so by itself this
    # is a blemish, not a failure.
    Symptom(
        name="bleed_unrelated",
        metric="prompt_control/bleed_unrelated",
        limit=0.4,
        width=0.08,
        says="the subject appears uncalled",
        severity=0.25,
    ),
    Symptom(
        name="class_drift",
        metric="prior_drift/class",
        limit=0.7,
        width=0.14,
        says="strangers are redrawn",
    ),
    # Wider than the class's: a prompt that leaves the person open drifts with the default person.
    Symptom(
        name="unrelated_drift",
        metric="prior_drift/unrelated",
        limit=0.9,
        width=0.18,
        says="unrelated prompts are redrawn",
    ),
    Symptom(
        name="rise",
        metric="generalisation/rise",
        limit=0.08,
        width=0.02,
        says="the held-out loss is past its lowest",
    ),
    Symptom(
        name="gap",
        metric="generalisation/gap",
        limit=0.6,
        width=0.12,
        says="it fits the pictures rather than the subject",
    ),
)


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))
