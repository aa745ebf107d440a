"""Which modules of a denoiser an adapter takes: `adapter.targets` -> pattern of their names, with a dot in front."""

from __future__ import annotations

# Which modules an adapter takes, by their names: queries, keys, values and outputs of attention; the whole transformer
# blocks, as kohya's LoRA; also the residual blocks and the resamplers, as LoCon. 192 modules of SD 1.5's UNet are in
# `attn-mlp` and 72 of its text encoder, 722 of SDXL's UNet.
# Source: kohya-ss/sd-scripts, networks/lora.py, LoRANetwork.*_TARGET_REPLACE_MODULE*.
UNET_SCOPES = {
    "attn": r"\.attn\d\.|\.self_attn\.",
    "attn-mlp": r"\.(attentions|self_attn|mlp)\.",
    "full": r"\.(attentions|resnets|downsamplers|upsamplers|self_attn|mlp)\.",
}
# FLUX.1's: attention of image and text; also the feed-forward layers, where a single block's last takes attention and
# these at once; also the modulation by time and pooled text. 494 modules of the large one are in `full`.
# Source: the layer presets of Nerogar/OneTrainer and what huggingface/diffusers' FLUX example trains.
FLUX_SCOPES = {
    "attn": r"\.(attn|self_attn)\.",
    "attn-mlp": r"\.(attn|ff|ff_context|proj_mlp|self_attn|mlp)(\.|$)|\.single_transformer_blocks\.\d+\.proj_out$",
    "full": r"\.(transformer_blocks|single_transformer_blocks|self_attn|mlp)\.",
}
# FLUX.2's: a single block is one layer that gives queries, keys, values and feed-forward at once and one that takes
# them, so that `attn` holds those too. Modulation is shared by all blocks, and stays out: ComfyUI reads no LoRA of it
# under diffusers' names. 100 modules of klein 4B are in `attn-mlp` and in `full`.
FLUX2_SCOPES = {
    "attn": r"\.attn\.",
    "attn-mlp": r"\.(attn|ff|ff_context)\.",
    "full": r"\.(transformer_blocks|single_transformer_blocks)\.",
}
# Z-Image's: attention everywhere; also the feed-forward layers, but of no refiner; every block.
# Source: the layer presets of Nerogar/OneTrainer. 136, 210 and 270 modules.
Z_IMAGE_SCOPES = {
    "attn": r"\.attention\.",
    "attn-mlp": r"\.layers\.\d+\.(attention|feed_forward)\.",
    "full": r"\.(layers|noise_refiner|context_refiner)\.",
}
# Anima's: attention in the image and to the text; also the feed-forward layers; also the modulation. 224, 280 and 448.
ANIMA_SCOPES = {
    "attn": r"\.attn\d\.",
    "attn-mlp": r"\.(attn\d|ff)\.",
    "full": r"\.transformer_blocks\.",
}
# Qwen-Image's: attention of image and text; also their feed-forward layers; also the modulation. 480, 720 and 840.
QWEN_SCOPES = {
    "attn": r"\.attn\.",
    "attn-mlp": r"\.(attn|img_mlp|txt_mlp)\.",
    "full": r"\.transformer_blocks\.",
}
# Krea 2's: attention; also the feed-forward layers; also what fuses the layers of the text. 140, 224 and 256.
KREA2_SCOPES = {
    "attn": r"\.transformer_blocks\.\d+\.attn\.",
    "attn-mlp": r"\.transformer_blocks\.",
    "full": r"\.(transformer|layerwise|refiner)_blocks\.",
}
# Stable Diffusion 3.5's, as FLUX.1's double blocks. Of medium 243, 337 and 385 modules, of large 303, 453 and 529.
SD35_SCOPES = {
    "attn": r"\.attn2?\.",
    "attn-mlp": r"\.(attn2?|ff|ff_context)\.",
    "full": r"\.transformer_blocks\.",
}
# ERNIE-Image's: attention; also the feed-forward layers, which is all that a block has. 96, 168 and 168 modules.
# Source: the layer presets of Nerogar/OneTrainer.
ERNIE_SCOPES = {
    "attn": r"\.self_attention\.",
    "attn-mlp": r"\.layers\.\d+\.",
    "full": r"\.layers\.\d+\.",
}
# Ideogram 4's: attention; also the feed-forward layers; also the modulation. 136, 238 and 272 modules.
# Source: the layer presets of Nerogar/OneTrainer.
IDEOGRAM4_SCOPES = {
    "attn": r"\.attention\.",
    "attn-mlp": r"\.(attention|feed_forward)\.",
    "full": r"\.layers\.\d+\.",
}
# Qwen-Image 2.1's: attention; also the feed-forward layers; modulation is shared by all blocks. 128, 224 and 224.
QWEN21_SCOPES = {
    "attn": r"\.attn\.",
    "attn-mlp": r"\.(attn|img_mlp)\.",
    "full": r"\.transformer_blocks\.",
}
# Lumina 2's: attention; also the feed-forward layers; also the modulation, as kohya's LoRA. 120, 210 and 238.
LUMINA2_SCOPES = {
    "attn": r"\.attn\.",
    "attn-mlp": r"\.(attn|feed_forward)\.",
    "full": r"\.(layers|noise_refiner|context_refiner)\.",
}
