"""kohya's learning-rate schedulers under our names: the same word means four things in four trainers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorasweep.config.kohya.draft import Draft

_PLAIN = {
    "constant": "constant",
    "constant_with_warmup": "constant",
    "linear": "linear",
    "cosine": "cosine",
    "cosine_with_restarts": "cosine_with_restarts",
}
# Classes that people name in lr_scheduler_type, without the path to them.
_WAVES = ("CosineAnnealingWarmupRestarts", "CosineAnnealingWarmRestarts")
_READ_WITH = {
    "lr_scheduler_power": "polynomial",
    "lr_scheduler_min_lr_ratio": "cosine_with_min_lr",
    "lr_decay_steps": "warmup_stable_decay",
    "lr_scheduler_timescale": "inverse_sqrt",
}
_REX = ("Rex", "RexAnnealingWarmRestarts", "RexLR")


def translate_schedule(draft: Draft, *, steps: int | None, is_scheduled: bool) -> None:
    """Decide the scheduler.

    Args:
        draft: gets the keys.
        steps: of the whole training, when the files tell; cycles are counted by them.
        is_scheduled: whether sd-scripts lets a schedule move the rate of the optimizer that was asked for.
    """
    name, custom = draft.take("lr_scheduler").strip().lower(), draft.take("lr_scheduler_type")
    arguments = draft.arguments("lr_scheduler_args")
    if not is_scheduled:
        draft.put("scheduler", "constant", "optimizer_type")
        _warmup(draft, scheduled=False)
        for option in ("lr_scheduler", "lr_scheduler_type"):
            draft.ignore(option, "sd-scripts gives this optimizer no schedule either")
    elif custom:
        _custom(draft, custom, arguments, steps)
    elif name in _PLAIN:
        draft.put("scheduler", _PLAIN[name], "lr_scheduler")
        _warmup(draft, scheduled=name != "constant")
        if name == "cosine_with_restarts":
            cycles = draft.take("lr_scheduler_num_cycles")
            draft.put("scheduler.num_cycles", cycles, "lr_scheduler_num_cycles")
    elif name == "cosine_with_min_lr":
        _floored_cosine(draft)
    elif name == "polynomial":
        draft.put("scheduler", "linear", "lr_scheduler")
        _warmup(draft, scheduled=True)
        draft.differ("lr_scheduler", name, "with power 1 it is a line; ours ends at 0 instead of 1e-7")
        if (power := draft.take("lr_scheduler_power")) != 1:
            draft.leave("lr_scheduler_power", power, "polynomial curves are not there; a line stands in for it")
    else:
        _stand_in(draft, "lr_scheduler", name)
    draft.ignore("lr_scheduler_num_cycles", "this schedule has no cycles")
    for option, only in _READ_WITH.items():
        if custom or name != only:
            draft.ignore(option, f"only read with {only}")
    for argument, value in arguments.items():
        draft.leave(f"lr_scheduler_args.{argument}", value, "this schedule has no such knob")


def _warmup(draft: Draft, *, scheduled: bool) -> None:
    """A whole number is steps, a fraction below 1 a share; `constant` and schedule-free take none."""
    # The first is Easy Training Scripts' own.
    option = "warmup_ratio" if draft.given("warmup_ratio") else "lr_warmup_steps"
    asked = draft.take(option) or 0
    value: float | int = int(asked) if asked >= 1 or asked == 0 else asked
    if value and not scheduled:
        draft.leave(option, asked, "sd-scripts does not warm up here either; scheduler.warmup would")
        value = 0
    elif isinstance(draft.options.get(option), float) and asked >= 1:
        reason = f"is read as {value} steps; sd-scripts takes a number with a point for a share"
        draft.differ(option, asked, reason)
    draft.put("scheduler.warmup", value, option)


def _floored_cosine(draft: Draft) -> None:
    """One annealed wave down to a floor: min_lr is absolute with us, a ratio of the peak there."""
    ratio = draft.take("lr_scheduler_min_lr_ratio") or 0.0
    if (cycles := draft.take("lr_scheduler_num_cycles")) != 1:
        draft.leave("lr_scheduler_num_cycles", cycles, "one fall, without waves")
    peak = draft.lines.get("optimizer.lr")
    if ratio and not peak:
        draft.leave("lr_scheduler_min_lr_ratio", ratio, "is of a peak that is not taken over: 0 stands in")
    draft.put("scheduler", "annealed_cosine_warmup_restarts", "lr_scheduler")
    draft.put("scheduler.num_cycles", 1, "lr_scheduler")
    draft.put("scheduler.gamma", 1.0, "lr_scheduler")
    draft.put("scheduler.min_lr", ratio * peak.value if peak else 0.0, "lr_scheduler_min_lr_ratio")
    _warmup(draft, scheduled=True)
    draft.differ("lr_scheduler", "cosine_with_min_lr", "ours warms up from the floor, not from 0")


def _custom(draft: Draft, path: str, arguments: dict[str, Any], steps: int | None) -> None:
    # Torch has a class of the same name, without warm-up and gamma.
    kind = "" if path.startswith("torch.") or "." not in path else path.rsplit(".", 1)[-1]
    draft.ignore("lr_scheduler", "lr_scheduler_type takes its place")
    if kind in _WAVES or kind in _REX:
        draft.ignore("lr_warmup_steps", "a class in lr_scheduler_type warms up by its own arguments")
    if kind in _WAVES:
        draft.put("scheduler", "annealed_cosine_warmup_restarts", "lr_scheduler_type")
        _wave_knobs(draft, arguments)
        _cycles(draft, arguments, steps)
    elif kind in _REX:
        draft.put("scheduler", "rex", "lr_scheduler_type")
        _wave_warmup(draft, arguments)
        reason = "ours falls once over the whole training, with bend 0.9, without cycles, gamma and floor"
        draft.differ("lr_scheduler_type", path, reason)
    else:
        _stand_in(draft, "lr_scheduler_type", path)


def _wave_knobs(draft: Draft, arguments: dict[str, Any]) -> None:
    """Both forms that are around: one writes cycle_mult, the other cycle_multiplier."""
    found: Mapping[str, tuple[tuple[str, ...], float]] = {
        "cycle_mult": (("cycle_mult", "cycle_multiplier"), 1.0),
        "gamma": (("gamma",), 0.9),
        "min_lr": (("min_lr",), 1e-6),
    }
    for knob, (names, default) in found.items():
        values = [draft.argument(arguments, "lr_scheduler_args", name, float) for name in names if name in arguments]
        value = values[0] if values and values[0] is not None else default
        draft.put(f"scheduler.{knob}", value, f"lr_scheduler_args.{names[0]}", given=bool(values))
    _wave_warmup(draft, arguments)


def _wave_warmup(draft: Draft, arguments: dict[str, Any]) -> None:
    """In steps of every cycle; Easy Training Scripts saves the share of the whole, spread over the cycles."""
    given = "warmup_steps" in arguments
    steps = draft.argument(arguments, "lr_scheduler_args", "warmup_steps", int, low=0)
    if draft.given("warmup_ratio") and not given:
        draft.put("scheduler.warmup", draft.take("warmup_ratio"), "warmup_ratio")
    else:
        draft.put("scheduler.warmup", steps or 0, "lr_scheduler_args.warmup_steps", given=given)


def _cycles(draft: Draft, arguments: dict[str, Any], steps: int | None) -> None:
    """Their cycles have a length in steps, ours a number: the steps of the training join the two.

    Easy Training Scripts saves the number and counts the length itself.
    """
    names = [name for name in ("first_cycle_steps", "first_cycle_max_steps") if name in arguments]
    if not names:
        draft.put("scheduler.num_cycles", draft.take("lr_scheduler_num_cycles"), "lr_scheduler_num_cycles")
        return
    option = f"lr_scheduler_args.{names[0]}"
    length = draft.argument(arguments, "lr_scheduler_args", names[0], int, low=1)
    draft.put("scheduler.num_cycles", max(1, steps // length) if steps and length else 1, option, given=True)
    if steps is None:
        reason = "the steps of this training follow from the images: give scheduler.num_cycles"
        draft.leave(option, length, reason)


def _stand_in(draft: Draft, option: str, value: str) -> None:
    draft.put("scheduler", "constant", option)
    _warmup(draft, scheduled=True)
    draft.leave(option, value, "no schedule of ours is that; a constant rate stands in for it")
