"""kohya's optimizer, and its learning-rate schedulers under our names: one word means four things in four trainers."""

from __future__ import annotations

from lorasweep.config.importing.draft import Draft
from lorasweep.config.importing.parts import put_optimizer

_PLAIN = {
    "constant": "constant",
    "constant_with_warmup": "constant",
    "linear": "linear",
    "cosine": "cosine",
    "cosine_with_restarts": "cosine_with_restarts",
    "polynomial": "linear",
}
_ANNEALED = "annealed_cosine_warmup_restarts"
# Classes that people name in lr_scheduler_type, without the path to them.
_WAVES = ("CosineAnnealingWarmupRestarts", "CosineAnnealingWarmRestarts")
_REX = ("Rex", "RexAnnealingWarmRestarts", "RexLR")
_READ_WITH = {
    "lr_scheduler_power": "polynomial",
    "lr_scheduler_min_lr_ratio": "cosine_with_min_lr",
    "lr_decay_steps": "warmup_stable_decay",
    "lr_scheduler_timescale": "inverse_sqrt",
}
_ARGUMENTS = "lr_scheduler_args"
_SWITCHES = {"use_8bit_adam": "AdamW8bit", "use_lion_optimizer": "Lion"}  # old ones, which win, as there


def translate_schedule(draft: Draft, *, steps: int | None, is_scheduled: bool) -> None:
    """Decide the scheduler, whose cycles are counted by the `steps` of the whole training, when the files tell.

    `is_scheduled`: whether sd-scripts lets a schedule move the rate of the optimizer that was asked for.
    """
    name, custom = draft.take("lr_scheduler").strip().lower(), draft.take("lr_scheduler_type")
    if not is_scheduled:
        draft.put("scheduler", "constant", "optimizer_type")
        _warmup(draft, scheduled=False)
        for option in ("lr_scheduler", "lr_scheduler_type"):
            draft.ignore(option, "sd-scripts gives this optimizer no schedule either")
    elif custom:
        _custom(draft, custom, steps)
    elif name in _PLAIN:
        draft.put("scheduler", _PLAIN[name], "lr_scheduler")
        _warmup(draft, scheduled=name != "constant")
        _plain_knobs(draft, name)
    elif name == "cosine_with_min_lr":
        _floored_cosine(draft)
    else:
        _stand_in(draft, "lr_scheduler")
    draft.ignore("lr_scheduler_num_cycles", "this schedule has no cycles")
    for option, only in _READ_WITH.items():
        if custom or name != only:
            draft.ignore(option, f"only read with {only}")
    for argument, value in draft.untaken(_ARGUMENTS):
        draft.leave(argument, "this schedule has no such knob", value)


def _plain_knobs(draft: Draft, name: str) -> None:
    if name == "cosine_with_restarts":
        draft.put("scheduler.num_cycles", draft.take("lr_scheduler_num_cycles"), "lr_scheduler_num_cycles")
    if name == "polynomial":
        draft.differ("lr_scheduler", "with power 1 it is a line; ours ends at 0 instead of 1e-7")
        if draft.take("lr_scheduler_power") != 1:
            draft.leave("lr_scheduler_power", "polynomial curves are not there; a line stands in for it")


def _warmup(draft: Draft, *, scheduled: bool) -> None:
    """Read a whole number as steps, a fraction below 1 as a share; `constant` and schedule-free take none."""
    option = draft.first("warmup_ratio", "lr_warmup_steps")  # the first is Easy Training Scripts' own
    asked = draft.take(option) or 0
    value = asked if 0 < asked < 1 else int(asked)
    if value and not scheduled:
        draft.leave(option, "sd-scripts does not warm up here either; scheduler.warmup would")
        value = 0
    elif isinstance(draft.options.get(option), float) and asked >= 1:
        reason = f"is read as {value} steps; sd-scripts takes a number with a point for a share"
        draft.differ(option, reason)
    draft.put("scheduler.warmup", value, option)


