"""The tiny base as one checkpoint file under the names of the original Stable Diffusion code.

Published checkpoints come this way. Written from the layout of CompVis' modules: numbered input, middle and
output blocks in the UNet, `down.i.block.j` in the VAE, the text encoder under `cond_stage_model.transformer`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from lorasweep.components.bases import _files
from lorasweep.components.bases._checkpoint_names import expected
from lorasweep.components.bases._families import Family

LAYERS = 1  # residual blocks per level of the tiny UNet
VAE_LEVELS = 3

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def write_checkpoint(folder: Path, file: Path) -> Path:
    """Write the weights of the diffusers folder as one file; returns it."""
    unet = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    vae = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
    text = load_file(folder / "text_encoder" / "model.safetensors")
    tensors = {f"model.diffusion_model.{unet_name(name, attended=False)}": tensor for name, tensor in unet.items()}
    for name, tensor in vae.items():
        # The original's attention is made of 1 x 1 convolutions.
        is_projection = ".attentions." in name and tensor.ndim == 2
        tensors[f"first_stage_model.{vae_name(name)}"] = tensor[:, :, None, None] if is_projection else tensor
    for name, tensor in text.items():
        plain = name.removeprefix("text_model.")
        tensors[f"cond_stage_model.transformer.text_model.{plain}"] = tensor
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    return file


def headed(file: Path, shapes: Mapping[str, list[int]]) -> Path:
    """A safetensors file of nothing but a header, which is all that checking reads."""
    entries = {name: {"dtype": "F16", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    text = json.dumps(entries).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text)
    return file


def all_names(family: Family) -> dict[str, list[int]]:
    """Every tensor that a checkpoint of the family must hold, and its shape; biases and the VAE's have made up ones."""
    modules = _files.known_shapes(family.shipped, family)
    return {names[0]: list(shape or [1]) for names, shape in expected(modules, family)}


def same_tensors(left: torch.nn.Module, right: torch.nn.Module) -> bool:
    """Whether two modules hold equal tensors under equal names."""
    mine, theirs = left.state_dict(), right.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


def unet_name(name: str, *, attended: bool) -> str:
    """Name a tensor; `attended`: whether the blocks before an upsampler attend to the text."""
    for ours, original in _UNET_ENDS.items():
        if name.startswith(f"{ours}."):
            return original + name.removeprefix(ours)
    if match := re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.+)", name):
        side, level, kind, layer, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
        place = (LAYERS + 1) * level + layer + (1 if side == "down" else 0)
        block = "input_blocks" if side == "down" else "output_blocks"
        return f"{block}.{place}.{0 if kind == 'resnets' else 1}.{_resnet(rest) if kind == 'resnets' else rest}"
    if match := re.fullmatch(r"down_blocks\.(\d+)\.downsamplers\.0\.conv\.(.+)", name):
        return f"input_blocks.{(LAYERS + 1) * (int(match[1]) + 1)}.0.op.{match[2]}"
    if match := re.fullmatch(r"up_blocks\.(\d+)\.upsamplers\.0\.(.+)", name):
        return f"output_blocks.{(LAYERS + 1) * int(match[1]) + LAYERS}.{1 + attended}.{match[2]}"
    if match := re.fullmatch(r"mid_block\.attentions\.0\.(.+)", name):
        return f"middle_block.1.{match[1]}"
    match = re.fullmatch(r"mid_block\.resnets\.(\d)\.(.+)", name)
    assert match, name
    return f"middle_block.{2 * int(match[1])}.{_resnet(match[2])}"


def _resnet(rest: str) -> str:
    part, leaf = rest.rsplit(".", 1)
    return f"{_RESNET[part]}.{leaf}"


def vae_name(name: str) -> str:
    name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
    name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    for ours, original in (("resnets", "block"), ("upsamplers", "upsample")):
        name = re.sub(
            rf"up_blocks\.(\d)\.{ours}\.(\d)",
            lambda match, original=original: (  # type: ignore[misc]
                f"up.{VAE_LEVELS - 1 - int(match[1])}.{original}" + (f".{match[2]}" if original == "block" else "")
            ),
            name,
        )
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}", name)
    if match := re.fullmatch(r"(.+)mid_block\.attentions\.0\.(.+)\.(weight|bias)", name):
        return f"{match[1]}mid.attn_1.{_VAE_ATTENTION[match[2]]}.{match[3]}"
    return name
