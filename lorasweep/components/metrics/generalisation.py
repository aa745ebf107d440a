"""G: has it learned the concept or the pictures? Held-out against training loss on fixed noise.

With l_X,t the mean squared error on images X at timestep t, divided by the base's on the same rows,

    gap_t = log l_held_out,t - log l_train,t        gap = mean over t

A gap that grows while the held-out loss no longer falls is fitting of pictures. Each timestep's gap is
reported as `gap_t875`, say, and the mean of the highest-noise buckets (t >= 0.8 of the schedule), where poses
and backgrounds are decided, as `gap_high_noise`. When the text encoder is trained, names ending in `_unet`
and `_text_encoder` ask each part alone, on one noise per image: a text encoder that was trained too long
gives itself away there first.

Source: fixed-noise validation loss as in spacepxl/demystifying-sd-finetuning; the high-noise split follows
T-LoRA (arXiv 2507.05964). Departure: both sets are asked the same way and divided by the base's answer, so
that the gap is zero before training.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lorasweep.components.metrics._offers import OtherWeight, by_suffix
from lorasweep.core.judging import NUM_TIMESTEPS, PARTS, Rows, Symptom, probe_timesteps
from lorasweep.core.protocols import JudgeContext
from lorasweep.core.records import Measurement, Plan, Recipe

if TYPE_CHECKING:
    import torch


NEEDS_PICTURES = False
SYMPTOMS = (
    Symptom(
        name="rise", letter="G", rank=11, metric="generalisation/rise", says="the held-out loss is past its lowest"
    ),
    Symptom(
        name="gap",
        letter="G",
        rank=12,
        metric="generalisation/gap",
        says="it fits the pictures rather than the subject",
    ),
)
HIGH_NOISE = 0.8  # share of the schedule above which a timestep counts as high noise
NAME = "generalisation"
NONE_HELD_OUT = "there are no held-out images (dataset.holdout)"
NONE_TRAINED = "there are no training images"
PROBES: tuple[Literal["train", "held_out"], ...] = ("train", "held_out")


@dataclass(frozen=True, kw_only=True)
class Generalisation:
    """See the module; `weights` are asked besides the judged weight."""

    weights: tuple[OtherWeight, ...]

    def measure(self, context: JudgeContext) -> Measurement:
        """Measure at the judged weight (plain names) and at the others (names ending in `_w1`, say)."""
        found = Measurement()
        for suffix, weight in by_suffix(context.weight, self.weights).items():
            self._at(context, weight, suffix, found)
        for part in PARTS if context.trains_text else ():
            for name in PROBES:
                if name in context.probe_sets:
                    rows = context.losses(name, context.weight, part=part, first_noise=True)
                    ratio = log_ratio_by_timestep(rows).mean().exp()
                    found.values[f"{NAME}/{name}_{part}"] = float(ratio)
        if f"{NAME}/held_out" in found.values:
            found.values[f"{NAME}/rise"] = rise(
                found.values[f"{NAME}/held_out"], [rung.get(f"{NAME}/held_out") for rung in context.history]
            )
        else:
            found.missing[f"{NAME}/rise"] = found.missing[f"{NAME}/held_out"]
        return found

    def _at(self, context: JudgeContext, weight: float, suffix: str, found: Measurement) -> None:
        ratios = {}
        for name in PROBES:
            if name not in context.probe_sets:
                missing = NONE_HELD_OUT if name == "held_out" else NONE_TRAINED
                found.missing[f"{NAME}/{name}{suffix}"] = missing
                continue
            rows = context.losses(name, weight)
            ratios[name] = (rows, log_ratio_by_timestep(rows))
            found.values[f"{NAME}/{name}{suffix}"] = float(ratios[name][1].mean().exp())
        if len(ratios) < 2:
            found.missing[f"{NAME}/gap{suffix}"] = "needs training and held-out images (dataset.holdout)"
            return
        (train, log_train_T), (held_out, log_held_out_T) = ratios["train"], ratios["held_out"]
        gap_T = log_held_out_T - log_train_T
        found.values[f"{NAME}/gap{suffix}"] = float(gap_T.mean())
        timesteps_T = train.timestep.unique()  # ascending, as the gaps are
        if not suffix:
            gaps = zip(timesteps_T.tolist(), gap_T.tolist(), strict=True)
            found.values.update({f"{NAME}/gap_t{t}": gap for t, gap in gaps})
        high = timesteps_T >= HIGH_NOISE * NUM_TIMESTEPS
        if high.any():
            found.values[f"{NAME}/gap_high_noise{suffix}"] = float(gap_T[high].mean())
        error = standard_error(train, held_out)
        if error is None:
            found.missing[f"{NAME}/gap_se{suffix}"] = "needs two images on either side"
        else:
            found.values[f"{NAME}/gap_se{suffix}"] = error


build = Generalisation


def names(recipe: Recipe, plan: Plan) -> dict[str, str]:
    """Return the numbers that `measure` gives for a recipe, and why it cannot; empty when it can."""
    counts = {"train": len(plan.train_images()), "held_out": len(plan.held_out_images())}
    why = "" if counts["held_out"] else NONE_HELD_OUT
    untrained = "" if counts["train"] else NONE_TRAINED
    few = "" if min(counts.values()) > 1 else "needs two images on either side"
    found = {f"{NAME}/rise": why}
    for suffix in by_suffix(recipe.sample.weight, recipe.metrics[NAME]["weights"]):
        found |= {f"{NAME}/train{suffix}": untrained, f"{NAME}/gap_se{suffix}": why or few}
        found |= {f"{NAME}/{name}{suffix}": why for name in ("held_out", "gap", "gap_high_noise")}
    found |= {f"{NAME}/gap_t{t}": why for t in probe_timesteps()}
    for part in PARTS if recipe.adapter.options.get("text_encoder") else ():
        found |= {f"{NAME}/train_{part}": untrained, f"{NAME}/held_out_{part}": why}
    return found


def log_ratio_by_timestep(rows: Rows) -> torch.Tensor:
    """Return log of mean adapted over mean base loss for each timestep, ascending; (T,)."""
    import torch

    ratios = []
    for timestep in rows.timestep.unique():
        here = rows.timestep == timestep
        ratios.append((rows.adapted[here].mean() / rows.base[here].mean()).log())
    return torch.stack(ratios)


def standard_error(train: Rows, held_out: Rows) -> float | None:
    """Return standard error of the gap over images: rows of one image share its luck, so images are the sample."""
    variance = 0.0
    for rows in (train, held_out):
        images = rows.image.unique()
        if len(images) < 2:
            return None
        log_ratio_N = (rows.adapted / rows.base).log()
        per_image = [float(log_ratio_N[rows.image == image].mean()) for image in images]
        variance += statistics.variance(per_image) / len(per_image)
    return variance**0.5


def rise(held_out: float, earlier: Sequence[float | None]) -> float:
    """Log of the held-out loss over its lowest so far, the base (ratio 1) included; >= 0."""
    lowest = min(1.0, held_out, *(value for value in earlier if value is not None))
    return math.log(held_out / lowest)
