"""kohya's optimizer and its learning rates."""

from __future__ import annotations

from lorasweep.config.importing.draft import Draft
from lorasweep.config.importing.optimizer import put_optimizer, put_rates

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
    kind = put_optimizer(draft, name, option, arguments=_ARGUMENTS)
    is_relative = kind.name == "adafactor" and bool(draft.options.get(f"{_ARGUMENTS}.relative_step", True))
    switch, has_own_rate = draft.take("network_train_unet_only"), kind.has_own_rate or is_relative
    trains_text = put_rates(draft, kind.name, trains_text=not switch, has_own_rate=has_own_rate)
    draft.put("adapter.text_encoder", trains_text, "network_train_unet_only")
    return not is_relative and not name.lower().endswith("schedulefree")
