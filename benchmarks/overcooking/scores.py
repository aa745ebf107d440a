"""O asked again of measured metrics: by the limits as shipped, blind to the reader, or by limits fitted to the truth.

    rescored(metrics, limits)                           the product's own scores, as they are today
    fit(values of checkpoints, overcooked or not)  ->   limits  ->  a `calibration` for `lorasweep.trial.judge`

The score stays the product's noisy-OR of `symptoms.SYMPTOMS`; only where each symptom begins to count is
fitted, by maximum likelihood of the labels, with every width a fifth of its limit. A symptom starts at what
nearly all healthy checkpoints stay below, and is held there by a weak prior, so that few runs move it little;
one that healthy checkpoints show as much as overcooked ones ends far out, where it is silent. One that too
few checkpoints show keeps its definite limit, as in the product, or has none. Imports no torch.

Letters: N checkpoints, M symptoms; NaN is a missing measurement and counts as none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from scipy.optimize import minimize

from lorasweep.plan.calibration import SHIPPED, Calibration, read
from lorasweep.plan.symptoms import SYMPTOMS, Limit
from lorasweep.trial.judge import score

CALIBRATED_ON = "zkw"  # the identity that the controls of the shipped calibration were trained on
READER_FAMILIES = ("identity", "prompt_control")  # answered by the reader, by which the truth is read as well
IN_ITS_PLACE = "_base"  # ends the names of what the base answered in the reader's place

SHARPNESS: Final = 5.0  # limit / width; from 4 on, harmless values stay near 0
HEALTHY: Final = 0.9  # share of healthy checkpoints that stay below where a limit starts
PRIOR: Final = 0.02  # per checkpoint, on the log of a limit over its start
FEWEST: Final = 3  # checkpoints of either label without which a symptom gets no limit
DEFINITE_M: Final = np.array([symptom.definite or np.inf for symptom in SYMPTOMS])
SEVERITY_M: Final = np.array([symptom.severity for symptom in SYMPTOMS])
LETTERS_M: Final = np.array([symptom.letter for symptom in SYMPTOMS])  # of the question that a symptom answers


@lru_cache
def shipped(base: str) -> Calibration:
    """Read the calibration of an embedded base as it comes with lorasweep."""
    return read(SHIPPED / f"{base}.json")


def rescored(metrics: Mapping[str, float], limits: Calibration) -> dict[str, float]:
    """Replace the scores that were given during training by today's with these limits."""
    measured = {key: value for key, value in metrics.items() if family(key) != "overcook"}
    return measured | score.summarise(measured, limits).values


def family(key: str) -> str:
    """`burn` of `burn/score`."""
    return key.partition("/")[0]


def blind(metrics: Mapping[str, float]) -> dict[str, float]:
    """Hide the reader's answers: what the base answered in its place (`.._base`) takes their names."""
    found = {key: value for key, value in metrics.items() if family(key) not in READER_FAMILIES}
    by_base = {key: value for key, value in metrics.items() if key not in found and key.endswith(IN_ITS_PLACE)}
    return found | {key.removesuffix(IN_ITS_PLACE): value for key, value in by_base.items()}


def noisy_or(values_NM: np.ndarray, limit_M: np.ndarray) -> np.ndarray:
    """O of all checkpoints at once by the product's noisy-OR, as `score.summarise` has it; (N,), in [0, 1).

    Limits in the order of `SYMPTOMS`; infinite where a symptom could not be placed.
    """
    with np.errstate(invalid="ignore"):  # a symptom without a limit divides by infinity
        scaled_NM = np.clip(SHARPNESS * (values_NM / limit_M - 1.0), -60.0, 60.0)
    at_zero = 1.0 / (1.0 + np.exp(SHARPNESS))
    grade_NM = (1.0 / (1.0 + np.exp(-scaled_NM)) - at_zero) / (1.0 - at_zero)
    known_NM = np.isfinite(values_NM) & np.isfinite(limit_M)[None]
    sick_NM = np.where(known_NM, SEVERITY_M * grade_NM, 0.0)
    worst_LN = np.stack([sick_NM[:, LETTERS_M == letter].max(axis=1) for letter in dict.fromkeys(LETTERS_M)])
    return 1.0 - (1.0 - worst_LN).prod(axis=0)


def calibration(limit_M: np.ndarray) -> Calibration:
    """Give what `lorasweep.trial.judge` judges by."""
    found = {s.name: float(limit) for s, limit in zip(SYMPTOMS, limit_M, strict=True) if np.isfinite(limit)}
    limits = {name: Limit(limit=limit, width=limit / SHARPNESS) for name, limit in found.items()}
    return Calibration(name="dollhouse", holds_for={}, limits=limits)


def symptom_values(metrics: Sequence[Mapping[str, float]]) -> np.ndarray:
    """What each symptom reads in each checkpoint, so that more is worse; (N, M), NaN where missing."""
    found = [[math.nan if (value := symptom.value(row)) is None else value for symptom in SYMPTOMS] for row in metrics]
    return np.array(found).reshape(len(metrics), len(SYMPTOMS))


def fit(values_NM: np.ndarray, overcooked_N: np.ndarray) -> np.ndarray:
    """Place the limits by `symptom_values` and the truth; (M,)."""
    overcooked_N = overcooked_N.astype(bool)
    start_M = np.array([_start(values_NM[:, place], overcooked_N) for place in range(values_NM.shape[1])])
    free_M = np.isfinite(start_M)
    start_M = np.where(free_M, start_M, DEFINITE_M)
    if not free_M.any():
        return start_M

    def shifted(shift_F: np.ndarray) -> np.ndarray:
        limit_M = start_M.copy()
        limit_M[free_M] *= np.exp(shift_F)
        return limit_M

    def loss(shift_F: np.ndarray) -> float:
        score_N = np.clip(noisy_or(values_NM, shifted(shift_F)), 1e-6, 1 - 1e-6)
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
