"""The symptoms of all metrics, and the curve from a symptom's number to a grade. No torch, no limits.

    metric -> how much of the symptom there is (>= 0) -> grade in [0, severity), by a `Limit` of `calibration`

What a harmless and what a ruined adapter show differs from base to base, so limits are data: see
`calibration`, and `lorasweep calibrate`, which places them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lorasweep.core import registry
from lorasweep.core.judging import Symptom


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Where a symptom begins to count.

    Attributes:
        null, burned: what harmless and ruined controls showed; without `burned` the limit is the symptom's
            definite one.
    """

    limit: float  # where it has half its effect
    width: float  # how sharply; limit / width >= 4 keeps harmless values near 0
    null: float | None = None
    burned: float | None = None

    def grade(self, value: float) -> float:
        """Grade in [0, 1): exactly 0 at 0, about a half at the limit, ever rising.

        A logistic curve, shifted and scaled so that a symptom at zero adds nothing.
        """
        at_zero = _sigmoid(-self.limit / self.width)
        return (_sigmoid((value - self.limit) / self.width) - at_zero) / (1.0 - at_zero)


def _declared() -> tuple[Symptom, ...]:
    modules = registry.modules("metrics").values()
    found: list[Symptom] = [symptom for module in modules for symptom in getattr(module, "SYMPTOMS", ())]
    return tuple(sorted(found, key=lambda symptom: symptom.rank))


# Trigger selectivity, the slope over the weight and the magnitude of captions are recorded and are no
# symptoms: the first two do not follow their truth, the third cries wolf
# (docs/decisions/2026-11-23-overcooking-proof.md).
SYMPTOMS = _declared()


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))
