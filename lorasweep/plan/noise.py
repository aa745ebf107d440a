"""What a recipe's loss and its base's noise make of each other: pairs that cannot be, or that surprise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lorasweep.core.errors import Problem
from lorasweep.core.records import NoiseSchedule, Recipe


def problems(recipe: Recipe, noised: NoiseSchedule) -> Iterator[Problem]:
    """Find a loss weight that is no number on this noise."""
    if recipe.train.min_snr_gamma is None or not noised.zero_terminal_snr:
        return
    if noised.prediction_type == "epsilon":
        yield Problem(
            "train.min_snr_gamma",
            "weighs the loss by min(SNR, gamma) / SNR, which is 0 / 0 at the last timestep of this base: it "
            f"has zero terminal SNR and predicts epsilon, got {recipe.train.min_snr_gamma:g}",
            "override: train.min_snr_gamma=null, or base.prediction_type=v_prediction if it predicts v",
        )


def warnings(recipe: Recipe, noised: NoiseSchedule) -> Iterator[str]:
    """Find what a person would want to know about what the base predicts."""
    chosen = recipe.base.prediction_type
    if noised.said is not None and chosen not in (None, noised.said):
        yield f"base.prediction_type={chosen}, though the base's own files say {noised.said}"
    elif noised.marked and chosen is None and recipe.base.path:
        yield (
            f"{Path(recipe.base.path).name} is marked v_pred: it is trained, judged and drawn as predicting "
            "v (base.prediction_type=epsilon if that is wrong)"
        )
    if not noised.zero_terminal_snr:
        return
    if noised.prediction_type == "epsilon":
        yield (
            "the base has zero terminal SNR and predicts epsilon: at the last timestep nothing can be "
            "learned from that, and drawing begins before it; such bases as a rule predict v "
            "(base.prediction_type=v_prediction)"
        )
    elif recipe.train.min_snr_gamma is not None:
        yield (
            f"train.min_snr_gamma={recipe.train.min_snr_gamma:g} gives the last timestep of a base with zero "
            "terminal SNR the weight 0: what is drawn from pure noise is not trained"
        )
