"""kohya's network options as an adapter: sd-scripts' own networks, and those of LyCORIS."""

from __future__ import annotations

from typing import Any

from lorasweep.import_kohya.draft import Draft
from lorasweep.import_kohya.options import UNSUPPORTED_NETWORK_ARGS

_LYCORIS = ("lycoris.kohya", "lycoris.locon_kohya", "locon.locon_kohya")
_PRESETS = {"full": "full", "attn-mlp": "attn-mlp", "attn-only": "attn"}
_HAS_DROPOUT = ("lora", "locon", "dora")
_ON: tuple[Any, ...] = (True, "True", "true", 1)
_OFF: tuple[Any, ...] = (None, False, 0, "", "None", "False", "0")


def translate_network(draft: Draft) -> None:
    """Decide the adapter, but for whether the text encoder is trained."""
    module = draft.take("network_module", str)
    arguments = draft.arguments("network_args")
    if module in _LYCORIS:
        name = _lycoris(draft, arguments)
    elif module == "networks.dylora":
        name = _dylora(draft, arguments)
    else:
        if module not in (None, "networks.lora"):
            reason = "no adapter of ours is that; a LoRA stands in for it"
            draft.leave("network_module", module, reason)
        elif module is None:
            draft.differ(
                "network_module", None, "is not given, and sd-scripts needs it: taken for networks.lora"
            )
        name = _lora(draft, arguments)
    _dropout(draft, name)
    for argument, value in arguments.items():
        if value not in _OFF:
            reason = UNSUPPORTED_NETWORK_ARGS.get(argument, f"adapter={name} has nothing like it")
            draft.leave(f"network_args.{argument}", value, reason)


def _rank(draft: Draft) -> tuple[int, float]:
    """network_dim and network_alpha; an alpha of 0 means the dim."""
    dim = draft.take("network_dim", int)
    return dim, draft.take("network_alpha", float) or float(dim)


def _put_rank(draft: Draft) -> None:
    dim, alpha = _rank(draft)
    draft.put("adapter.dim", dim, "network_dim")
    draft.put("adapter.alpha", alpha, "network_alpha")


def _lora(draft: Draft, arguments: dict[str, Any]) -> str:
    """networks.lora: with conv_dim it is what people call LoCon."""
    conv_dim = _number(draft, arguments, "conv_dim")
    conv_alpha = _number(draft, arguments, "conv_alpha")
    name = "lora" if conv_dim is None else "locon"
    draft.put("adapter", name, "network_module")
    _put_rank(draft)
    if conv_dim is None:
        draft.put("adapter.targets", "attn-mlp", "network_module")
    else:
        draft.put("adapter.conv_dim", int(conv_dim), "network_args.conv_dim", given=True)
        # Without conv_alpha kohya takes 1, not the other alpha; 0 means the dim.
        alpha = 1.0 if conv_alpha is None else float(conv_alpha) or float(conv_dim)
        draft.put("adapter.conv_alpha", alpha, "network_args.conv_alpha", given=conv_alpha is not None)
        _force(draft, int(conv_dim), alpha)
    return name


def _force(draft: Draft, conv_dim: int, conv_alpha: float) -> None:
    if conv_dim > 64 or conv_alpha > 32:
        draft.put("adapter.force", True, "network_args.conv_dim", given=True)
        reason = "over conv dim 64 or conv alpha 32 the convolutions take over; kept with adapter.force"
        draft.differ("network_args.conv_dim", conv_dim, reason)


