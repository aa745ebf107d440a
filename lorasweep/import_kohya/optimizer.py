"""kohya's optimizer, its arguments and its learning rates.

What an optimizer takes when an argument is not given differs between the trainer's library and ours, so every
knob is written down.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lorasweep.import_kohya.draft import Draft


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
    "pagedlion8bit": _Kind(
        "lion", {"betas": [0.9, 0.99], "weight_decay": 0.0}, note="ours has 32-bit states"
    ),
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
_ONE_SIZE = ("prodigy", "dadapt_adam")  # one step size for UNet and text encoder


def translate_optimizer(draft: Draft) -> tuple[str, bool]:
    """Decide the optimizer and its learning rates.

    Returns:
        Its name, and whether the text encoder is trained.
    """
    kind = _kind(draft)
    draft.put("optimizer", kind.name, "optimizer_type")
    trains_text = _learning_rates(draft, kind.name)
    arguments = draft.arguments("optimizer_args")
    for knob, default in kind.knobs.items():
        given = knob in arguments
        value = arguments.pop(knob, default)
        value = list(value) if isinstance(value, tuple) else float(value) if type(value) is int else value
        draft.put(f"optimizer.{knob}", value, f"optimizer_args.{knob}", given=given)
    for name, value in {**kind.defaults, **arguments}.items():
        if name not in kind.fixed:
            draft.leave(f"optimizer_args.{name}", value, f"optimizer={kind.name} has no such knob")
        elif value != kind.fixed[name]:
            reason = f"optimizer={kind.name} works as with {name}={kind.fixed[name]}"
            draft.leave(f"optimizer_args.{name}", value, reason)
    return kind.name, trains_text


def _kind(draft: Draft) -> _Kind:
    asked = draft.take("optimizer_type", str)
    if draft.take("use_8bit_adam", bool):
        asked = "AdamW8bit"
    elif draft.take("use_lion_optimizer", bool):
        asked = "Lion"
    # Any class by its dotted path: pytorch_optimizer.CAME
    kind = _KINDS.get((asked or "AdamW").rsplit(".", 1)[-1].lower())
    if kind is None:
        draft.leave("optimizer_type", asked, "no optimizer of ours is that; AdamW stands in, with its own lr")
        return _KINDS["adamw"]
    if kind.note:
        draft.differ("optimizer_type", asked, kind.note)
    return kind


def _learning_rates(draft: Draft, name: str) -> bool:
    """Two rates for two parts; the text encoder is trained unless it is switched off or its rate is 0."""
    shared = draft.take("learning_rate", float)
    own = draft.take("unet_lr", float)
    rate, option = (shared, "learning_rate") if own is None else (own, "unet_lr")
    draft.put("optimizer.lr", rate, option)
    text_rate, text_option = draft.take("text_encoder_lr", float), "text_encoder_lr"
    if text_rate is None:
        text_rate, text_option = shared, "learning_rate"
    if draft.take("network_train_unet_only", bool):
        return False
    if text_rate == 0:
        return False
    if text_rate != rate:
        if name in _ONE_SIZE:
            reason = (
                f"{name} has one step size; sd-scripts lets the first rate ({rate:g}) count for both, as here"
            )
            draft.differ(text_option, text_rate, reason)
        else:
            draft.put("optimizer.text_encoder_lr", text_rate, text_option)
    return True
