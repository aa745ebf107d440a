"""The product's score O, asked again from stored metrics: whole, blind to the reader, without a symptom.

Takes checkpoints' metrics by key and hides some from `lorasweep.trial.judge.score`. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from functools import lru_cache

from lorasweep.plan import calibration
from lorasweep.trial.judge import score

CALIBRATED_ON = "zkw"  # the identity that the controls of the shipped calibration were trained on
READER_FAMILIES = ("identity", "prompt_control")  # answered by the reader, by which the truth is read as well
IN_ITS_PLACE = "_base"  # ends the names of what the base answered in the reader's place
FORWARD_FAMILIES = ("generalisation", "prior_drift", "trigger_selectivity", "useful_weight", "norms")


@lru_cache
def shipped(base: str) -> calibration.Calibration:
    """Read the calibration of an embedded base as it comes with lorasweep."""
    return calibration.read(calibration.SHIPPED / f"{base}.json")


def overcook(metrics: Mapping[str, float], limits: calibration.Calibration) -> float:
    """Compute O; NaN when no symptom was measured."""
    return rescored(metrics, limits).get(score.SCORE, math.nan)


def rescored(metrics: Mapping[str, float], limits: calibration.Calibration) -> dict[str, float]:
    """Replace the scores that were given during training by today's with these limits."""
    measured = {key: value for key, value in metrics.items() if family(key) != "overcook"}
    return measured | score.summarise(measured, limits).values


def family(key: str) -> str:
    """`burn` of `burn/score`."""
    return key.partition("/")[0]


def needs_pictures(keys: Collection[str]) -> set[str]:
    """Choose the keys that cannot be had from forward passes alone."""
    return {key for key in keys if family(key) not in FORWARD_FAMILIES and key != "memorisation/magnitude_ratio"}


def blind(metrics: Mapping[str, float]) -> dict[str, float]:
    """Hide the reader's answers: what the base answered in its place (`.._base`) takes their names."""
    found = {key: value for key, value in metrics.items() if family(key) not in READER_FAMILIES}
    by_base = {key: value for key, value in metrics.items() if key not in found and key.endswith(IN_ITS_PLACE)}
    return found | {key.removesuffix(IN_ITS_PLACE): value for key, value in by_base.items()}
