"""kohya's network options as an adapter: sd-scripts' own networks, and those of LyCORIS."""

from __future__ import annotations

import re

from lorasweep.config import places
from lorasweep.config.importing.draft import Draft
from lorasweep.config.importing.parts import WHOLE, put_dropout, put_rank, put_whole
from lorasweep.config.kohya import flow
from lorasweep.core import registry

_ALGORITHMS = {"lora": "lora", "locon": "lora", "loha": "loha", "lokr": "lokr", "ia3": "ia3", "dylora": "dylora"}
_RANK, _STABLE = ("network_dim", "network_alpha"), "network_args.rs_lora"
_PRESETS = {"full": "full", "attn-mlp": "attn-mlp", "attn-only": "attn"}
_OF_OTHER_BASES = re.compile(r"networks\.\w+_(?!fa$)\w+")  # lora_sd3, lora_wan, lora_ltx2; lora_fa is of no base
_STANDS_IN = "no adapter of ours is that; a LoRA stands in for it"
_DYLORA_DIFFERS = (
    "sd-scripts trains one block of rows but multiplies all of them; ours cuts the product at the "
    "drawn rank and scales it by alpha / rank, as the paper and the cut files have it"
)


def translate_network(draft: Draft) -> None:
    """Decide the adapter, but for whether the text encoder is trained."""
    module = draft.take("network_module")
    is_musubi = flow.is_musubi(draft.options, draft.names)
    if (base := flow.base_of(draft)) and is_musubi == (base in flow.MUSUBI.values()):
        name = _lycoris(draft, base) if module in flow.LYCORIS else _flow(draft, base)
    elif is_musubi or (module and _OF_OTHER_BASES.fullmatch(module)):
        here = (
            "Qwen-Image, Z-Image, FLUX.2 klein, Krea 2 or Ideogram 4"
            if is_musubi
            else "Stable Diffusion, FLUX.1, Anima or Lumina 2"
        )
        what = f"must be of {here}, got {module}"
        hint = "networks of other bases are not translated: write a recipe by docs/flags.md"
        draft.problem("network_module", what, flow.NO_LYCORIS if module in flow.LYCORIS else hint)
        name = _lora(draft)
    elif module in flow.LYCORIS:
        name = _lycoris(draft)
    elif module == "networks.dylora":
        name = _dylora(draft)
    else:
        if module is None:
            draft.differ("network_module", "is not given, and sd-scripts needs it: taken for networks.lora")
        elif module != "networks.lora":
            draft.leave("network_module", _STANDS_IN)
        name = _lora(draft)
    _dropout(draft, name, is_argument=module in flow.LYCORIS)


def finish_network(draft: Draft) -> None:
    """Decide what needs the optimizer to be decided, and tell of arguments that nothing was said about."""
    name, ratio = draft.lines["adapter"].value, "network_args.loraplus_{}lr_ratio".format
    option, text = (  # 0 is as if it were not given
        next(filter(draft.take, (ratio(part), ratio(""))), ratio("")) for part in ("unet_", "text_encoder_")
    )
    unet, optimizer = draft.take(option), draft.lines["optimizer"].value
    if hasattr(registry.load("adapter", name), "SECOND_FACTOR"):  # it acts on no other adapter there either
        if unet and "loraplus_lr_ratio" not in places.read_choice("optimizer", optimizer):
            draft.leave(option, f"optimizer={optimizer} has one step size for all that trains")
        elif unet:
            draft.put("optimizer.loraplus_lr_ratio", unet, option)
        if draft.take(text) != unet and draft.lines["adapter.text_encoder"].value:
            draft.leave(text, f"both parts have one ratio, {unet or 1:g}")
    for argument, value in draft.untaken("network_args"):
        if value:
            draft.leave(argument, draft.table.unsupported.get(argument, f"adapter={name} has nothing like it"))