def _dylora(draft: Draft, arguments: dict[str, Any]) -> str:
    draft.put("adapter", "dylora", "network_module")
    _put_rank(draft)
    unit = _number(draft, arguments, "unit")
    draft.put("adapter.unit", 1 if unit is None else int(unit), "network_args.unit", given=unit is not None)
    conv_dim, conv_alpha = (_number(draft, arguments, key) for key in ("conv_dim", "conv_alpha"))
    targets = "attn-mlp" if conv_dim is None else "full"
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
    has_algorithm, has_preset = "algo" in arguments, "preset" in arguments
    algorithm = str(arguments.pop("algo", "lora") or "lora").lower()
    preset = str(arguments.pop("preset", "full") or "full")
    targets = _PRESETS.get(preset)
    if targets is None:
        draft.leave(
            "network_args.preset", preset, f"presets here: {', '.join(_PRESETS)}; full stands in for it"
        )
        targets = "full"
    if targets == "full":
        reason = "LyCORIS' full also takes conv_in, conv_out and the time embedding; ours ends at the blocks"
        draft.differ("network_args.preset", preset, reason)
    is_dora = arguments.pop("dora_wd", False) in _ON
    conv_dim, conv_alpha = (_number(draft, arguments, key) for key in ("conv_dim", "conv_alpha"))
    if algorithm in ("lora", "locon") and targets == "full" and not is_dora:
        draft.put("adapter", "locon", "network_args.algo", given=has_algorithm)
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
    elif is_dora:
        draft.leave("network_args.dora_wd", True, f"only a LoRA can be decomposed here, not a {algorithm}")
    draft.put("adapter", name, "network_args.algo", given=has_algorithm)
    if name == "ia3":
        for option in ("network_dim", "network_alpha"):
            draft.ignore(option, "IA3 has no rank: it trains one factor per channel")
        return name
    _put_rank(draft)
    draft.put("adapter.targets", targets, "network_args.preset", given=has_preset)
    _one_rank(draft, conv_dim, conv_alpha)
    _own_knobs(draft, name, arguments)
    return name


def _lycoris_locon(draft: Draft, conv_dim: float | None, conv_alpha: float | None) -> None:
    """Without conv_dim LyCORIS gives the convolutions the other rank, not none."""
    dim, alpha = _rank(draft)
    _put_rank(draft)
    own_dim = int(conv_dim or dim)
    own_alpha = float(conv_alpha or alpha)
    draft.put("adapter.conv_dim", own_dim, "network_args.conv_dim", given=conv_dim is not None)
    draft.put("adapter.conv_alpha", own_alpha, "network_args.conv_alpha", given=conv_alpha is not None)
    _force(draft, own_dim, own_alpha)


def _one_rank(draft: Draft, conv_dim: float | None, conv_alpha: float | None) -> None:
    dim, alpha = _rank(draft)
    for key, value, other in (("conv_dim", conv_dim, dim), ("conv_alpha", conv_alpha, alpha)):
        if value is not None and value != other:
            reason = f"this adapter has one rank for all modules: {other:g} is taken"
            draft.leave(f"network_args.{key}", value, reason)


def _own_knobs(draft: Draft, name: str, arguments: dict[str, Any]) -> None:
    if name == "lokr":
        factor = _number(draft, arguments, "factor")
        draft.put(
            "adapter.factor",
            -1 if factor is None else int(factor),
            "network_args.factor",
            given=factor is not None,
        )
        has_both = "decompose_both" in arguments
        both = arguments.pop("decompose_both", False) in _ON
        draft.put("adapter.decompose_both", both, "network_args.decompose_both", given=has_both)
    if name == "dylora":
        unit = _number(draft, arguments, "block_size")
        block = 4 if unit is None else int(unit)
        draft.put("adapter.unit", block, "network_args.block_size", given=unit is not None)
        reason = (
            "LyCORIS trains it at block_size times the scale that files are loaded with; ours at that scale"
        )
        draft.differ("network_args.algo", "dylora", reason)


def _dropout(draft: Draft, name: str) -> None:
    value = draft.take("network_dropout", float)
    if not value:
        return
    if name not in _HAS_DROPOUT:
        draft.leave("network_dropout", value, f"adapter={name} has no dropout")
        return
    draft.put("adapter.dropout", value, "network_dropout")
    reason = "sd-scripts drops what comes out of the first factor, ours what goes into it"
    draft.differ("network_dropout", value, reason)


def _number(draft: Draft, arguments: dict[str, Any], name: str) -> float | None:
    """Take a number out of the arguments; None when it is not there."""
    value = arguments.pop(name, None)
    if value is None or isinstance(value, int | float):
        return value
    draft.leave(f"network_args.{name}", value, "is no number")
    return None
