"""Prodigy: Adam that estimates its own step size, with the settings that its README advises for diffusion."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import Field

from lorasweep.components.optimizers import _knobs
from lorasweep.core.ranges import Positive
from lorasweep.core.records import Recipe

_ONE_LR = "Prodigy keeps one step size for all groups and refuses groups whose lr differ"

FINDS_STEP_SIZE = "d_coef"  # what to turn in place of the lr, which stays 1


def build(
    groups: _knobs.Groups,
    *,
    lr: Positive,
    text_encoder_lr: _knobs.TextEncoderRate,
    betas: tuple[_knobs.Beta, _knobs.Beta],
    weight_decay: _knobs.WeightDecay,
    d_coef: Annotated[float, Field(gt=0, le=100, description="0.5 to 2 is usual")],
    d0: _knobs.FirstStepSize,
    safeguard_warmup: bool,
    use_bias_correction: bool,
) -> _knobs.Optimizer:
    """Build the optimizer.

    Source: Mishchenko & Defazio, "Prodigy" (2024), algorithm 4; settings from konstmish/prodigy's README.
    """
    from prodigyopt import Prodigy

    made = _knobs.param_groups(groups, lr=lr, text_encoder_lr=text_encoder_lr)
    for group in made:
        if group["lr"] == 0:
            group["weight_decay"] = 0.0  # Prodigy decays by the lr of all groups, not by that of each
    with contextlib.redirect_stdout(io.StringIO()):  # its constructor prints, and stdout may be carrying JSON
        return Prodigy(
            made,
            lr=lr,
            betas=(betas[0], betas[1]),
            weight_decay=weight_decay,
            d_coef=d_coef,
            d0=d0,
            safeguard_warmup=safeguard_warmup,
            use_bias_correction=use_bias_correction,
        )


def problems(*, lr: float, text_encoder_lr: _knobs.TextEncoderRate) -> list[tuple[str, str, str]]:
    """Two rates, of which it has one."""
    rates = text_encoder_lr if isinstance(text_encoder_lr, Sequence) else [text_encoder_lr]
    if all(rate in (None, 0, lr) for rate in rates):
        return []
    hint = f"{_knobs.TEXT_ENCODER}_lr: null; a smaller share for the text encoder needs adamw"
    return [("text_encoder_lr", f"must be null, 0 or {lr}, got {text_encoder_lr}: {_ONE_LR}", hint)]


def warnings(recipe: Recipe) -> Iterator[str]:
    """What a person would want to know, for `plan`."""
    if "restarts" in recipe.scheduler.name and not recipe.optimizer.options["safeguard_warmup"]:
        yield "Prodigy with restarts wants optimizer.safeguard_warmup=true, by its author's advice"


def logged(optimizer: _knobs.Optimizer) -> dict[str, float]:
    """What to log beside the lr: the estimate `d`, and `d_lr`, the lr that it amounts to."""
    group = optimizer.param_groups[0]
    return {"d": group["d"], "d_lr": group["d"] * max(g["lr"] for g in optimizer.param_groups)}