def _convolutions(draft: Draft, conv_dim: int, conv_alpha: float) -> None:
    draft.put("adapter.conv_dim", conv_dim, "network_args.conv_dim")
    draft.put("adapter.conv_alpha", conv_alpha, "network_args.conv_alpha")
    if conv_dim > 64 or conv_alpha > 32:
        draft.put("adapter.force", True, "network_args.conv_dim", given=True)
        reason = "over conv dim 64 or conv alpha 32 the convolutions take over; kept with adapter.force"
        draft.differ("network_args.conv_dim", reason)


def _one_rank(draft: Draft) -> None:
    """Decide dim and alpha of an adapter whose convolutions have no rank of their own."""
    for key, own in zip(("conv_dim", "conv_alpha"), put_rank(draft, *_RANK), strict=True):
        value = draft.take(f"network_args.{key}")
        if value and value != own:
            reason = f"this adapter has one rank for all modules: {own:g} is taken"
            draft.leave(f"network_args.{key}", reason)


def _lora(draft: Draft) -> str:
    """Translate networks.lora: with conv_dim, and not 0, it is what people call LoCon."""
    conv_dim, conv_alpha = draft.take("network_args.conv_dim"), draft.take("network_args.conv_alpha")
    name = "locon" if conv_dim else "lora"
    draft.put("adapter", name, "network_module")
    put_rank(draft, *_RANK)
    if conv_dim:
        # Without conv_alpha kohya takes 1, not the other alpha; 0 means the dim.
        _convolutions(draft, conv_dim, 1.0 if conv_alpha is None else conv_alpha or float(conv_dim))
    else:
        draft.put("adapter.targets", "attn-mlp", "network_module")
    return name


def _flow(draft: Draft, base: str) -> str:
    draft.put("adapter", "lora", "network_module")
    put_rank(draft, *_RANK)
    draft.put("adapter.targets", flow.TARGETS[base], "network_module")
    _tell_fused(draft, base)
    if base == "lumina2":
        draft.differ("network_module", "there the last layer is taken too")
    if base == "krea2":
        draft.differ("network_module", "there the eight layers before, between and after the blocks are taken too")
    return "lora"


def _tell_fused(draft: Draft, base: str) -> None:
    if base in ("flux1_dev", "chroma", "flux2_klein", "lumina2") and not draft.take("network_args.split_qkv"):
        more = ", and a single block's MLP too" if base in ("flux1_dev", "chroma") else ""
        reason = f"there queries, keys and values share one first factor{more}; here each has its own"
        draft.differ("network_module", reason)


def _dylora(draft: Draft) -> str:
    draft.put("adapter", "dylora", "network_module")
    _one_rank(draft)
    draft.put("adapter.unit", draft.take("network_args.unit"), "network_args.unit")
    targets = "full" if draft.take("network_args.conv_dim") else "attn-mlp"
    draft.put("adapter.targets", targets, "network_args.conv_dim")
    draft.differ("network_module", _DYLORA_DIFFERS)
    return "dylora"


