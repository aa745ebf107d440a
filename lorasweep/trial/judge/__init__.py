"""Overcooking, measured: one file per question, all asked of one `JudgeContext`, summed up by `score`.

    JudgeContext  ->  judge  ->  Measurement (numbers, and a reason for each number that could not be had)

At every rung, from forward passes:

    generalisation       gap, gap_t<t>, gap_high_noise, gap_se, held_out, train, rise
    useful_weight        best, slope
    prior_drift          plain, class, neighbour, unrelated
    trigger_selectivity  score, gain, gain_without
    memorisation         magnitude_ratio
    norms                relative, relative_max, spectral_max, stable_rank, intruders

and from pictures:

    memorisation         copy_rate, tile_max, nearness, each also _latents and _features
    diversity            relative, vendi, base_vendi
    burn                 score, saturation, contrast, clipped, grain
    identity             score; likeness ... by the reader, distance ... by the base, resemblance by others
    prompt_control       score, accuracy, base_accuracy, bleed_class or bleed_plain, bleed_unrelated

Endings: `_w1` at another weight, `_unet` and `_text_encoder` by one part alone, `_base`, `_clip` by a second
encoder, `_se` a standard error. docs/metrics.md has the formulas, their sources and when they are wrong.

A metric is a module with `build(**knobs)` and a `conf/metrics/<name>.yaml`; there is no list of them to edit.
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
    from lorasweep.core.protocols import Metric
    from lorasweep.trial.judge.calibration import Calibration
    from lorasweep.trial.judge.context import JudgeContext

__all__ = ["build", "judge"]


def build(name: str, knobs: Mapping[str, Any]) -> Metric:
    """Build the metric of one `conf/metrics/<name>.yaml`."""
    metric: Metric = registry.load("metrics", name).build(**knobs)
    return metric


def judge(
    context: JudgeContext,
    metrics: Mapping[str, Mapping[str, Any]],
    calibration: Calibration | None = None,
) -> Measurement:
    """Ask every metric, then score the answers.

    Args:
        context: what there is to look at.
        metrics: name -> knobs, as in `Recipe.metrics`.
        calibration: what the numbers mean on this base; None takes the dollhouse's.

    Returns:
        Finite numbers only, `overcook/score` and `overcook/utility` among them; what could not be measured is
        in `missing` with its reason.
    """
    from lorasweep.trial.judge import calibration as calibrations
    from lorasweep.trial.judge import score

    found = Measurement()
    broken = set()
    for name, knobs in metrics.items():
        metric = build(name, knobs)
        if metric.needs_samples and not context.samples:
            found.missing[name] = f"needs pictures, and none were drawn at step {context.step}"
            continue
        answer = metric.measure(context)
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
