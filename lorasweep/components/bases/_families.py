"""Tell what a file of weights is, when it is no whole Stable Diffusion 1.x or 2.x. No torch.

Published files state their family nowhere; everybody tells them by a tensor that only they have, with or
without the prefix that the original code gives its UNet.

Source: diffusers (loaders/single_file_utils.py) and ComfyUI (model_detection.py) go by the same names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from lorasweep.core.safetensors_header import Tensor

UNET = "model.diffusion_model."
PARTS = {  # of a checkpoint: name for people -> what the names of its tensors begin with
    "UNet": (UNET,),
    "VAE": ("first_stage_model.", "vae."),
    "text encoder": ("cond_stage_model.transformer.text_model.", "cond_stage_model.model."),
}

_WHOLE = "give a whole checkpoint or a diffusers folder of Stable Diffusion 1.x or 2.x"
_OF_BASE = "give the base that it was made for"
_LATER = "lorasweep trains Stable Diffusion 1.x and 2.x"

_OTHERS = (  # how some tensor's name begins, what the file is, next step
    (r".*(lora_(up|down|A|B|te|unet)|lora\.(up|down)\.|lycoris_|hada_w|lokr_w)", "a LoRA", _OF_BASE),
    (r".*(\.absmax|\.quant_map|scale_weight|scaled_fp8)$", "quantised, made for drawing only", _WHOLE),
    (r"(controlnet_|control_model\.|input_hint_block|lllite_)", "a ControlNet", _OF_BASE),
    (r"(ip_adapter|image_proj)\.", "an IP-Adapter", _OF_BASE),
    (r".*motion_modules\.", "a motion module", _OF_BASE),
    (r"(emb_params|string_to_param|clip_[gl])$", "an embedding of a few tokens", _OF_BASE),
    (r"conditioner\.embedders\.1\.", "an SDXL checkpoint", _LATER),
    (r"conditioner\.embedders\.", "an SDXL refiner", _LATER),
    (r"edm_(mean|std|vpred)", "a checkpoint in the EDM formulation", _LATER),
    (r".*llm_adapter\.", "an Anima", _LATER),
    (r"distilled_guidance_layer\.", "a Chroma", _LATER),
    (r"joint_blocks\.", "a Stable Diffusion 3", _LATER),
    (r"(single|double)_stream_modulation", "a FLUX.2", _LATER),
    (r"(double_blocks|single_transformer_blocks)\.", "a FLUX.1", _LATER),
    (r"cap_embedder\.", "a Lumina 2 or Z-Image", _LATER),
    (r"(txt_in\.|txtfusion\.|transformer_blocks\.0\.img_mod\.)", "a Qwen-Image or one of its kin", _LATER),
    (r"(adaln_single|y_embedder)\.", "a PixArt", _LATER),
)
_ALONE = (  # one part, under the names that it has outside a checkpoint
    (r"(down_blocks|input_blocks)\.", "a UNet alone"),
    (r"(encoder\.(down|mid|conv_in)|decoder\.(up|mid|conv_in)|post_quant_conv)", "a VAE alone"),
    (r"(text_model|transformer\.resblocks|encoder\.block)\.", "a text encoder alone"),
)
_EDITING = {9: "an inpainting UNet", 8: "a picture-editing UNet", 5: "a depth UNet"}  # by input channels


def name_other(tensors: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """Say what a file is that cannot be a base here, and the next step; None when it can."""
    plain = [name.removeprefix(UNET) for name in tensors]
    for beginning, what, hint in _OTHERS:
        if any(re.match(beginning, name) for name in plain):
            return what, hint
    if not any(name.startswith(UNET) for name in tensors):
        alone = (what for beginning, what in _ALONE if any(re.match(beginning, name) for name in tensors))
        return next(alone, "nothing that is known"), _WHOLE
    first = tensors.get(f"{UNET}input_blocks.0.0.weight")
    channels = first.shape[1] if first is not None and len(first.shape) == 4 else 4
    if channels != 4:
        kind = _EDITING.get(channels, "another UNet")
        return f"{kind} with {channels} input channels instead of 4", _WHOLE
    return None


def missing_parts(tensors: Mapping[str, Tensor]) -> list[str]:
    """Name the parts of Stable Diffusion of which a checkpoint holds nothing."""
    return [part for part, beginnings in PARTS.items() if not any(name.startswith(beginnings) for name in tensors)]
