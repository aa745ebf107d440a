"""The ways of being overcooked, each a metric, and the curve from its number to a grade. No torch, no limits.

    metric -> how much of the symptom there is (>= 0) -> grade in [0, severity), by a `Limit` of `calibration`

What a harmless and what a ruined adapter show differs from base to base, so limits are data: see
`metrics.calibration`, and `lorasweep calibrate`, which places them.
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
        letter: of the question that it answers: G, P, M, C, V or B; of those with the same letter only
            the gravest counts.
        metric: the number it reads.
        says: what a person would say, after "from step 700": "it copies its training images".
        severity: the grade of a full-blown case, (0, 1]; 1 is fatal by itself.
        inverted: the metric is good at 1 and bad at 0, so 1 - value is read.
        definite: how much of it is too much on any base, because its number means the same everywhere. None:
            only controls can tell.
    """

    name: str
    letter: str
    metric: str
    says: str
    severity: float = 1.0
    inverted: bool = False
    definite: float | None = None

    def value(self, metrics: Mapping[str, float]) -> float | None:
        """How much of the symptom there is, >= 0; None when it was not measured."""
        if self.metric not in metrics:
            return None
        return max(0.0, 1.0 - metrics[self.metric] if self.inverted else metrics[self.metric])


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Where a symptom begins to count.

    Attributes:
        limit: where it has half its effect.
        width: how sharply; limit / width >= 4 keeps harmless values near 0.
        null, burned: what harmless and ruined controls showed; without `burned` the limit is the symptom's
            definite one.
    """

    limit: float
    width: float
    null: float | None = None
    burned: float | None = None

    def grade(self, value: float) -> float:
        """Grade in [0, 1): exactly 0 at 0, about a half at the limit, ever rising.

        A logistic curve, shifted and scaled so that a symptom at zero adds nothing.
        """
        at_zero = _sigmoid(-self.limit / self.width)
        return (_sigmoid((value - self.limit) / self.width) - at_zero) / (1.0 - at_zero)


# From what anyone sees at once to what only a loss tells: the verdict names the first of those equally grave.
# Trigger selectivity, the slope over the weight and the magnitude of captions are recorded and are no
# symptoms: the first two do not follow their truth, the third cries wolf
# (docs/decisions/2026-11-23-overcooking-proof.md).
SYMPTOMS: tuple[Symptom, ...] = (
    # Six tenths as far from all that base and training images show as two other pictures are, squared.
    Symptom(name="burn", letter="B", metric="burn/score", says="pictures fall apart", definite=0.35),
    # 0.05 is what copies nothing, by how a copy is told.
    Symptom(
        name="memorisation",
        letter="M",
        metric="memorisation/copy_rate",
        says="it copies its training images",
        definite=0.25,
    ),
    Symptom(
        name="nearness",
        letter="M",
        metric="memorisation/nearness",
        says="its pictures drift towards its training images",
    ),
    # A quarter of the prompts that the base obeys, half of its variety, 15 % of the subject on others.
    Symptom(
        name="control",
        letter="C",
        metric="prompt_control/score",
        says="prompts are no longer obeyed",
        inverted=True,
        definite=0.25,
    ),
    Symptom(
        name="diversity",
        letter="V",
        metric="diversity/relative",
        says="every seed gives the same picture",
        inverted=True,
        definite=0.5,
    ),
    Symptom(
        name="bleed_class",
        letter="C",
        metric="prompt_control/bleed_class",
        says="strangers look like the subject",
        definite=0.15,
    ),
    # Without regularisation images every recipe turns the default person into the subject, so by themselves
    # these two are blemishes, not failures.
    Symptom(
        name="bleed_plain",
        letter="C",
        metric="prompt_control/bleed_plain",
        says="captions call the subject without its trigger",
        severity=0.25,
    ),
    Symptom(
        name="bleed_unrelated",
        letter="C",
        metric="prompt_control/bleed_unrelated",
        says="the subject appears uncalled",
        severity=0.25,
    ),
    Symptom(name="class_drift", letter="P", metric="prior_drift/class", says="strangers are redrawn"),
    Symptom(
        name="neighbour_drift",
        letter="P",
        metric="prior_drift/neighbour",
        says="the subject's neighbours are redrawn",
    ),
    # A prompt that leaves the person open drifts with the default person.
    Symptom(
        name="unrelated_drift",
        letter="P",
        metric="prior_drift/unrelated",
        says="unrelated prompts are redrawn",
    ),
    Symptom(
        name="rise",
        letter="G",
        metric="generalisation/rise",
        says="the held-out loss is past its lowest",
    ),
    Symptom(
        name="gap",
        letter="G",
        metric="generalisation/gap",
        says="it fits the pictures rather than the subject",
    ),
)


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))
