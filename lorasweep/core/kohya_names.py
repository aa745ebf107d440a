"""Names in kohya's and LyCORIS's files: what ComfyUI, A1111 and their kin look for.

`unet.mid_block.attentions.0.proj_in` is `lora_unet_mid_block_attentions_0_proj_in` there, and
`text_encoder.encoder.layers.0.mlp.fc1` is `lora_te_text_model_encoder_layers_0_mlp_fc1`.
"""

from __future__ import annotations

_PREFIXES = {"unet": "lora_unet_", "text_encoder": "lora_te_text_model_"}


def kohya_name(path: str) -> str:
    """The module's name in kohya's files.

    Args:
        path: part and module, `unet.<module>` or `text_encoder.<module>`. transformers 5.6 took `text_model`
            out of its modules' names; the UIs still want it, and drop a file's text encoder without it.
    """
    part, module = path.split(".", 1)
    return _PREFIXES[part] + module.removeprefix("text_model.").replace(".", "_")
