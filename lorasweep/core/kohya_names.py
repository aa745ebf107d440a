"""Names in kohya's and LyCORIS's files: what ComfyUI, A1111 and their kin look for.

`unet.mid_block.attentions.0.proj_in` is `lora_unet_mid_block_attentions_0_proj_in` there, and
`text_encoder.encoder.layers.0.mlp.fc1` is `lora_te_text_model_encoder_layers_0_mlp_fc1`. A transformer's modules keep
diffusers' dots, `transformer.single_transformer_blocks.0.proj_out`: that form alone do both ComfyUI and diffusers read.
"""

from __future__ import annotations

from collections.abc import Collection

from lorasweep.core.protocols import is_text_encoder

_PREFIXES = {"unet": "unet", "text_encoder": "te", "text_encoder_2": "te2"}


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
