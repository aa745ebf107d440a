"""kohya's learning-rate schedulers under our names: the same word means four things in four trainers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorasweep.import_kohya.draft import Draft

_PLAIN = {
    "constant": "constant",
    "constant_with_warmup": "constant",
    "linear": "linear",
    "cosine": "cosine",
    "cosine_with_restarts": "cosine_with_restarts",
}
# Classes that people name in lr_scheduler_type, without the path to them.
_WAVES = ("CosineAnnealingWarmupRestarts", "CosineAnnealingWarmRestarts")
_REX = ("Rex", "RexAnnealingWarmRestarts", "RexLR")


def translate_schedule(draft: Draft, *, steps: int | None, optimizer: str) -> None:
    """Decide the scheduler.

    Args:
        draft: gets the keys.
        steps: of the whole training, when the files tell; cycles are counted by them.
        optimizer: ours; a schedule-free one has no schedule.
    """
    name, custom = draft.take("lr_scheduler", str), draft.take("lr_scheduler_type", str)
    arguments = draft.arguments("lr_scheduler_args")
    if optimizer == "schedule_free_adamw":
        draft.put("scheduler", "constant", "optimizer_type")
        _warmup(draft, scheduled=False)
    elif custom:
        _custom(draft, custom, arguments, steps)
    elif name in _PLAIN:
        draft.put("scheduler", _PLAIN[name], "lr_scheduler")
        _warmup(draft, scheduled=name != "constant")
        if name == "cosine_with_restarts":
            cycles = draft.take("lr_scheduler_num_cycles", int)
            draft.put("scheduler.num_cycles", cycles, "lr_scheduler_num_cycles")
    elif name == "cosine_with_min_lr":
        _floored_cosine(draft)
    elif name == "polynomial" and draft.options.get("lr_scheduler_power", 1) in (1, 1.0):
        draft.put("scheduler", "linear", "lr_scheduler")
        _warmup(draft, scheduled=True)
        draft.differ("lr_scheduler", name, "with power 1 it is a line; ours ends at 0 instead of 1e-7")
    else:
        _stand_in(draft, "lr_scheduler", name)
    draft.ignore("lr_scheduler_num_cycles", "this schedule has no cycles")
    draft.ignore("lr_scheduler_min_lr_ratio", "only read with cosine_with_min_lr")
    for argument, value in arguments.items():
        draft.leave(f"lr_scheduler_args.{argument}", value, "this schedule has no such knob")


def _warmup(draft: Draft, *, scheduled: bool) -> None:
    """A whole number is steps, a fraction below 1 a share; `constant` and schedule-free take none."""
    asked = draft.take("lr_warmup_steps", float)
    value: float | int = int(asked) if asked >= 1 or asked == 0 else asked
    if value and not scheduled:
        draft.leave(
            "lr_warmup_steps", asked, "sd-scripts does not warm up here either; scheduler.warmup would"
        )
        value = 0
    draft.put("scheduler.warmup", value, "lr_warmup_steps")


def _floored_cosine(draft: Draft) -> None:
    """One annealed wave down to a floor: min_lr is absolute with us, a ratio of the peak there."""
    ratio = draft.take("lr_scheduler_min_lr_ratio", float) or 0.0
    line = draft.lines.get("optimizer.lr")
    draft.put("scheduler", "annealed_cosine_warmup_restarts", "lr_scheduler")
    draft.put("scheduler.num_cycles", 1, "lr_scheduler")
    draft.put("scheduler.gamma", 1.0, "lr_scheduler")
    draft.put("scheduler.min_lr", ratio * line.value if line else 0.0, "lr_scheduler_min_lr_ratio")
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
        values = [arguments.pop(name) for name in names if name in arguments]
        value = float(values[0]) if values else default
        draft.put(f"scheduler.{knob}", value, f"lr_scheduler_args.{names[0]}", given=bool(values))
    _wave_warmup(draft, arguments)


def _wave_warmup(draft: Draft, arguments: dict[str, Any]) -> None:
    """In steps, of every cycle."""
    given = "warmup_steps" in arguments
    steps = int(arguments.pop("warmup_steps", 0))
    draft.put("scheduler.warmup", steps, "lr_scheduler_args.warmup_steps", given=given)


def _cycles(draft: Draft, arguments: dict[str, Any], steps: int | None) -> None:
    """Their cycles have a length in steps, ours a number: the steps of the training join the two."""
    names = [name for name in ("first_cycle_steps", "first_cycle_max_steps") if name in arguments]
    length = arguments.pop(names[0]) if names else None
    if not length:
        draft.put("scheduler.num_cycles", 1, "lr_scheduler_args")
    elif steps is None:
        draft.put("scheduler.num_cycles", 1, f"lr_scheduler_args.{names[0]}")
        reason = "the steps of this training follow from the images: give scheduler.num_cycles"
        draft.leave(f"lr_scheduler_args.{names[0]}", length, reason)
    else:
        draft.put("scheduler.num_cycles", max(1, steps // int(length)), f"lr_scheduler_args.{names[0]}")


def _stand_in(draft: Draft, option: str, value: str) -> None:
    draft.put("scheduler", "constant", option)
    _warmup(draft, scheduled=True)
    draft.leave(option, value, "no schedule of ours is that; a constant rate stands in for it")
