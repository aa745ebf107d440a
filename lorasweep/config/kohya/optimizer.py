"""kohya's optimizer, its arguments and its learning rates.

What an optimizer takes when an argument is not given differs between the trainer's library and ours, so every
knob is written down.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from lorasweep.config.importing.draft import Draft, as_kind
from lorasweep.config.importing.table import Option
from lorasweep.config.kohya.options import TABLE
from lorasweep.plan.learning_rate import finds_step_size


@dataclass(frozen=True)
class _Kind:
    """An optimizer of kohya's.

    Attributes:
        name: ours.
        knobs: arguments that both have, with the default of kohya's library.
        fixed: arguments that ours does not have, with the value that it works by.
        defaults: what kohya's library takes for those, where that is another value.
        note: how ours differs; empty when it does not.
    """

    name: str
    knobs: dict[str, Any]
    fixed: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    note: str = ""


_KINDS = {name: _Kind(**kind) for names, kind in TABLE.more["optimizers"].items() for name in names.split()}
# Optimizers that find their own step size, by their classes' names: DAdaptLion, ProdigyPlusScheduleFree.
_FINDS_ITS_STEP = re.compile(r"prodigy|d[-_]?adapt|^(l?dog|dowg|cocob)$", re.IGNORECASE)
_SWITCHES = {"use_8bit_adam": "AdamW8bit", "use_lion_optimizer": "Lion"}  # old ones, which win, as there
_ARGUMENTS = "optimizer_args"


def translate_optimizer(draft: Draft) -> bool:
    """Decide the optimizer and its learning rates.

    Returns:
        Whether sd-scripts lets a schedule move its learning rate.
    """
    option = next((switch for switch in _SWITCHES if draft.take(switch)), "optimizer_type")
    asked = _SWITCHES.get(option) or draft.take("optimizer_type").strip()
    if option in _SWITCHES:
        draft.ignore("optimizer_type", f"{option} takes its place")
    name = asked.rsplit(".", 1)[-1]  # any class by its dotted path: pytorch_optimizer.CAME
    kind, has_own_rate = _choose(draft, name, option)
    is_relative = kind.name == "adafactor" and draft.options.get(f"{_ARGUMENTS}.relative_step", True)
    draft.put("optimizer", kind.name, option)
    trains_text = _learning_rates(draft, kind.name, has_own_rate=has_own_rate or bool(is_relative))
    draft.put("adapter.text_encoder", trains_text, "network_train_unet_only")
    for knob, default in kind.knobs.items():
        draft.put(f"optimizer.{knob}", _knob(draft, f"{_ARGUMENTS}.{knob}", default), f"{_ARGUMENTS}.{knob}")
    others = {f"{_ARGUMENTS}.{knob}": value for knob, value in kind.defaults.items()}
    for argument, value in {**others, **dict(draft.untaken(_ARGUMENTS))}.items():
        knob = argument.partition(".")[2]
        if knob not in kind.fixed:
            draft.leave(argument, f"optimizer={kind.name} has no such knob", value)
        elif value != kind.fixed[knob]:
            draft.leave(argument, f"optimizer={kind.name} works as with {knob}={kind.fixed[knob]}", value)
    return not is_relative and not name.lower().endswith("schedulefree")


def _choose(draft: Draft, name: str, option: str) -> tuple[_Kind, bool]:
    """Our counterpart, and whether its rate is its own: theirs says nothing about it."""
    if kind := _KINDS.get(name.lower()):
        if kind.note:
            draft.differ(option, kind.note)
        return kind, False
    if _FINDS_ITS_STEP.search(name):
        reason = "no optimizer of ours is that; Prodigy stands in, which finds its own step size too"
        draft.leave(option, reason)
        return _KINDS["prodigy"], False
    reason = "no optimizer of ours is that; AdamW stands in at its own lr: one says nothing about the other's"
    draft.leave(option, reason)
    return _KINDS["adamw"], True


def _knob(draft: Draft, option: str, default: Any) -> Any:
    """An argument of the kind that the library's default has: a number, a boolean, or a list of numbers."""
    if not isinstance(default, list):
        return draft.take(option, Option(type(default), default=default))
    given = draft.take(option, Option(list, default=default))
    try:
        if len(given) == len(default):
            return [as_kind(item, float) for item in given]
    except (ValueError, TypeError, OverflowError):
        pass
    draft.problem(option, f"must be {len(default)} numbers, got {given!r}")
    return default


def _learning_rates(draft: Draft, name: str, *, has_own_rate: bool) -> bool:
    """Two rates for two parts; the text encoder is trained unless it is switched off or its rate is 0."""
    option = draft.first("unet_lr", "learning_rate")
    text_option = draft.first("text_encoder_lr", "learning_rate")
    if option == "unet_lr" and draft.take("unet_lr") == 0:
        draft.leave("unet_lr", "the UNet is always trained: at learning_rate")
        option = "learning_rate"
    rate, text_rate = draft.take(option), draft.take(text_option)
    trains_text = not draft.take("network_train_unet_only") and text_rate != 0
    if has_own_rate:
        for given in ("learning_rate", "unet_lr", "text_encoder_lr"):
            if draft.given(given) and draft.take(given) != 0:
                draft.leave(given, f"is not for optimizer={name}, which takes its own lr")
    elif rate == 0:
        draft.problem(option, "must be > 0, got 0: nothing would be trained")
    else:
        draft.put("optimizer.lr", rate, option)
    if not trains_text:
        draft.ignore("text_encoder_lr", "the text encoder is not trained")
        return False
    if text_rate != rate and not has_own_rate:
        if finds_step_size(name) is not None:
            draft.differ(text_option, f"{name} has one step size for both: {rate:g} counts")
        else:
            draft.put("optimizer.text_encoder_lr", text_rate, text_option)
    draft.ignore("text_encoder_lr", "is the same as the other rate")
    draft.ignore("learning_rate", "unet_lr and text_encoder_lr take its place")
    return True
