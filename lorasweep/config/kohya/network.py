"""kohya's network options as an adapter: sd-scripts' own networks, and those of LyCORIS."""

from __future__ import annotations

import re
from typing import Any

from lorasweep.config.kohya.draft import Draft
from lorasweep.config.kohya.options import UNSUPPORTED_NETWORK_ARGS

_LYCORIS = ("lycoris.kohya", "lycoris.locon_kohya", "locon.locon_kohya")
_PRESETS = {"full": "full", "attn-mlp": "attn-mlp", "attn-only": "attn"}
_HAS_DROPOUT = ("lora", "locon", "dora")
_OF_OTHER_BASES = re.compile(r"networks\.\w+_(flux|sd3|lumina|anima|hunyuan\w*|wan|framepack|qwen\w*|zimage|fk)")


def translate_network(draft: Draft) -> None:
    """Decide the adapter, but for whether the text encoder is trained."""
    module = draft.take("network_module")
    arguments = draft.arguments("network_args")
    if module and _OF_OTHER_BASES.fullmatch(module):
        what = f"must be of Stable Diffusion 1.x or 2.x, got {module}"
        draft.problem("network_module", what, "such a base cannot be trained here")
    if module in _LYCORIS:
        name = _lycoris(draft, arguments)
    elif module == "networks.dylora":
        name = _dylora(draft, arguments)
    else:
        if module not in (None, "networks.lora"):
            reason = "no adapter of ours is that; a LoRA stands in for it"
            draft.leave("network_module", module, reason)
        elif module is None:
            draft.differ("network_module", None, "is not given, and sd-scripts needs it: taken for networks.lora")
        name = _lora(draft, arguments)
    _dropout(draft, name, arguments)
    for argument, value in arguments.items():
        if value:
            reason = UNSUPPORTED_NETWORK_ARGS.get(argument, f"adapter={name} has nothing like it")
            draft.leave(f"network_args.{argument}", value, reason)


def _rank(draft: Draft) -> tuple[int, float]:
    """network_dim and network_alpha; an alpha of 0 means the dim."""
    dim = draft.take("network_dim")
    return dim, draft.take("network_alpha") or float(dim)


def _put_rank(draft: Draft) -> None:
    dim, alpha = _rank(draft)
    draft.put("adapter.dim", dim, "network_dim")
    draft.put("adapter.alpha", alpha, "network_alpha")


def _lora(draft: Draft, arguments: dict[str, Any]) -> str:
    """networks.lora: with conv_dim it is what people call LoCon."""
    conv_dim, conv_alpha = _convolutions(draft, arguments)
    name = "locon" if conv_dim else "lora"  # a conv_dim of 0 means none of them, as none given does
    draft.put("adapter", name, "network_module")
    _put_rank(draft)
    if conv_dim:
        draft.put("adapter.conv_dim", conv_dim, "network_args.conv_dim", given=True)
        # Without conv_alpha kohya takes 1, not the other alpha; 0 means the dim.
        alpha = 1.0 if conv_alpha is None else conv_alpha or float(conv_dim)
        draft.put("adapter.conv_alpha", alpha, "network_args.conv_alpha", given=conv_alpha is not None)
        _force(draft, conv_dim, alpha)
        return name
    draft.put("adapter.targets", "attn-mlp", "network_module")
    return name


def _convolutions(draft: Draft, arguments: dict[str, Any]) -> tuple[int | None, float | None]:
    """conv_dim and conv_alpha; None where they are not given."""
    return (
        draft.argument(arguments, "network_args", "conv_dim", int, low=0),
        draft.argument(arguments, "network_args", "conv_alpha", float, low=0),
    )


def _force(draft: Draft, conv_dim: int, conv_alpha: float) -> None:
    if conv_dim > 64 or conv_alpha > 32:
        draft.put("adapter.force", True, "network_args.conv_dim", given=True)
        reason = "over conv dim 64 or conv alpha 32 the convolutions take over; kept with adapter.force"
        draft.differ("network_args.conv_dim", conv_dim, reason)


def _dylora(draft: Draft, arguments: dict[str, Any]) -> str:
    draft.put("adapter", "dylora", "network_module")
    _put_rank(draft)
    unit = draft.argument(arguments, "network_args", "unit", int, low=1)
    draft.put("adapter.unit", unit or 1, "network_args.unit", given=unit is not None)
    conv_dim, conv_alpha = _convolutions(draft, arguments)
    targets = "full" if conv_dim else "attn-mlp"
    draft.put("adapter.targets", targets, "network_args.conv_dim", given=conv_dim is not None)
    _one_rank(draft, conv_dim, conv_alpha)
    reason = (
        "sd-scripts trains one block of rows but multiplies all of them; ours cuts the product at the "
        "drawn rank and scales it by alpha / rank, as the paper and the cut files have it"
    )
    draft.differ("network_module", "networks.dylora", reason)
    return "dylora"