def _floored_cosine(draft: Draft) -> None:
    """Translate one annealed wave down to a floor: min_lr is absolute with us, a ratio of the peak there."""
    ratio = draft.take("lr_scheduler_min_lr_ratio") or 0.0
    if draft.take("lr_scheduler_num_cycles") != 1:
        draft.leave("lr_scheduler_num_cycles", "one fall, without waves")
    peak = draft.lines.get("optimizer.lr")
    if ratio and not peak:
        draft.leave("lr_scheduler_min_lr_ratio", "is of a peak that is not taken over: 0 stands in")
    draft.put("scheduler", _ANNEALED, "lr_scheduler")
    draft.put("scheduler.num_cycles", 1, "lr_scheduler")
    draft.put("scheduler.gamma", 1.0, "lr_scheduler")
    draft.put("scheduler.min_lr", ratio * peak.value if peak else 0.0, "lr_scheduler_min_lr_ratio")
    _warmup(draft, scheduled=True)
    draft.differ("lr_scheduler", "ours warms up from the floor, not from 0")


def _custom(draft: Draft, path: str, steps: int | None) -> None:
    # Torch has a class of the same name, without warm-up and gamma.
    kind = "" if path.startswith("torch.") or "." not in path else path.rsplit(".", 1)[-1]
    draft.ignore("lr_scheduler", "lr_scheduler_type takes its place")
    if kind not in (*_WAVES, *_REX):
        _stand_in(draft, "lr_scheduler_type")
        return
    draft.ignore("lr_warmup_steps", "a class in lr_scheduler_type warms up by its own arguments")
    draft.put("scheduler", _ANNEALED if kind in _WAVES else "rex", "lr_scheduler_type")
    if kind in _WAVES:
        # Both forms are around: one writes cycle_mult, the other cycle_multiplier.
        multiplier = draft.first(f"{_ARGUMENTS}.cycle_multiplier", f"{_ARGUMENTS}.cycle_mult")
        for knob, option in (
            ("cycle_mult", multiplier),
            ("gamma", f"{_ARGUMENTS}.gamma"),
            ("min_lr", f"{_ARGUMENTS}.min_lr"),
        ):
            draft.put(f"scheduler.{knob}", draft.take(option), option)
        _cycles(draft, steps)
    else:
        reason = "ours falls once over the whole training, with bend 0.9, without cycles, gamma and floor"
        draft.differ("lr_scheduler_type", reason)
    # In steps of every cycle; Easy Training Scripts saves the share of the whole, spread over the cycles.
    option = f"{_ARGUMENTS}.warmup_steps"
    option = option if draft.given(option) or not draft.given("warmup_ratio") else "warmup_ratio"
    draft.put("scheduler.warmup", draft.take(option), option)


def _cycles(draft: Draft, steps: int | None) -> None:
    """Translate their cycles, with a length in steps, to our number: the steps of the training join the two.

    Easy Training Scripts saves the number and counts the length itself.
    """
    option = draft.first(
        f"{_ARGUMENTS}.first_cycle_steps", f"{_ARGUMENTS}.first_cycle_max_steps", "lr_scheduler_num_cycles"
    )
    asked = draft.take(option)
    if option == "lr_scheduler_num_cycles":
        draft.put("scheduler.num_cycles", asked, option)
        return
    cycles = max(1, steps // asked) if steps and asked else 1
    draft.put("scheduler.num_cycles", cycles, option)
    if steps is None:
        draft.leave(option, "the steps of this training follow from the images: give scheduler.num_cycles")
    elif steps // cycles != asked:
        draft.differ(
            option, f"there the last cycle is cut off; here the first has {steps // cycles} steps, to end whole"
        )


def _stand_in(draft: Draft, option: str) -> None:
    draft.put("scheduler", "constant", option)
    _warmup(draft, scheduled=True)
    draft.leave(option, "no schedule of ours is that; a constant rate stands in for it")


def translate_optimizer(draft: Draft) -> bool:
    """Decide the optimizer and its learning rates; returns whether sd-scripts lets a schedule move them."""
    option = next((switch for switch in _SWITCHES if draft.take(switch)), "optimizer_type")
    asked = _SWITCHES.get(option) or draft.take("optimizer_type").strip()
    if option in _SWITCHES:
        draft.ignore("optimizer_type", f"{option} takes its place")
    name = asked.rsplit(".", 1)[-1]  # any class by its dotted path: pytorch_optimizer.CAME
    _, is_relative = put_optimizer(draft, name, option, trains_text=not draft.take("network_train_unet_only"))
    return not is_relative and not name.lower().endswith("schedulefree")
