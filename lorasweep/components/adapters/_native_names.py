"""What the original code of transformers calls their modules, where diffusers has other names or splits them. No torch.

    transformer.transformer_blocks.0.attn.to_q, .to_k, .to_v   are rows of   double_blocks.0.img_attn.qkv

Source: huggingface/diffusers, loaders/lora_conversion_utils.py and loaders/single_file_utils.py, read the other way
round.
"""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from lorasweep.core.kohya_names import is_anima, is_lumina2, own_name

_FLUX_DOUBLE = {
    "img_attn.qkv": "attn.to_q attn.to_k attn.to_v",
    "txt_attn.qkv": "attn.add_q_proj attn.add_k_proj attn.add_v_proj",
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.proj": "attn.to_add_out",
}
_XLABS = {f"processor.{name}{number}": _FLUX_DOUBLE[f"{stream}_attn.{name}"]
          for name in ("qkv", "proj") for number, stream in ((1, "img"), (2, "txt"))}  # fmt: skip
_KREA_2 = {
    **{f"attn.w{letter}": f"attn.to_{letter}" for letter in "qkv"},
    "attn.wo": "attn.to_out.0",
    "attn.gate": "attn.to_gate",
    **{f"mlp.{name}": f"ff.{name}" for name in ("gate", "up", "down")},
}
# Blocks here, blocks there, and in each the module there -> those here whose outputs it has one after another. What a
# base does not have is not looked for in it.
_BLOCKS: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    (  # FLUX.1, Chroma
        "transformer_blocks",
        "double_blocks",
        {
            **_FLUX_DOUBLE,
            **_XLABS,
            "img_mlp.0": "ff.net.0.proj",
            "img_mlp.2": "ff.net.2",
            "txt_mlp.0": "ff_context.net.0.proj",
            "txt_mlp.2": "ff_context.net.2",
            "img_mod.lin": "norm1.linear",
            "txt_mod.lin": "norm1_context.linear",
        },
    ),
    (
        "single_transformer_blocks",
        "single_blocks",
        {
            "linear1": "attn.to_q attn.to_k attn.to_v proj_mlp",
            "linear2": "proj_out",
            "modulation.lin": "norm.linear",
            "processor.qkv": "attn.to_q attn.to_k attn.to_v",
            "processor.proj": "proj_out",
        },
    ),
    (
        "distilled_guidance_layer.layers",
        "distilled_guidance_layer.layers",
        {"in_layer": "linear_1", "out_layer": "linear_2"},
    ),
    (  # FLUX.2
        "transformer_blocks",
        "double_blocks",
        {
            **_FLUX_DOUBLE,
            "img_mlp.0": "ff.linear_in",
            "img_mlp.2": "ff.linear_out",
            "txt_mlp.0": "ff_context.linear_in",
            "txt_mlp.2": "ff_context.linear_out",
        },
    ),
    (
        "single_transformer_blocks",
        "single_blocks",
        {"linear1": "attn.to_qkv_mlp_proj", "linear2": "attn.to_out"},
    ),
    (  # Stable Diffusion 3.5; the text's last block gives nothing on, and is modulated the other way round
        "transformer_blocks",
        "joint_blocks",
        {
            "x_block.attn.qkv": "attn.to_q attn.to_k attn.to_v",
            "x_block.attn2.qkv": "attn2.to_q attn2.to_k attn2.to_v",
            "context_block.attn.qkv": "attn.add_q_proj attn.add_k_proj attn.add_v_proj",
            "x_block.attn.proj": "attn.to_out.0",
            "x_block.attn2.proj": "attn2.to_out.0",
            "context_block.attn.proj": "attn.to_add_out",
            "x_block.mlp.fc1": "ff.net.0.proj",
            "x_block.mlp.fc2": "ff.net.2",
            "context_block.mlp.fc1": "ff_context.net.0.proj",
            "context_block.mlp.fc2": "ff_context.net.2",
            "x_block.adaLN_modulation.1": "norm1.linear",
            "context_block.adaLN_modulation.1": "norm1_context.linear",
        },
    ),
    *(  # Z-Image, Ideogram 4
        (
            blocks,
            blocks,
            {
                "attention.qkv": "attention.to_q attention.to_k attention.to_v",
                "attention.out": "attention.to_out.0",
                "attention.o": "attention.to_out.0",
            },
        )
        for blocks in ("layers", "noise_refiner", "context_refiner")
    ),
    *(  # Krea 2
        (here, there, _KREA_2)
        for here, there in (
            ("transformer_blocks", "blocks"),
            ("text_fusion.layerwise_blocks", "txtfusion.layerwise_blocks"),
            ("text_fusion.refiner_blocks", "txtfusion.refiner_blocks"),
        )
    ),
)
_SWAPPED = "norm_out.linear"  # scale and shift here, shift and scale there
# Modules outside blocks, there and here.
_OUTSIDE = (
    ("img_in", "x_embedder"),  # FLUX.1, FLUX.2, Chroma
    ("txt_in", "context_embedder"),
    ("final_layer.linear", "proj_out"),  # and Stable Diffusion 3.5
    ("final_layer.adaLN_modulation.1", _SWAPPED),
    *(
        (f"{theirs}.{end}", f"{ours}.linear_{number}")
        for theirs, ours in (
            ("time_in", "time_text_embed.timestep_embedder"),
            ("vector_in", "time_text_embed.text_embedder"),
            ("guidance_in", "time_text_embed.guidance_embedder"),
            ("time_in", "time_guidance_embed.timestep_embedder"),
            ("guidance_in", "time_guidance_embed.guidance_embedder"),
        )
        for number, end in ((1, "in_layer"), (2, "out_layer"))
    ),
    *((f"{name}.lin", f"{name}.linear") for name in
      ("double_stream_modulation_img", "double_stream_modulation_txt", "single_stream_modulation")),
    ("x_embedder.proj", "pos_embed.proj"),  # Stable Diffusion 3.5
    ("t_embedder.mlp.0", "time_text_embed.timestep_embedder.linear_1"),
    ("t_embedder.mlp.2", "time_text_embed.timestep_embedder.linear_2"),
    ("y_embedder.mlp.0", "time_text_embed.text_embedder.linear_1"),
    ("y_embedder.mlp.2", "time_text_embed.text_embedder.linear_2"),
    ("x_embedder", "all_x_embedder.2-1"),  # Z-Image
    ("final_layer.linear", "all_final_layer.2-1.linear"),
    ("final_layer.adaLN_modulation.1", "all_final_layer.2-1.adaLN_modulation.1"),
    ("first", "img_in"),  # Krea 2
    ("tmlp.0", "time_embed.linear_1"),
    ("tmlp.2", "time_embed.linear_2"),
    ("tproj.1", "time_mod_proj"),
    ("txtmlp.1", "txt_in.linear_1"),
    ("txtmlp.3", "txt_in.linear_2"),
    ("txtfusion.projector", "text_fusion.projector"),
    ("last.linear", "final_layer.linear"),
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where a module of a file goes."""

    paths: tuple[str, ...]  # of the base's modules, whose outputs stand one after another in the file's
    swapped: bool = False  # whether the halves of its outputs change places


def native_places(paths: Collection[str]) -> Iterator[tuple[str, Place]]:
    """Name modules, `transformer.<module>`, as their original code does; those without such a name are left out."""
    known = set(paths)
    if base := "anima" if is_anima(known) else "lumina2" if is_lumina2(known) else "":
        named = sorted((own_name(path, base), "qkv".find(path[-1]), path) for path in known)
        for name, group in itertools.groupby(named, operator.itemgetter(0)):
            yield name.removeprefix("diffusion_model."), Place(tuple(path for _, _, path in group))
        return
    for here, there, names in _BLOCKS:
        block = re.compile(rf"transformer\.{re.escape(here)}\.(\d+)\.")
        for number in sorted({match[1] for path in known if (match := block.match(path))}):
            for theirs, ours in names.items():
                found = tuple(f"transformer.{here}.{number}.{name}" for name in ours.split())
                if known.issuperset(found):
                    is_last = f"transformer.{here}.{number}.attn.to_add_out" not in known
                    yield f"{there}.{number}.{theirs}", Place(found, theirs.startswith("context_block.ada") and is_last)
    for theirs, ours in _OUTSIDE:
        if (path := f"transformer.{ours}") in known:
            yield theirs, Place((path,), ours == _SWAPPED)
