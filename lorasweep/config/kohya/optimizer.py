"""kohya's optimizer, its arguments and its learning rates.

What an optimizer takes when an argument is not given differs between the trainer's library and ours, so every
knob is written down.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from lorasweep.config.kohya.draft import Draft, as_kind
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


_ADAMW = {"betas": [0.9, 0.999], "weight_decay": 0.01, "eps": 1e-8}
_PAGED = "its states are paged to the CPU's memory there; what it computes is the same"
_DADAPT = _Kind(
    "dadapt_adam",
    {"betas": [0.9, 0.999], "weight_decay": 0.0, "d0": 1e-6},
    fixed={"decouple": True},
    note="ours decouples the weight decay, which matters only where weight_decay is not 0",
)
_KINDS: dict[str, _Kind] = {
    "adamw": _Kind("adamw", _ADAMW),
    "pagedadamw": _Kind("adamw", _ADAMW, note=_PAGED),
    "pagedadamw32bit": _Kind("adamw", _ADAMW, note=_PAGED),
    "adamw8bit": _Kind("adamw8bit", _ADAMW),
    "pagedadamw8bit": _Kind("adamw8bit", _ADAMW, note=_PAGED),
    "lion": _Kind("lion", {"betas": [0.9, 0.99], "weight_decay": 0.0}),
    "lion8bit": _Kind("lion", {"betas": [0.9, 0.99], "weight_decay": 0.0}, note="ours has 32-bit states"),
    "pagedlion8bit": _Kind("lion", {"betas": [0.9, 0.99], "weight_decay": 0.0}, note="ours has 32-bit states"),
    "prodigy": _Kind(
        "prodigy",
        {
            "betas": [0.9, 0.999],
            "weight_decay": 0.0,
            "d_coef": 1.0,
            "d0": 1e-6,
            "safeguard_warmup": False,
            "use_bias_correction": False,
        },
        fixed={"decouple": True, "slice_p": 1},
    ),
    "dadaptadam": _DADAPT,
    "dadaptation": _DADAPT,
    "dadaptadampreprint": _DADAPT,
    "adafactor": _Kind(
        "adafactor",
        {"weight_decay": 0.0, "clip_threshold": 1.0, "scale_parameter": True},
        fixed={"relative_step": False, "warmup_init": False},
        defaults={"relative_step": True},
    ),
    "came": _Kind("came", {"betas": [0.9, 0.999, 0.9999], "weight_decay": 0.0, "clip_threshold": 1.0}),
    "adamwschedulefree": _Kind("schedule_free_adamw", {"betas": [0.9, 0.999], "weight_decay": 0.0}),
}
# Optimizers that find their own step size, by their classes' names: DAdaptLion, ProdigyPlusScheduleFree.
_FINDS_ITS_STEP = re.compile(r"prodigy|d[-_]?adapt|^(l?dog|dowg|cocob)$", re.IGNORECASE)


@dataclass(frozen=True)
class Chosen:
    """The optimizer, as far as its schedule and its rates follow from it.

    Attributes:
        kind: ours.
        is_scheduled: whether sd-scripts lets a schedule move its learning rate.
        has_own_rate: theirs does not go by the learning rate, or by another meaning of it: ours has its own.
    """

    kind: _Kind
    is_scheduled: bool = True
    has_own_rate: bool = False


def translate_optimizer(draft: Draft) -> tuple[Chosen, bool]:
    """Decide the optimizer and its learning rates.

    Returns:
        The optimizer, and whether the text encoder is trained.
    """
    asked, option = _asked(draft)
    arguments = draft.arguments("optimizer_args")
    chosen = _choose(draft, asked, option, arguments)
    kind = chosen.kind
    draft.put("optimizer", kind.name, option)
    trains_text = _learning_rates(draft, chosen)
    for knob, default in kind.knobs.items():
        given = knob in arguments
        value = _knob(draft, arguments, knob, default)
        draft.put(f"optimizer.{knob}", value, f"optimizer_args.{knob}", given=given)
    for name, value in {**kind.defaults, **arguments}.items():
        if name not in kind.fixed:
            draft.leave(f"optimizer_args.{name}", value, f"optimizer={kind.name} has no such knob")
        elif value != kind.fixed[name]:
            reason = f"optimizer={kind.name} works as with {name}={kind.fixed[name]}"
            draft.leave(f"optimizer_args.{name}", value, reason)
    return chosen, trains_text


def _asked(draft: Draft) -> tuple[str, str]:
    """The optimizer by sd-scripts' name, and the option that says so: the old switches win, as there."""
    switches = {"use_8bit_adam": "AdamW8bit", "use_lion_optimizer": "Lion"}
    for option, name in switches.items():
        if draft.take(option):
            draft.ignore("optimizer_type", f"{option} takes its place")
            return name, option
    return draft.take("optimizer_type").strip(), "optimizer_type"


