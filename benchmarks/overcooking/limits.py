"""Place the product's limits from labelled checkpoints: what calibration on a world with a known truth gives.

    fit(metrics of checkpoints, overcooked or not)  ->  Limits  ->  a `Calibration` for `lorasweep.trial.judge`

The score stays the product's own noisy-OR of `symptoms.SYMPTOMS`; only where each symptom begins to count is
fitted, by maximum likelihood of the labels, with every width a fifth of its limit. A symptom starts at what
nearly all healthy checkpoints stay below, and is held there by a weak prior, so that few runs move it little;
one that healthy checkpoints show as much as overcooked ones ends far out, where it is silent. One that too
few checkpoints show keeps its definite limit, as in the product, or has none.

Pure numpy and scipy. Letters: N checkpoints, M symptoms; NaN is a missing measurement and counts as none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import minimize

from lorasweep.plan.calibration import Calibration
from lorasweep.plan.symptoms import SYMPTOMS, Limit

SHARPNESS: Final = 5.0  # limit / width; from 4 on, harmless values stay near 0
HEALTHY: Final = 0.9  # share of healthy checkpoints that stay below where a limit starts
PRIOR: Final = 0.02  # per checkpoint, on the log of a limit over its start
FEWEST: Final = 3  # checkpoints of either label without which a symptom gets no limit
DEFINITE_M: Final = np.array([symptom.definite or np.inf for symptom in SYMPTOMS])
SEVERITY_M: Final = np.array([symptom.severity for symptom in SYMPTOMS])
LETTERS_M: Final = np.array([symptom.letter for symptom in SYMPTOMS])  # of the question that a symptom answers


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Fitted limits in the order of `SYMPTOMS`; infinite where a symptom could not be placed."""

    limit_M: np.ndarray

    def score(self, values_NM: np.ndarray) -> np.ndarray:
        """O of all checkpoints at once by the product's noisy-OR, as `score.summarise` has it; (N,), in [0, 1)."""
        with np.errstate(invalid="ignore"):  # a symptom without a limit divides by infinity
            scaled_NM = np.clip(SHARPNESS * (values_NM / self.limit_M - 1.0), -60.0, 60.0)
        at_zero = 1.0 / (1.0 + np.exp(SHARPNESS))
        grade_NM = (1.0 / (1.0 + np.exp(-scaled_NM)) - at_zero) / (1.0 - at_zero)
        known_NM = np.isfinite(values_NM) & np.isfinite(self.limit_M)[None]
        sick_NM = np.where(known_NM, SEVERITY_M * grade_NM, 0.0)
        worst_LN = np.stack([sick_NM[:, LETTERS_M == letter].max(axis=1) for letter in dict.fromkeys(LETTERS_M)])
        score: np.ndarray = 1.0 - (1.0 - worst_LN).prod(axis=0)
        return score

    def calibration(self) -> Calibration:
        """Give what `lorasweep.trial.judge` judges by."""
        found = {s.name: float(limit) for s, limit in zip(SYMPTOMS, self.limit_M, strict=True) if np.isfinite(limit)}
        limits = {name: Limit(limit=limit, width=limit / SHARPNESS) for name, limit in found.items()}
        return Calibration(name="dollhouse", holds_for={}, limits=limits)


def symptom_values(metrics: Sequence[Mapping[str, float]]) -> np.ndarray:
    """What each symptom reads in each checkpoint, so that more is worse; (N, M), NaN where missing."""
    return np.array(
        [[float("nan") if (value := symptom.value(row)) is None else value for symptom in SYMPTOMS] for row in metrics]
    ).reshape(len(metrics), len(SYMPTOMS))


def fit(values_NM: np.ndarray, overcooked_N: np.ndarray) -> Limits:
    """Place the limits by `symptom_values` and the truth."""
    overcooked_N = overcooked_N.astype(bool)
    start_M = np.array([_start(values_NM[:, place], overcooked_N) for place in range(values_NM.shape[1])])
    free_M = np.isfinite(start_M)
    start_M = np.where(free_M, start_M, DEFINITE_M)
    if not free_M.any():
        return Limits(limit_M=start_M)

    def shifted(shift_F: np.ndarray) -> Limits:
        limit_M = start_M.copy()
        limit_M[free_M] *= np.exp(shift_F)
        return Limits(limit_M=limit_M)

    def loss(shift_F: np.ndarray) -> float:
        score_N = np.clip(shifted(shift_F).score(values_NM), 1e-6, 1 - 1e-6)
        likelihood = np.where(overcooked_N, np.log(score_N), np.log1p(-score_N)).mean()
        return float(-likelihood + PRIOR * (shift_F**2).sum())

    found = minimize(loss, np.zeros(free_M.sum()), bounds=[(-3.0, 3.0)] * int(free_M.sum()), method="L-BFGS-B")
    return shifted(found.x)


def _start(values_N: np.ndarray, overcooked_N: np.ndarray) -> float:
    there = np.isfinite(values_N)
    healthy, sick = values_N[there & ~overcooked_N], values_N[there & overcooked_N]
    if min(len(healthy), len(sick)) < FEWEST:
        return float("inf")
    start = float(np.quantile(healthy, HEALTHY))
    return start if start > 0 else float(np.median(sick)) or float("inf")
