"""What a whole checkpoint holds, under the names of the original code: every weight and bias of every part. No torch.

Made from diffusers' names, which ship with the configs of a family; those of the VAE, which is the same one in all of
them, from how it is built.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from lorasweep.components.bases._families import Family
from lorasweep.core.original_names import original_names

Shape = tuple[int, ...]
Wanted = tuple[list[str], Shape | None]  # a tensor: names that it may have, and its shape where that is known

_WITHOUT_BIAS = re.compile(r".*(to_[qkv]|_embedding|text_projection)")
# The second text encoder of an SDXL is OpenCLIP's, which keeps queries, keys and values in one tensor.
_OPEN_CLIP = {
    r"^embeddings\.position_embedding\.weight": "positional_embedding",
    r"^embeddings\.token_embedding": "token_embedding",
    r"^encoder\.layers": "transformer.resblocks",
    r"^final_layer_norm": "ln_final",
    r"^text_projection\.weight": "text_projection",
    r"layer_norm(\d)": r"ln_\1",
    r"self_attn\.[qkv]_proj\.": "attn.in_proj_",
    r"self_attn\.": "attn.",
    r"mlp\.fc1": "mlp.c_fc",
    r"mlp\.fc2": "mlp.c_proj",
}


def expected(modules: Mapping[str, Mapping[str, Shape]], family: Family) -> Iterator[Wanted]:
    """Return every tensor that a checkpoint holds, by `modules`: shapes of weights by part, in diffusers' names.

    Of parts that are not there nothing is said, but for the VAE, which is known.
    """
    for part, beginnings in zip(family.classes, family.held.values(), strict=True):
        if part in modules or part == "vae":
            for name, shape in dict(_tensors(part, modules.get(part, {}))).items():
                yield [beginning + name for beginning in beginnings], shape


def _tensors(part: str, modules: Mapping[str, Shape]) -> Iterator[tuple[str, Shape | None]]:
    named: Mapping[str, Shape | None] = modules
    if part == "unet":
        named = {original: modules[ours] for ours, original in original_names(modules).items()}
    elif part == "vae":
        named = dict.fromkeys(_vae_modules())
    for module, shape in named.items():
        weight = _renamed(part, f"{module}.weight")
        yield weight, (3 * shape[0], *shape[1:]) if shape and weight.endswith("in_proj_weight") else shape
        if not _WITHOUT_BIAS.fullmatch(module):
            yield _renamed(part, f"{module}.bias"), None


def _renamed(part: str, name: str) -> str:
    for pattern, original in _OPEN_CLIP.items() if part == "text_encoder_2" else ():
        name = re.sub(pattern, original, name)
    return name


def _vae_modules() -> Iterator[str]:
    """Name modules of four levels; halves differ in layers, in where the width changes, and in where the size does."""
    layers = ("norm1", "conv1", "norm2", "conv2")
    yield from ("quant_conv", "post_quant_conv")
    for half, levels, blocks, wider, resized in (
        ("encoder", "down", 2, (1, 2), (0, 1, 2)),
        ("decoder", "up", 3, (0, 1), (1, 2, 3)),
    ):
        yield from (f"{half}.{end}" for end in ("conv_in", "norm_out", "conv_out"))
        yield from (f"{half}.mid.attn_1.{each}" for each in ("norm", "q", "k", "v", "proj_out"))
        yield from (f"{half}.mid.block_{block}.{each}" for block in (1, 2) for each in layers)
        for level in range(4):
            at = f"{half}.{levels}.{level}"
            yield from (f"{at}.block.{block}.{each}" for block in range(blocks) for each in layers)
            if level in wider:
                yield f"{at}.block.0.nin_shortcut"
            if level in resized:
                yield f"{at}.{levels}sample.conv"
