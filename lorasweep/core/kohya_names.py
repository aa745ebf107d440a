"""Names in kohya's and LyCORIS's files: what ComfyUI, A1111 and their kin look for.

`unet.mid_block.attentions.0.proj_in` is `lora_unet_mid_block_attentions_0_proj_in` there, and
`text_encoder.encoder.layers.0.mlp.fc1` is `lora_te_text_model_encoder_layers_0_mlp_fc1`. A transformer's modules keep
diffusers' dots, `transformer.single_transformer_blocks.0.proj_out`: that form alone do both ComfyUI and diffusers read.
Of some bases ComfyUI reads the original code's names only, see `OWN`, and diffusers does, too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from lorasweep.core.protocols import is_text_encoder

# What modules are called in the original code of bases whose files have its names: diffusers' names -> its own, put in
# one after another. Several may be one module there.
# Source: huggingface/diffusers, loaders/lora_conversion_utils.py, where they are read the other way round.
OWN: dict[str, dict[str, str]] = {
    "anima": {
        "transformer_blocks.": "blocks.",
        "attn1.to_out.0": "self_attn.output_proj",
        "attn2.to_out.0": "cross_attn.output_proj",
        **{f"attn1.to_{letter}": f"self_attn.{letter}_proj" for letter in "qkv"},
        **{f"attn2.to_{letter}": f"cross_attn.{letter}_proj" for letter in "qkv"},
        "ff.net.0.proj": "mlp.layer1",
        "ff.net.2": "mlp.layer2",
        "norm1.linear_": "adaln_modulation_self_attn.",
        "norm2.linear_": "adaln_modulation_cross_attn.",
        "norm3.linear_": "adaln_modulation_mlp.",
        "patch_embed.proj": "x_embedder.proj.1",
        "time_embed.t_embedder.": "t_embedder.1.",
        "norm_out.linear_": "final_layer.adaln_modulation.",
        "proj_out": "final_layer.linear",
    },
    "lumina2": {
        ".attn.to_out.0": ".attention.out",
        **{f".attn.to_{letter}": ".attention.qkv" for letter in "qkv"},
        ".feed_forward.linear_": ".feed_forward.w",
        ".norm1.linear": ".adaLN_modulation.1",
        "time_caption_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
        "time_caption_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
        "time_caption_embed.caption_embedder.": "cap_embedder.",
        "norm_out.linear_1": "final_layer.adaLN_modulation.1",
        "norm_out.linear_2": "final_layer.linear",
    },
    "ideogram4": {".to_out.0": ".o", **{f".to_{letter}": ".qkv" for letter in "qkv"}},
    "ernie_image": {},
}
_PREFIXES = {"unet": "unet", "text_encoder": "te", "text_encoder_2": "te2"}


def is_anima(paths: Iterable[str]) -> bool:
    """Tell whether these are modules of an Anima: no other transformer has two attentions in a block."""
    return any(re.match(r"transformer\.transformer_blocks\.\d+\.attn1\.", path) for path in paths)


def is_lumina2(paths: Iterable[str]) -> bool:
    """Tell whether these are modules of a Lumina 2: in no other transformer that has `layers` is attention `attn`."""
    return any(re.match(r"transformer\.layers\.\d+\.attn\.", path) for path in paths)


def own_name(path: str, base: str) -> str:
    """Return the name of `transformer.<module>` in a base's own code, as ComfyUI looks for it; `base` is in `OWN`."""
    inner = path.removeprefix("transformer.")
    for ours, theirs in OWN[base].items():
        inner = inner.replace(ours, theirs)
    return f"diffusion_model.{inner}"


def kohya_name(path: str, *, parts: Collection[str]) -> str:
    """Return the name of `<part>.<module>` in kohya's files; the first of two text encoders in `parts` is called `te1`.

    transformers 5.6 took `text_model` out of its modules' names; the UIs still want it, and drop a file's text encoder
    without it.
    """
    part, module = path.split(".", 1)
    inner = f"text_model.{module.removeprefix('text_model.')}" if is_text_encoder(part) else module
    if "transformer" in parts:
        return f"{part}.{inner}"
    prefix = "te1" if part == "text_encoder" and "text_encoder_2" in parts else _PREFIXES[part]
    return f"lora_{prefix}_{inner.replace('.', '_')}"
