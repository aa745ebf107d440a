"""Names of modules in others' files: kohya's and LyCORIS's, which ComfyUI, A1111 and their kin look for, and originals.

`unet.mid_block.attentions.0.proj_in` is `lora_unet_mid_block_attentions_0_proj_in` there, and
`text_encoder.encoder.layers.0.mlp.fc1` is `lora_te_text_model_encoder_layers_0_mlp_fc1`. A transformer's modules keep
diffusers' dots, `transformer.single_transformer_blocks.0.proj_out`: that form alone do both ComfyUI and diffusers read.
Of Anima both read its own names only, `diffusion_model.blocks.0.self_attn.q_proj`. In the original code of Stable
Diffusion (CompVis', Stability's sgm), `mid_block.attentions.0.proj_in` of a UNet is `middle_block.1.proj_in`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping

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
}
_PREFIXES = {"unet": "unet", "text_encoder": "te", "text_encoder_2": "te2"}


def is_anima(paths: Iterable[str]) -> bool:
    """Whether these are modules of an Anima: no other transformer has two attentions in a block."""
    return any(re.match(r"transformer\.transformer_blocks\.\d+\.attn1\.", path) for path in paths)


def anima_name(path: str) -> str:
    """The name of `transformer.<module>` in Anima's own code, as files of its LoRAs have it."""
    inner = path.removeprefix("transformer.")
    for ours, theirs in _ANIMA.items():
        inner = inner.replace(ours, theirs)
    found = re.sub(r"(self|cross)_attn\.([qkv])$", r"\1_attn.\2_proj", inner)
    return f"diffusion_model.{found}"


def kohya_name(path: str, *, parts: Collection[str]) -> str:
    """The module's name in kohya's files.

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


_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_BLOCK = re.compile(r"(down_blocks|up_blocks)\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")


def original_names(paths: Collection[str]) -> dict[str, str]:
    """Map diffusers' names of a UNet's modules to those of the original code."""
    layers: dict[tuple[str, int], int] = {}
    attentive = set()
    for path in paths:
        if match := _BLOCK.fullmatch(path):
            block = match[1], int(match[2])
            if match[3] == "resnets":
                layers[block] = max(layers.get(block, 0), int(match[4]) + 1)
            attentive |= {block} if match[3] == "attentions" else set()
    starts, count = {}, {"down_blocks": 1, "up_blocks": 0}
    for block in sorted(layers, key=lambda each: each[1]):
        starts[block] = count[block[0]]
        count[block[0]] += layers[block] + (block[0] == "down_blocks")
    return dict(_renamed(paths, layers, attentive, starts))


def _renamed(
    paths: Collection[str],
    layers: Mapping[tuple[str, int], int],
    attentive: set[tuple[str, int]],
    starts: Mapping[tuple[str, int], int],
) -> Iterator[tuple[str, str]]:
    for path in paths:
        if path in _OUTSIDE:
            yield path, _OUTSIDE[path]
        elif match := _MIDDLE.fullmatch(path):
            place = 2 * int(match[2]) if match[1] == "resnets" else 1
            yield path, f"middle_block.{place}.{_RESNET.get(match[3], match[3])}"
        elif match := _BLOCK.fullmatch(path):
            block, kind, number, inner = (match[1], int(match[2])), match[3], int(match[4]), match[5]
            blocks = "input_blocks" if block[0] == "down_blocks" else "output_blocks"
            if kind == "downsamplers":
                yield path, f"{blocks}.{starts[block] + layers[block]}.0.{'op' if inner == 'conv' else inner}"
            elif kind == "upsamplers":
                yield path, f"{blocks}.{starts[block] + layers[block] - 1}.{1 + (block in attentive)}.{inner}"
            else:
                place, inner = (0, _RESNET.get(inner, inner)) if kind == "resnets" else (1, inner)
                yield path, f"{blocks}.{starts[block] + number}.{place}.{inner}"
