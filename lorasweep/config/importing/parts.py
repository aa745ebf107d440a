"""What all trainers have besides images: a frozen base, an adapter, an optimizer and its learning rates.

Nothing is downloaded, so a name on a hub is not a path.

What an optimizer takes when an argument is not given differs between the trainer's library and ours, so every
knob is written down.
"""

from __future__ import annotations

import os.path
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorasweep.config import places
from lorasweep.config.bind import TO_BE_GIVEN
from lorasweep.config.importing.draft import Draft, Option, as_kind
from lorasweep.config.importing.images import PREDICT_NOISE
from lorasweep.core import registry
from lorasweep.plan.learning_rate import finds_step_size

# Optimizers that find their own step size, by their classes' names: DAdaptLion, ProdigyPlusScheduleFree.
_FINDS_ITS_STEP = re.compile(r"prodigy|d[-_]?adapt|^(l?dog|dowg|cocob)$", re.IGNORECASE)
NOT_TRAINED_HERE = "such a base cannot be trained here"
WHOLE = 100_000  # beyond half of any layer's side, where a LoKr's matrices are whole and its alpha is not looked at
_PICKLES = (".ckpt", ".pt", ".pth", ".bin")


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


def put_optimizer(
    draft: Draft, asked: str = "", option: str = "", *, trains_text: bool | None = None
) -> tuple[str, bool]:
    """Decide the optimizer, its knobs, its rates, and whether the text encoder is trained.

    The table's `optimizer` names the options, and `optimizers` say which is which. `asked` is the trainer's word, of
    `option`, where another than the table's has it; `trains_text` is given where the table's option does not say so.

    Returns:
        Our optimizer's name, and whether it is one that decides its rate by itself.
    """
    names = draft.table.more["optimizer"]
    option, arguments, text = option or names["name"], names["arguments"], names["text"]
    kind = _choose(draft, asked or draft.take(option), option)
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
    by_itself = kind.defaults.get("relative_step", False)
    is_relative = bool(by_itself and draft.options.get(f"{arguments}.relative_step", by_itself))
    trains_text = draft.take(text) if trains_text is None else trains_text
    has_own_rate = kind.has_own_rate or is_relative
    trained = _put_rates(draft, kind.name, trains_text=trains_text, has_own_rate=has_own_rate)
    draft.put("adapter.text_encoder", trained, text)
    return kind.name, is_relative


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
    """Return an argument of the kind that the library's default has: a number, a boolean, or a list of numbers."""
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


def _put_rates(draft: Draft, name: str, *, trains_text: bool, has_own_rate: bool) -> bool:
    """Decide two rates for two parts, and whether the text encoder is trained: not when switched off, or at rate 0.

    The table's `rates` name the option for both parts, and those for one of them, which win.
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


def put_base(draft: Draft, *, kind: str, path: str) -> str:
    """Decide which base, by the trainer's word for its `kind`, and where its files are; returns its name."""
    asked = draft.take(kind)
    name = draft.table.translated[kind].values.get(str(asked).strip().lower(), "")
    if name not in (known := places.choices("base")):
        trained = ", ".join(base for base in known if "dollhouse" not in base and base != "auto")
        what = f"is of {asked!r}{name and f', base={name}'}, must be of a base that is here: {trained}"
        draft.problem(kind, what, NOT_TRAINED_HERE)
        name = "stable_diffusion"
    draft.put("base", name, kind)
    if name in PREDICT_NOISE:
        draft.differ(kind, f"{draft.table.label} cuts captions after 75 tokens; here they are read whole")
    put_path(draft, path)
    return name


def put_path(draft: Draft, option: str) -> None:
    """Decide `base.path`, which is left to be given where the option cannot be it."""
    path, reason = draft.take(option), ""
    if not path:
        reason = "no base is named: give base.path=some/folder"
    elif path.lower().endswith(_PICKLES):
        reason = "pickles can run code when opened: save it as .safetensors, and give base.path"
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", path) and not os.path.exists(path) and not path.endswith(".safetensors"):
        reason = "nothing is downloaded: if that is a name on a hub, give base.path=the folder on your disk"
    if reason:
        draft.leave(option, reason)
    draft.put("base.path", TO_BE_GIVEN if reason else path, option)


