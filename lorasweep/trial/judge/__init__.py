"""Overcooking, measured: one file per question, all asked of one `JudgeContext`, summed up by `score`.

    JudgeContext  ->  judge  ->  Measurement (numbers, and a reason for each number that could not be had)

docs/metrics.md lists the numbers by metric, with formulas, their sources and when they are wrong. Endings of
names: `_w1` at another weight, `_unet` and `_text_encoder` by one part alone, `_base`, `_clip` by a second
encoder, `_se` a standard error.

A metric is a module of `components/metrics/` and a `conf/metrics/<name>.yaml`; there is no list of them to edit.
Importing this package imports no torch. Judging draws from no generator of the training and changes no
weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lorasweep.core import registry
from lorasweep.core.records import Measurement

if TYPE_CHECKING:
    from lorasweep.plan.calibration import Calibration
    from lorasweep.trial.judge.context import JudgeContext

__all__ = ["judge"]


def judge(
    context: JudgeContext, metrics: Mapping[str, Mapping[str, Any]], calibration: Calibration | None = None
) -> Measurement:
    """Ask every metric, by name with its knobs, then score the answers; without a calibration, by the dollhouse's.

    Returns:
        Finite numbers only, `overcook/score` and `overcook/utility` among them; what could not be measured is
        in `missing` with its reason.
    """
    from lorasweep.plan import calibration as calibrations
    from lorasweep.trial.judge import score

    found = Measurement()
    broken = set()
    for name, knobs in metrics.items():
        module = registry.load("metrics", name)
        if module.NEEDS_PICTURES and not context.samples:
            found.missing[name] = f"needs pictures, and none were drawn at step {context.step}"
            continue
        answer = module.build(**knobs).measure(context)
        found.missing.update(answer.missing)
        for key, value in answer.values.items():
            if math.isfinite(value):
                found.values[key] = float(value)
            else:
                broken.add(key)
                found.missing[key] = f"was {value} at step {context.step}"
    limits = calibration or calibrations.read(calibrations.NEAREST)
    summary = score.summarise(found.values, limits, missing=found.missing, broken=broken, kind=context.fidelity)
    return Measurement(values=found.values | summary.values, missing=found.missing | summary.missing)
