"""The product's score O, asked again from stored metrics: whole, without the reader, without a symptom.

Takes checkpoints' metrics by key and hides some from `lorasweep.metrics.score`. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache

from lorasweep.metrics import calibration, score

READER_FAMILIES = ("identity", "prompt_control")
"""Families whose numbers come from the dollhouse's reader, by which the ground truth is read as well."""
FORWARD_FAMILIES = ("generalisation", "prior_drift", "trigger_selectivity", "useful_weight", "norms")
FORWARD_KEYS = ("memorisation/magnitude_ratio",)
"""What needs no picture."""


@lru_cache
def shipped() -> calibration.Calibration:
    """The dollhouse's calibration as it comes with lorasweep."""
    return calibration.read(calibration.NEAREST)


def overcook(metrics: Mapping[str, float], *, hidden: Collection[str] = ()) -> float:
    """O from what is left when the metrics named in `hidden` are not seen; NaN when nothing is left."""
    seen = {k: value for k, value in metrics.items() if k not in hidden and not k.startswith("overcook/")}
    return score.summarise(seen, shipped()).values.get(score.SCORE, float("nan"))


def family(key: str) -> str:
    """`burn` of `burn/score`."""
    return key.partition("/")[0]


def needs_pictures(keys: Collection[str]) -> set[str]:
    """Those of the keys that cannot be had from forward passes alone."""
    return {key for key in keys if family(key) not in FORWARD_FAMILIES and key not in FORWARD_KEYS}


def read_by_reader(keys: Collection[str]) -> set[str]:
    """Those of the keys that the reader answered."""
    return {key for key in keys if family(key) in READER_FAMILIES}