def put_adapter(draft: Draft, option: str) -> None:
    """Decide `base.adapter`, which is left to be given where the file is not on this disk."""
    if path := draft.take(option):
        is_here = Path(path).expanduser().is_file()
        if not is_here:
            draft.leave(option, "nothing is downloaded: give base.adapter=the file on your disk")
        draft.put("base.adapter", path if is_here else TO_BE_GIVEN, option)


def put_rank(draft: Draft, dim: str, alpha: str) -> tuple[int, float]:
    """Decide dim and alpha, and return them; an alpha of 0, or neither given nor with a default, is the dim."""
    found = draft.take(dim), draft.take(alpha) or float(draft.take(dim))
    draft.put("adapter.dim", found[0], dim)
    draft.put("adapter.alpha", found[1], alpha)
    return found


def put_whole(draft: Draft, option: str, *ranks: str) -> None:
    """Decide the rank of a LoKr of two whole matrices, where the options in `ranks` say nothing any more."""
    draft.put("adapter.dim", WHOLE, option)
    draft.put("adapter.alpha", float(WHOLE), option)
    for rank in ranks:
        draft.ignore(rank, f"both matrices are whole: {option}")


def put_dropout(draft: Draft, option: str, adapter: str, *, of_inputs: bool = False) -> None:
    """Decide the dropout, of an adapter that has one; ours is `of_inputs`, as PEFT's."""
    share = draft.take(option)
    if share and "dropout" not in places.read_choice("adapter", adapter):
        draft.leave(option, f"adapter={adapter} has no dropout")
    elif share:
        draft.put("adapter.dropout", share, option)
        if not of_inputs:
            told = f"{draft.table.label} drops what comes out of the first factor, ours what goes into it"
            draft.differ(option, told)


def put_average(draft: Draft, option: str, decay: str, *, every: str = "", warms_up: bool = True) -> None:
    """Decide the average of the weights, where `option` is on, once images and optimizer are decided."""
    optimizer, brakes = draft.lines["optimizer"].value, draft.lines.get("regularization")
    if hasattr(registry.load("optimizer", optimizer), "weights_for_use"):
        draft.leave(option, f"optimizer={optimizer} averages the weights by itself, and its average counts")
        return
    draft.put("regularization", [*(brakes.value if brakes else ()), "ema"], option)
    draft.put("regularization.ema.decay", draft.take(decay), decay)
    draft.put("regularization.ema.warmup", warms_up, option)
    if every:
        draft.put("regularization.ema.every", draft.take(every), every)


def put_loss(draft: Draft) -> None:
    """Decide the loss, and where it bends, by options of sd-scripts' names."""
    kind, schedule = draft.choose("loss_type"), draft.choose("huber_schedule")
    draft.put("noise.loss_type", kind, "loss_type")
    if kind in ("huber", "smooth_l1"):
        if schedule == "snr" and draft.lines["base"].value not in PREDICT_NOISE:
            draft.leave("huber_schedule", "snr is not of flow matching; constant stands in", schedule)
            schedule = "constant"
        draft.put("noise.huber_schedule", schedule, "huber_schedule")
        draft.put("noise.huber_c", draft.take("huber_c"), "huber_c")
    for option in ("huber_schedule", "huber_c", "huber_scale"):
        if kind in ("l1", "l2"):
            draft.ignore(option, "is only read with loss_type=huber or smooth_l1")


def put_separator(draft: Draft, option: str) -> None:
    """Decide what separates tags, with a blank behind it."""
    separator = draft.take(option)
    draft.put("captions.separator", f"{separator} " if separator == separator.strip() else separator, option)


def put_seed(draft: Draft, option: str = "seed") -> None:
    """Decide the seed, of a trainer that has such an option and is given it; else say that it draws one each time."""
    if option in draft.table.translated and draft.given(option):
        draft.put("seed", draft.take(option), option)
    else:
        draft.differ(option, f"{draft.table.label} draws another each time; ours is 0 unless it is given")
