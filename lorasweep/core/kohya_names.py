"""Names in kohya's and LyCORIS's files: what ComfyUI, A1111 and their kin look for.

`unet.mid_block.attentions.0.proj_in` is `lora_unet_mid_block_attentions_0_proj_in` there, and
`text_encoder.encoder.layers.0.mlp.fc1` is `lora_te_text_model_encoder_layers_0_mlp_fc1`.
"""

from __future__ import annotations

from lorasweep.core.protocols import is_text_encoder

_PREFIXES = {"unet": "unet", "text_encoder": "te", "text_encoder_2": "te2"}


def kohya_name(path: str, *, numbered: bool) -> str:
    """The module's name in kohya's files.

    Args:
        path: part and module, `unet.<module>` or `text_encoder.<module>`. transformers 5.6 took `text_model`
            out of its modules' names; the UIs still want it, and drop a file's text encoder without it.
        numbered: whether there is a second text encoder, so that the first is called `te1`.
    """
    part, module = path.split(".", 1)
    prefix = "te1" if numbered and part == "text_encoder" else _PREFIXES[part]
    inner = f"text_model.{module.removeprefix('text_model.')}" if is_text_encoder(part) else module
    return f"lora_{prefix}_{inner.replace('.', '_')}"
