"""Names in the original code of Stable Diffusion (CompVis', Stability's sgm), made from diffusers' names of a UNet.

`mid_block.attentions.0.proj_in` is `middle_block.1.proj_in` there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

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
