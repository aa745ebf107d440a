"""The overtrained controls, as a sweep: the recipe at its own rate for far too long, and far too hot.

    overrides  ->  SweepSpec with the arms `long` and `hot`

Two ways to ruin an adapter, because they ruin it differently: long training memorises, a high rate breaks the
model. Both see a flat learning rate, so that every rung is a recipe of its own, and keep their last step.
Knows nothing about limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lorasweep import config
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.records import Recipe

QUESTION = "What does a ruined adapter show on this base?"
FEWEST_RUNGS = 3  # learning, healthy, ruined
HOT = 3.0  # times the learning rate; fewer steps in return, so that lr x steps is that of `long`


@dataclass(frozen=True, kw_only=True)
class ControlOptions:
    """How hard the controls are overtrained."""

    times: int = 10  # the recipe's exposures, times this
    rungs: int = 12  # times each control is judged
    seeds: tuple[int, ...] = (0, 1)  # each control is cooked once with each


# Keys that every control sets, so that what a person gave for them would have no effect.
_DECIDED = {
    "seed": "--seeds=2 says how many",
    "scheduler": "take it out: controls train at a constant rate",
    "train.rungs": "--rungs=12",
    "train.keep": "take it out",
    "sample.weights": "take it out: controls are judged at sample.weight",
}


def sweep_of_controls(
    overrides: Sequence[str], *, name: str, steps: int, held_out: int, options: ControlOptions
) -> config.SweepSpec:
    """Declare the controls of the recipe that the overrides make: so many optimizer steps, and images held out.

    Raises:
        ConfigError: the recipe cannot be overtrained or judged that way.
    """
    recipe = config.compose_recipe(overrides)
    _check(recipe, overrides, options, held_out=held_out)
    lr = recipe.optimizer.options["lr"]
    long = _overtrained(steps=steps * options.times, rungs=options.rungs)
    hot = [*_overtrained(steps=round(steps * options.times / HOT), rungs=options.rungs), f"optimizer.lr={lr * HOT!r}"]
    notes = {"long": f"{options.times} times the exposures", "hot": f"{HOT:g} times the learning rate"}
    arms = tuple(
        config.Arm(
            name=arm, note=notes[arm], overrides=(*overrides, *words), recipe=config.compose_recipe(overrides, words)
        )
        for arm, words in (("long", long), ("hot", hot))
    )
    return config.SweepSpec(
        name=name,
        question=QUESTION,
        metric="overcook/score",
        goal="maximize",
        worst=1.0,
        seeds=options.seeds,
        arms=arms,
        launcher=recipe.launcher,
        tracking=recipe.tracking,
    )


def _overtrained(*, steps: int, rungs: int) -> list[str]:
    return [
        "scheduler=constant",
        f"train.max_steps={max(rungs, steps)}",
        f"train.rungs={rungs}",
        "train.keep=last",
        "sample.weights=[]",
    ]


def _check(recipe: Recipe, overrides: Sequence[str], options: ControlOptions, *, held_out: int) -> None:
    problems = []
    for text in overrides:
        key = text.lstrip("+~").partition("=")[0]
        if hint := _DECIDED.get(key if key in _DECIDED else key.split(".")[0]):
            problems.append(Problem(text, "is decided by the controls themselves", hint))
    if options.rungs < FEWEST_RUNGS:
        message = f"must be >= {FEWEST_RUNGS}, to find a healthy and a ruined checkpoint, got {options.rungs}"
        problems.append(Problem("--rungs", message, "e.g. --rungs 12"))
    if options.times < 2:
        message = f"must be >= 2: nothing is ruined by the recipe as it is, got {options.times}"
        problems.append(Problem("--times", message, "e.g. --times 10"))
    if not held_out:
        message = "must hold an image out: without, nobody knows where learning ends"
        hint = "dataset.holdout=0.2 of five images or more, or dataset.holdout_path=some/folder"
        problems.append(Problem("dataset.holdout", message, hint))
    if not isinstance(recipe.optimizer.options.get("lr"), float):
        problems.append(Problem("optimizer", "must have a learning rate to overheat", "optimizer=adamw"))
    if "generalisation" not in recipe.metrics:
        problems.append(Problem("metrics", "must have generalisation", "it says where learning ends"))
    if problems:
        raise ConfigError(problems, subject="the calibration")
