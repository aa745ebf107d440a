"""What a recipe's loss and its base's noise make of each other: pairs that cannot be, or that surprise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from lorasweep.core.errors import Problem
from lorasweep.core.records import NoiseOptions, NoiseSchedule, Recipe

_OVER_SNR = {  # weights that divide by the SNR, which is 0 at the end of zero terminal SNR, and how they weigh
    "min_snr_gamma": "min(SNR, gamma) / SNR, which is 0 / 0",
    "debiased": "1 / sqrt(SNR), which is infinite",
}


_OF_VP = {  # what flow matching has no use for
    "min_snr_gamma": "there is no signal-to-noise ratio to even out: a velocity counts alike at every level",
    "debiased": "it evens out what epsilon does to the levels",
    "p2_gamma": "it is made for epsilon and v",
    "offset": (reach := "training ends in pure noise, from which drawing starts, so that dark and bright are in reach"),
    "adaptive_noise_scale": reach,
    "multires_iterations": reach,
}
_HUBER = ("huber", "smooth_l1")


def problems(recipe: Recipe, noised: NoiseSchedule) -> Iterator[Problem]:
    """Find levels and loss weights that exclude each other, or that make no sense on this noise."""
    noise = recipe.noise
    yield from _unsuited(recipe, noised)
    if noise.low >= noise.high:
        yield Problem("noise.low", f"must be below noise.high, got {noise.low:g} and {noise.high:g}")
    given = _weights(recipe)
    if len(given) > 1:
        hint = f"override: noise.{given[1]}={'false' if given[1] == 'debiased' else 'null'}"
        yield Problem(f"noise.{given[0]}", f"must stand alone, got {' and '.join(given)} as well", hint)
    if not noised.zero_terminal_snr or noised.prediction_type != "epsilon":
        return
    for key in given:
        if key in _OVER_SNR and _reaches_the_end(noise, noised.config.get("num_train_timesteps", 1000)):
            off = "false" if key == "debiased" else "null"
            yield Problem(
                f"noise.{key}",
                f"weighs the loss by {_OVER_SNR[key]} at the last timestep of this base: it has zero terminal SNR and "
                "predicts epsilon",
                f"override: noise.{key}={off}, noise.high=0.99, or base.prediction_type=v_prediction if it predicts v",
            )


def _reaches_the_end(noise: NoiseOptions, timesteps: int) -> bool:
    """Tell whether the last timestep can be drawn; with `high` at its edge, by a sigmoid or shift that rounds to 1."""
    drawn, last = noise.high * timesteps, timesteps - 1
    return drawn > last or (drawn == last and (noise.levels, noise.shift) != ("uniform", 1))


def _unsuited(recipe: Recipe, noised: NoiseSchedule) -> Iterator[Problem]:
    noise, predicts = recipe.noise, noised.prediction_type
    if predicts != "flow":
        if noise.shift == "dynamic":
            message = f"must be a number on a base that predicts {predicts}, got dynamic"
            yield Problem("noise.shift", message, "dynamic is for flow matching: override: noise.shift=1")
        if noise.adaptive_noise_scale and not noise.offset:
            message = f"is added to noise.offset, which must be above 0 then, got {noise.offset:g}"
            yield Problem("noise.adaptive_noise_scale", message, "override: noise.offset=0.03")
        return
    if noise.loss_type in _HUBER and noise.huber_schedule == "snr":
        message = "must be constant or exponential on a base that was trained with flow matching, got snr"
        yield Problem("noise.huber_schedule", message, "override: noise.huber_schedule=constant")
    for key, why in _OF_VP.items():
        if value := getattr(noise, key):
            message = f"must be left out on a base that was trained with flow matching: {why}, got {json.dumps(value)}"
            yield Problem(f"noise.{key}", message, f"override: noise.{key}={json.dumps(getattr(NoiseOptions(), key))}")


def warnings(recipe: Recipe, noised: NoiseSchedule) -> Iterator[str]:
    """Find what a person would want to know about what the base predicts."""
    chosen, noise = recipe.base.prediction_type, recipe.noise
    if noised.said is not None and chosen not in (None, noised.said):
        yield f"base.prediction_type={chosen}, though the base's own files say {noised.said}"
    elif noised.marked and chosen is None and recipe.base.path:
        yield (
            f"{Path(recipe.base.path).name} is marked v_pred: it is trained, judged and drawn as predicting "
            "v (base.prediction_type=epsilon if that is wrong)"
        )
    if noise.levels == "uniform" and (noise.mean, noise.std) != (0.0, 1.0):
        yield "noise.mean and noise.std are not used: noise.levels=uniform (noise=logit_normal)"
    for key, where, is_read in (
        ("multires_discount", "multires_iterations=0", noise.multires_iterations),
        ("huber_c", f"loss_type={noise.loss_type}", noise.loss_type in _HUBER),
        ("huber_schedule", f"loss_type={noise.loss_type}", noise.loss_type in _HUBER),
    ):
        if not is_read and getattr(noise, key) != getattr(NoiseOptions(), key):
            yield f"noise.{key} is not used: noise.{where}"
    if not noised.zero_terminal_snr:
        return
    if noised.prediction_type == "epsilon":
        yield (
            "the base has zero terminal SNR and predicts epsilon: at the last timestep nothing can be "
            "learned from that, and drawing begins before it; such bases as a rule predict v "
            "(base.prediction_type=v_prediction)"
        )
    elif noise.min_snr_gamma is not None:
        yield (
            f"noise.min_snr_gamma={noise.min_snr_gamma:g} gives the last timestep of a base with zero "
            "terminal SNR the weight 0: what is drawn from pure noise is not trained"
        )


def _weights(recipe: Recipe) -> list[str]:
    noise = recipe.noise
    given = {"min_snr_gamma": noise.min_snr_gamma, "debiased": noise.debiased or None, "p2_gamma": noise.p2_gamma}
    return [key for key, value in given.items() if value is not None]
