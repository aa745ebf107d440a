"""The product's score O, asked again from stored metrics: whole, blind to the reader, without a symptom.

Takes checkpoints' metrics by key and hides some from `lorasweep.trial.judge.score`. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache

from lorasweep.trial.judge import calibration, score

CALIBRATED_ON = "zkw"
"""The identity that the controls of the shipped calibration were cooked on: the config's own."""
READER_FAMILIES = ("identity", "prompt_control")
"""Families that the dollhouse's reader answers, by which the ground truth is read as well."""
IN_ITS_PLACE = "_base"
"""Ends the names of what the base answered in the reader's place."""
FORWARD_FAMILIES = ("generalisation", "prior_drift", "trigger_selectivity", "useful_weight", "norms")
FORWARD_KEYS = ("memorisation/magnitude_ratio",)
"""What needs no picture."""


@lru_cache
def shipped() -> calibration.Calibration:
    """The dollhouse's calibration as it comes with lorasweep."""
    return calibration.read(calibration.NEAREST)


def overcook(metrics: Mapping[str, float]) -> float:
    """O by the shipped limits; NaN when no symptom was measured."""
    return rescored(metrics, shipped()).get(score.SCORE, float("nan"))


def rescored(metrics: Mapping[str, float], limits: calibration.Calibration) -> dict[str, float]:
    """The same with today's scores by these limits in the place of those that were given while it cooked."""
    measured = {key: value for key, value in metrics.items() if family(key) != "overcook"}
    return measured | score.summarise(measured, limits).values


def family(key: str) -> str:
    """`burn` of `burn/score`."""
    return key.partition("/")[0]


def needs_pictures(keys: Collection[str]) -> set[str]:
    """Those of the keys that cannot be had from forward passes alone."""
    return {key for key in keys if family(key) not in FORWARD_FAMILIES and key not in FORWARD_KEYS}


def blind(metrics: Mapping[str, float]) -> dict[str, float]:
    """The same without the reader: what the base answered in its place (`.._base`) takes its name."""
    found = {key: value for key, value in metrics.items() if family(key) not in READER_FAMILIES}
    answered = {key: value for key, value in metrics.items() if family(key) in READER_FAMILIES}
    for key, value in answered.items():
        if key.endswith(IN_ITS_PLACE):
            found[key.removesuffix(IN_ITS_PLACE)] = value
    return found