def _lycoris(draft: Draft, arguments: dict[str, Any]) -> str:
    """LyCORIS: the algorithm is an argument, and so is the preset of target modules, which is `full`."""
    says_which = "network_args.algo" if "algo" in arguments else "network_module"
    draft.ignore("network_module", "is LyCORIS: network_args say which of its networks")
    has_preset = "preset" in arguments
    algorithm = str(arguments.pop("algo", None) or "lora").lower()
    preset = str(arguments.pop("preset", None) or "full")
    targets = _PRESETS.get(preset)
    if targets is None:
        draft.leave("network_args.preset", preset, f"presets here: {', '.join(_PRESETS)}; full stands in for it")
        targets = "full"
    if targets == "full":
        reason = "LyCORIS' full also takes conv_in, conv_out and the time embedding; ours ends at the blocks"
        draft.differ("network_args.preset", preset, reason)
    is_dora = draft.argument(arguments, "network_args", "dora_wd", bool)
    is_per_output = draft.argument(arguments, "network_args", "wd_on_output", bool)
    conv_dim, conv_alpha = _convolutions(draft, arguments)
    if algorithm in ("lora", "locon") and targets == "full" and not is_dora:
        draft.put("adapter", "locon", says_which, given=True)
        _lycoris_locon(draft, conv_dim, conv_alpha)
        return "locon"
    names = {
        "lora": "lora",
        "locon": "lora",
        "loha": "loha",
        "lokr": "lokr",
        "ia3": "ia3",
        "dylora": "dylora",
    }
    name = names.get(algorithm, "lora")
    if algorithm not in names:
        draft.leave("network_args.algo", algorithm, "no adapter of ours is that; a LoRA stands in for it")
    if is_dora and name == "lora":
        name = "dora"
        _magnitudes(draft, is_per_output)
    elif is_dora:
        draft.leave("network_args.dora_wd", True, f"only a LoRA can be decomposed here, not a {algorithm}")
    draft.put("adapter", name, says_which, given=True)
    if name == "ia3":
        for option in ("network_dim", "network_alpha"):
            draft.ignore(option, "IA3 has no rank: it trains one factor per channel")
        return name
    _put_rank(draft)
    draft.put("adapter.targets", targets, "network_args.preset", given=has_preset)
    _one_rank(draft, conv_dim, conv_alpha)
    _own_knobs(draft, name, arguments)
    return name


def _magnitudes(draft: Draft, is_per_output: bool | None) -> None:
    reason = "ours has a magnitude per output, as the paper"
    if is_per_output is None:
        since = "LyCORIS has so since April 2025; before, there was one per input"
        draft.differ("network_args.dora_wd", True, f"{reason}; {since}")
    elif not is_per_output:
        draft.leave("network_args.wd_on_output", False, reason)


def _lycoris_locon(draft: Draft, conv_dim: int | None, conv_alpha: float | None) -> None:
    """Without conv_dim LyCORIS gives the convolutions the other rank, not none."""
    dim, alpha = _rank(draft)
    _put_rank(draft)
    own_dim, own_alpha = conv_dim or dim, conv_alpha or alpha
    draft.put("adapter.conv_dim", own_dim, "network_args.conv_dim", given=conv_dim is not None)
    draft.put("adapter.conv_alpha", own_alpha, "network_args.conv_alpha", given=conv_alpha is not None)
    _force(draft, own_dim, own_alpha)


def _one_rank(draft: Draft, conv_dim: int | None, conv_alpha: float | None) -> None:
    dim, alpha = _rank(draft)
    for key, value, other in (("conv_dim", conv_dim, dim), ("conv_alpha", conv_alpha, alpha)):
        if value and value != other:
            reason = f"this adapter has one rank for all modules: {other:g} is taken"
            draft.leave(f"network_args.{key}", value, reason)


def _own_knobs(draft: Draft, name: str, arguments: dict[str, Any]) -> None:
    if name == "lokr":
        factor = draft.argument(arguments, "network_args", "factor", int)
        own = -1 if factor is None else factor
        draft.put("adapter.factor", own, "network_args.factor", given=factor is not None)
        both = draft.argument(arguments, "network_args", "decompose_both", bool)
        draft.put("adapter.decompose_both", bool(both), "network_args.decompose_both", given=both is not None)
    if name == "dylora":
        unit = draft.argument(arguments, "network_args", "block_size", int, low=1)
        draft.put("adapter.unit", unit or 4, "network_args.block_size", given=unit is not None)
        reason = "LyCORIS trains it at block_size times the scale that files are loaded with; ours at that scale"
        draft.differ("network_args.algo", "dylora", reason)


def _dropout(draft: Draft, name: str, arguments: dict[str, Any]) -> None:
    """network_dropout; LyCORIS takes it as an argument too, and that one wins."""
    value, option = draft.take("network_dropout"), "network_dropout"
    if "dropout" in arguments:
        value, option = (
            draft.argument(arguments, "network_args", "dropout", float, low=0, high=1),
            "network_args.dropout",
        )
        draft.ignore("network_dropout", "network_args.dropout takes its place")
    if not value:
        return
    if name not in _HAS_DROPOUT:
        draft.leave(option, value, f"adapter={name} has no dropout")
        return
    draft.put("adapter.dropout", value, option, given=True)
    reason = "sd-scripts drops what comes out of the first factor, ours what goes into it"
    draft.differ(option, value, reason)