def _lycoris(draft: Draft, transformer: str | None = None) -> str:
    """Translate LyCORIS: the algorithm is an argument, and so is the preset of target modules, which is `full`.

    Source: KohakuBlueleaf/LyCORIS, lycoris/config.py: of a transformer all presets but one take the whole blocks.
    """
    draft.ignore("network_module", "is LyCORIS: network_args say which of its networks")
    algorithm, preset = draft.take("network_args.algo").lower(), draft.take("network_args.preset")
    targets, name = _PRESETS.get(preset, "full"), _ALGORITHMS.get(algorithm, "lora")
    if preset not in _PRESETS:
        draft.leave("network_args.preset", f"presets here: {', '.join(_PRESETS)}; full stands in for it")
    if transformer:
        _tell_fused(draft, transformer)
        targets = "attn" if targets == "attn" else "full"
        if targets == "attn":
            draft.differ("network_args.preset", "there the single blocks are left out, which have no attention apart")
    elif targets == "full":
        reason = "LyCORIS' full also takes conv_in, conv_out and the time embedding; ours ends at the blocks"
        draft.differ("network_args.preset", reason)
    if algorithm not in _ALGORITHMS:
        draft.leave("network_args.algo", _STANDS_IN)
    if draft.take("network_args.dora_wd"):
        name = _decomposed(draft, name)
    elif algorithm in ("lora", "locon") and targets == "full" and not transformer:
        name = "locon"
    draft.put("adapter", name, draft.first("network_args.algo", "network_module"))
    if name == "ia3":
        for option in ("network_dim", "network_alpha"):
            draft.ignore(option, "IA3 has no rank: it trains one factor per channel")
    elif name == "locon":
        dim, alpha = put_rank(draft, *_RANK)  # the convolutions get it too, where they have none of their own
        own_dim, own_alpha = draft.take("network_args.conv_dim"), draft.take("network_args.conv_alpha")
        own_dim, own_alpha = own_dim or dim, own_alpha or alpha
        _convolutions(draft, own_dim, own_alpha * own_dim**0.5 if draft.take(_STABLE) else own_alpha)
    else:
        _one_rank(draft)
        draft.put("adapter.targets", targets, "network_args.preset")
        _own_knobs(draft, name)
        if name == "lokr" and draft.take("network_args.full_matrix"):
            put_whole(draft, "network_args.full_matrix", *_RANK)
    if draft.take(_STABLE) and algorithm not in ("ia3", "dylora"):
        _stabilize(draft, name)
    draft.ignore(_STABLE, f"LyCORIS' {algorithm} does not look at it")
    return name


def _stabilize(draft: Draft, name: str) -> None:
    """Take a scale of alpha / sqrt(dim), which ours has at alpha * sqrt(dim), as LyCORIS writes it into its files."""
    dim, alpha = draft.lines["adapter.dim"].value, draft.lines["adapter.alpha"]
    if dim != WHOLE:
        draft.put("adapter.alpha", alpha.value * dim**0.5, alpha.option)
        draft.differ(_STABLE, "the scale is alpha / dim here: alpha is taken times dim ** 0.5, for the same")
    if name == "lokr":
        reason = "modules of two whole matrices train there at dim ** 0.5 times the scale that files are loaded with"
        draft.differ(_STABLE, f"{reason}; ours at that scale")


def _decomposed(draft: Draft, name: str) -> str:
    if name != "lora":
        draft.leave("network_args.dora_wd", f"only a LoRA can be decomposed here, not a {name}")
        return name
    per_output, reason = draft.take("network_args.wd_on_output"), "ours has a magnitude per output, as the paper"
    if per_output is None:
        since = "LyCORIS has so since April 2025; before, there was one per input"
        draft.differ("network_args.dora_wd", f"{reason}; {since}")
    elif not per_output:
        draft.leave("network_args.wd_on_output", reason)
    return "dora"


def _own_knobs(draft: Draft, name: str) -> None:
    own = {"lokr": ("factor", "decompose_both"), "dylora": ("block_size",)}
    for knob in own.get(name, ()):
        key = "unit" if knob == "block_size" else knob
        draft.put(f"adapter.{key}", draft.take(f"network_args.{knob}"), f"network_args.{knob}")
    if name == "dylora":
        reason = "LyCORIS trains it at block_size times the scale that files are loaded with; ours at that scale"
        draft.differ("network_args.algo", reason)


def _dropout(draft: Draft, name: str, *, is_argument: bool) -> None:
    """Take network_dropout; LyCORIS takes it as an argument too, and that one wins."""
    option = draft.first(*(("network_args.dropout",) if is_argument else ()), "network_dropout")
    if option == "network_args.dropout":
        draft.ignore("network_dropout", "network_args.dropout takes its place")
    put_dropout(draft, option, name)
    for knob in ("rank_dropout", "module_dropout"):
        option = f"network_args.{knob}"
        if not (share := draft.take(option)):
            continue
        if knob not in places.read_choice("adapter", name):
            draft.leave(option, f"adapter={name} has none")
            continue
        draft.put(f"adapter.{knob}", share, option)
        if knob == "rank_dropout" and is_argument and name != "lokr":
            draft.differ(option, "LyCORIS drops outputs of a layer, for all pictures alike; ours ranks, as sd-scripts")