def _choose(draft: Draft, asked: str, option: str, arguments: dict[str, Any]) -> Chosen:
    # Any class by its dotted path: pytorch_optimizer.CAME
    name = asked.rsplit(".", 1)[-1]
    is_scheduled = not name.lower().endswith("schedulefree")
    kind = _KINDS.get(name.lower())
    if kind is None and _FINDS_ITS_STEP.search(name):
        reason = "no optimizer of ours is that; Prodigy stands in, which finds its own step size too"
        draft.leave(option, asked, reason)
        return Chosen(_KINDS["prodigy"], is_scheduled=is_scheduled)
    if kind is None:
        reason = "no optimizer of ours is that; AdamW stands in at its own lr: one says nothing about the other's"
        draft.leave(option, asked, reason)
        return Chosen(_KINDS["adamw"], is_scheduled=is_scheduled, has_own_rate=True)
    if kind.note:
        draft.differ(option, asked, kind.note)
    if kind.name == "adafactor" and arguments.get("relative_step", True):
        return Chosen(kind, is_scheduled=False, has_own_rate=True)
    return Chosen(kind, is_scheduled=is_scheduled)


def _knob(draft: Draft, arguments: dict[str, Any], name: str, default: Any) -> Any:
    """An argument of the kind that the library's default has: a number, a boolean, or a list of numbers."""
    if not isinstance(default, list):
        value = draft.argument(arguments, "optimizer_args", name, type(default))
        return default if value is None else value
    if name not in arguments:
        return default
    given = arguments.pop(name)
    try:
        if len(given) == len(default):
            return [as_kind(item, float) for item in given]
    except (ValueError, TypeError, OverflowError):
        pass
    draft.problem(f"optimizer_args.{name}", f"must be {len(default)} numbers, got {given!r}")
    return default


def _learning_rates(draft: Draft, chosen: Chosen) -> bool:
    """Two rates for two parts; the text encoder is trained unless it is switched off or its rate is 0."""
    shared, own, text_rate = (draft.take(option) for option in ("learning_rate", "unet_lr", "text_encoder_lr"))
    rate, option = (shared, "learning_rate") if own is None else (own, "unet_lr")
    text_option = "text_encoder_lr"
    if text_rate is None:
        text_rate, text_option = shared, "learning_rate"
    if own == 0:
        draft.leave("unet_lr", own, "the UNet is always trained: at learning_rate")
        rate, option = shared, "learning_rate"
    trains_text = not draft.take("network_train_unet_only") and text_rate != 0
    if chosen.has_own_rate:
        reason = f"is not for optimizer={chosen.kind.name}, which takes its own lr"
        for given in ("learning_rate", "unet_lr", "text_encoder_lr"):
            if draft.given(given) and draft.take(given) != 0:
                draft.leave(given, draft.take(given), reason)
    elif rate == 0:
        draft.problem(option, "must be > 0, got 0: nothing would be trained")
    else:
        draft.put("optimizer.lr", rate, option)
    if not trains_text:
        draft.ignore("text_encoder_lr", "the text encoder is not trained")
        return False
    if text_rate != rate and not chosen.has_own_rate:
        if finds_step_size(chosen.kind.name) is not None:
            reason = f"{chosen.kind.name} has one step size for both: {rate:g} counts"
            draft.differ(text_option, text_rate, reason)
        else:
            draft.put("optimizer.text_encoder_lr", text_rate, text_option)
    draft.ignore("text_encoder_lr", "is the same as the other rate")
    draft.ignore("learning_rate", "unet_lr and text_encoder_lr take its place")
    return True
