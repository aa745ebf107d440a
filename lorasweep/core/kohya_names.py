"""Names in kohya's and LyCORIS's files: what ComfyUI, A1111 and their kin look for.

`unet.mid_block.attentions.0.proj_in` is `lora_unet_mid_block_attentions_0_proj_in` there, and
`text_encoder.encoder.layers.0.mlp.fc1` is `lora_te_text_model_encoder_layers_0_mlp_fc1`. A transformer's modules keep
diffusers' dots, `transformer.single_transformer_blocks.0.proj_out`: that form alone do both ComfyUI and diffusers read.
Of Anima both read its own names only, `diffusion_model.blocks.0.self_attn.q_proj`; of ERNIE-Image, whose own names are
diffusers', those behind `diffusion_model.`; of Lumina 2 ComfyUI its own, and where whole blocks are trained diffusers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from lorasweep.core.protocols import is_text_encoder

# diffusers' names in a Cosmos transformer, which Anima is, and its own.
# Source: huggingface/diffusers, loaders/lora_conversion_utils.py, where they are read the other way round.
_ANIMA = {
    "transformer_blocks.": "blocks.",
    "attn1.to_out.0": "self_attn.output_proj",
    "attn2.to_out.0": "cross_attn.output_proj",
    "attn1.to_": "self_attn.",
    "attn2.to_": "cross_attn.",
    "ff.net.0.proj": "mlp.layer1",
    "ff.net.2": "mlp.layer2",
    "norm1.linear_": "adaln_modulation_self_attn.",
    "norm2.linear_": "adaln_modulation_cross_attn.",
    "norm3.linear_": "adaln_modulation_mlp.",
    "patch_embed.proj": "x_embedder.proj.1",
    "time_embed.t_embedder.": "t_embedder.1.",
    "norm_out.linear_": "final_layer.adaln_modulation.",
    "proj_out": "final_layer.linear",
}
# Likewise of Lumina 2, where queries, keys and values are one module.
_LUMINA2 = {
    ".attn.to_out.0": ".attention.out",
    **{f".attn.to_{letter}": ".attention.qkv" for letter in "qkv"},
    ".feed_forward.linear_": ".feed_forward.w",
    ".norm1.linear": ".adaLN_modulation.1",
    "time_caption_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_caption_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_caption_embed.caption_embedder.": "cap_embedder.",
    "norm_out.linear_1": "final_layer.adaLN_modulation.1",
    "norm_out.linear_2": "final_layer.linear",
}
_PREFIXES = {"unet": "unet", "text_encoder": "te", "text_encoder_2": "te2"}


def is_anima(paths: Iterable[str]) -> bool:
    """Tell whether these are modules of an Anima: no other transformer has two attentions in a block."""
    return any(re.match(r"transformer\.transformer_blocks\.\d+\.attn1\.", path) for path in paths)


def anima_name(path: str) -> str:
    """Return the name of `transformer.<module>` in Anima's own code, as files of its LoRAs have it."""
    inner = path.removeprefix("transformer.")
    for ours, theirs in _ANIMA.items():
        inner = inner.replace(ours, theirs)
    found = re.sub(r"(self|cross)_attn\.([qkv])$", r"\1_attn.\2_proj", inner)
    return f"diffusion_model.{found}"


def is_lumina2(paths: Iterable[str]) -> bool:
    """Tell whether these are modules of a Lumina 2: in no other transformer that has `layers` is attention `attn`."""
    return any(re.match(r"transformer\.layers\.\d+\.attn\.", path) for path in paths)


def lumina2_name(path: str) -> str:
    """Return the name of `transformer.<module>` in Lumina 2's own code; its queries, keys and values have one."""
    inner = path.removeprefix("transformer.")
    for ours, theirs in _LUMINA2.items():
        inner = inner.replace(ours, theirs)
    return f"diffusion_model.{inner}"


def in_own_names(keys: Iterable[str]) -> dict[str, str]:
    """Return what ComfyUI calls each tensor `transformer.<module>.<tensor>` of a file; others stay as they are."""
    keys = [*keys]
    if is_anima(keys):
        modules = {key: re.split(r"(\.lora_[AB]\.weight|\.[^.]+)$", key) for key in keys}
        return {key: "".join([anima_name(module), *tensor]) for key, (module, *tensor) in modules.items()}
    return {
        key: re.sub(r"^transformer(?=\.layers\.\d+\.(self_attention|mlp)\.)", "diffusion_model", key) for key in keys
    }


def kohya_name(path: str, *, parts: Collection[str]) -> str:
    """Return the module's name in kohya's files.

    Args:
        path: part and module, `unet.<module>`, `transformer.<module>` or `text_encoder.<module>`. transformers 5.6
            took `text_model` out of its modules' names; the UIs still want it, and drop a file's text encoder
            without it.
        parts: of the base that an adapter sits on; where there are two text encoders the first is called `te1`.
    """
    part, module = path.split(".", 1)
    inner = f"text_model.{module.removeprefix('text_model.')}" if is_text_encoder(part) else module
    if "transformer" in parts:
        return f"{part}.{inner}"
    prefix = "te1" if part == "text_encoder" and "text_encoder_2" in parts else _PREFIXES[part]
    return f"lora_{prefix}_{inner.replace('.', '_')}"
