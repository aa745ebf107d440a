"""Another trainer's optimizer, its arguments and its learning rates.

What an optimizer takes when an argument is not given differs between the trainer's library and ours, so every
knob is written down.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from lorasweep.config.importing.draft import Draft, as_kind
from lorasweep.config.importing.table import Option
from lorasweep.plan.learning_rate import finds_step_size


@dataclass(frozen=True)
class Kind:
    """An optimizer of a trainer's."""

    name: str  # ours
    # arguments that both have, with the default of the trainer's library
    knobs: dict[str, Any] = field(default_factory=dict)
    # arguments that ours does not have, with the value that it works by
    fixed: dict[str, Any] = field(default_factory=dict)
    # what the trainer's library takes for those, where that is another value
    defaults: dict[str, Any] = field(default_factory=dict)
    note: str = ""  # how ours differs; empty when it does not
    has_own_rate: bool = False  # it stands in for one whose rate says nothing about its own


# Optimizers that find their own step size, by their classes' names: DAdaptLion, ProdigyPlusScheduleFree.
_FINDS_ITS_STEP = re.compile(r"prodigy|d[-_]?adapt|^(l?dog|dowg|cocob)$", re.IGNORECASE)


def put_optimizer(draft: Draft, asked: str, option: str, *, arguments: str) -> Kind:
    """Decide the optimizer and its knobs, but for the learning rates.

    Args:
        draft: its table's `optimizers` say which is which.
        asked: the trainer's word.
        option: which has it.
        arguments: the option whose arguments are the optimizer's.
    """
    kind = _choose(draft, asked, option)
    draft.put("optimizer", kind.name, option)
    for knob, default in kind.knobs.items():
        draft.put(f"optimizer.{knob}", _knob(draft, f"{arguments}.{knob}", default), f"{arguments}.{knob}")
    others = {f"{arguments}.{knob}": value for knob, value in kind.defaults.items()}
    for argument, value in {**others, **dict(draft.untaken(arguments))}.items():
        knob = argument.removeprefix(f"{arguments}.")
        if knob not in kind.fixed:
            matters, reason = draft.table.matters(argument) or (True, f"optimizer={kind.name} has no such knob")
            if matters:
                draft.leave(argument, reason, value)
        elif value != kind.fixed[knob]:
            draft.leave(argument, f"optimizer={kind.name} works as with {knob}={kind.fixed[knob]}", value)
    return kind


def _choose(draft: Draft, name: str, option: str) -> Kind:
    kinds = {name: kind for names, kind in draft.table.more["optimizers"].items() for name in names.split()}
    if found := kinds.get(name.lower()):
        kind = Kind(**found)
        if kind.note:
            draft.differ(option, kind.note)
        return kind
    if _FINDS_ITS_STEP.search(name):
        reason = "no optimizer of ours is that; Prodigy stands in, which finds its own step size too"
        draft.leave(option, reason)
        return Kind(**kinds["prodigy"])
    reason = "no optimizer of ours is that; AdamW stands in at its own lr: one says nothing about the other's"
    draft.leave(option, reason)
    return Kind(**{**kinds["adamw"], "has_own_rate": True})


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


def put_rates(draft: Draft, name: str, *, trains_text: bool, has_own_rate: bool) -> bool:
    """Decide two rates for two parts; the text encoder is trained unless it is switched off or its rate is 0.

    Args:
        draft: its table's `rates` name the option for both, and those for one of them, which win.
        name: our optimizer's.
        trains_text: whether the text encoder is not switched off.
        has_own_rate: the optimizer takes its own.

    Returns:
        Whether the text encoder is trained.
    """
    rate, unet, text = draft.table.more["rates"]
    option, text_option = draft.first(unet, rate), draft.first(text, rate)
    if option == unet and draft.take(unet) == 0:
        draft.leave(unet, f"the UNet is always trained: at {rate}")
        option = rate
    value, text_value = draft.take(option), draft.take(text_option)
    trains_text = trains_text and text_value != 0
    if has_own_rate:
        for given in (rate, unet, text):
            if draft.given(given) and draft.take(given) != 0:
                draft.leave(given, f"is not for optimizer={name}, which takes its own lr")
    elif value == 0:
        draft.problem(option, "must be > 0, got 0: nothing would be trained")
    else:
        draft.put("optimizer.lr", value, option)
    if not trains_text:
        draft.ignore(text, "the text encoder is not trained")
        return False
    if text_value != value and not has_own_rate:
        if finds_step_size(name) is not None:
            draft.differ(text_option, f"{name} has one step size for both: {value:g} counts")
        else:
            draft.put("optimizer.text_encoder_lr", text_value, text_option)
    draft.ignore(text, "is the same as the other rate")
    draft.ignore(rate, f"{unet} and {text} take its place")
    return True
