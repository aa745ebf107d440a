"""The families of bases that are trained here, and how a file of weights tells which one it is, if any. No torch.

Published files state their family nowhere; everybody tells them by a tensor that only they have, with or
without the prefix that the original code gives its UNet.

Source: diffusers (loaders/single_file_utils.py) and ComfyUI (model_detection.py) go by the same names.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lorasweep.components.bases._scopes import (
    ANIMA_SCOPES,
    ERNIE_SCOPES,
    FLUX2_SCOPES,
    FLUX_SCOPES,
    IDEOGRAM4_SCOPES,
    KREA2_SCOPES,
    LUMINA2_SCOPES,
    QWEN21_SCOPES,
    QWEN_SCOPES,
    SD35_SCOPES,
    UNET_SCOPES,
    Z_IMAGE_SCOPES,
)
from lorasweep.core.safetensors_header import Tensor

UNET = "model.diffusion_model."
UNCONDITIONAL = "unconditional_transformer"  # the part that answers without a prompt, where that is one of its own


@dataclass(frozen=True, kw_only=True)
class Family:
    """What bases of one kind have in common."""

    name: str  # as chosen in a recipe, `base=<name>`
    title: str  # for people
    pipeline: str  # diffusers' class
    formerly: str = ""  # what folders that were saved earlier call it
    loaded: tuple[str, str]  # module here and class of what it is once loaded
    scopes: Mapping[str, str]  # `adapter.targets` -> pattern of the names of modules, with a dot in front
    classes: Mapping[str, str]  # of parts with weights, the denoiser first, text encoders in the order of reading
    frozen: tuple[str, ...] = ()  # text encoders that no adapter sits on
    words: tuple[str, ...] = ()  # folders of what cuts captions into tokens; empty: one per text encoder
    window: str = "tokenizer"  # whose length is how much of a caption is read at once
    tokens: tuple[int, int] | None = None  # that length where files lack it, and what the words around a caption take
    cut: bool = False  # whether what goes beyond is left out, rather than read in further chunks
    scheduler: str = "DDPMScheduler"  # diffusers' class of its noise
    predicts: tuple[str, ...] = ("epsilon", "v_prediction")  # the first where its files say nothing
    patch: int = 1  # latents along a side that sizes must divide by
    added: tuple[str | None, ...] = ()  # the UNet's `addition_embed_type`s
    shipped: Path = Path()  # folder of configs and tokenizers, for checkpoints that have none beside them
    # Parts of a checkpoint, for people -> what their tensors' names begin with; empty: no checkpoints, folders only.
    held: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    mark: str = ""  # what a tensor's name begins with in checkpoints of this family only
    index: str = "model_index.json"  # the file that says a folder's pipeline
    alone: str = ""  # how a tensor's name begins in files of the denoiser alone
    distilled: tuple[str, str, bool] | None = None  # what tells those that draw in a few steps: file, key, value
    distilled_shift: float | None = None  # of their drawing, where it is not the one that their scheduler's config says
    # What a pass holds at once in bf16 with a LoRA on `attn-mlp`, for sizes of the denoiser: its
    # `_footprint.width_of`, and bytes per latent position and image of a training step, of one with gradient
    # checkpointing, and of a pass without gradients. At 1024 px (SD 1.5 at 512 px): `benchmarks/memory.py`.
    kept: tuple[tuple[int, int, int, int], ...] = (
        (137_952, 335_000, 86_000, 26_000),
        (253_864, 549_000, 49_000, 18_000),
    )
    # Programs that read its exported LoRAs, where not all do that read a transformer's.
    read_by: tuple[str, ...] = ()
    # What exported files call them, by the width of the text: kohya's version, whether it is 2.x, and modelspec's
    # architecture; one without a second holds for all widths, none says nothing.
    versions: Mapping[int, tuple[str, bool, str]] = field(default_factory=dict)

    @property
    def denoiser(self) -> str:
        """The part that answers."""
        return next(iter(self.classes))

    @property
    def text_encoders(self) -> list[str]:
        """Parts that read captions."""
        return [part for part in self.classes if part.startswith("text_")]

    @property
    def parts(self) -> list[str]:
        """What adapters may sit on, the denoiser first."""
        return [self.denoiser, *(part for part in self.text_encoders if part not in self.frozen)]

    @property
    def tokenizers(self) -> list[str]:
        """Folders of what cuts captions into tokens, one per text encoder."""
        return [*self.words] or [part.replace("text_encoder", "tokenizer") for part in self.text_encoders]

    @property
    def sibling(self) -> Family:
        """What is read of a base that only draws: its denoiser and its noise."""
        return replace(self, classes={self.denoiser: self.classes[self.denoiser]}, words=())

    @property
    def all_parts(self) -> list[str]:
        """Every folder that is read."""
        return [*self.classes, *self.tokenizers, "scheduler"]


_HERE = Path(__file__).parent
_COMMON = {"UNet": (UNET,), "VAE": ("first_stage_model.", "vae.")}

STABLE_DIFFUSION = Family(
    name="stable_diffusion",
    title="Stable Diffusion 1.x or 2.x",
    pipeline="StableDiffusionPipeline",
    loaded=("_unet", "StableDiffusionBase"),
    scopes=UNET_SCOPES,
    classes={"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"},
    added=(None, "text"),
    shipped=_HERE / "sd1",
    held=_COMMON | {"text encoder": ("cond_stage_model.transformer.text_model.", "cond_stage_model.model.")},
    mark="cond_stage_model.",
    versions={768: ("sd_v1", False, "stable-diffusion-v1/lora"), 1024: ("sd_v2", True, "stable-diffusion-v2/lora")},
)
SDXL = Family(
    name="sdxl",
    title="Stable Diffusion XL",
    pipeline="StableDiffusionXLPipeline",
    loaded=("_unet", "StableDiffusionXLBase"),
    scopes=UNET_SCOPES,
    classes={
        "unet": "UNet2DConditionModel",
        "vae": "AutoencoderKL",
        "text_encoder": "CLIPTextModel",
        "text_encoder_2": "CLIPTextModelWithProjection",
    },
    added=("text_time",),
    shipped=_HERE / "sdxl_configs",
    held=_COMMON
    | {
        "text encoder": ("conditioner.embedders.0.transformer.text_model.",),
        "second text encoder": ("conditioner.embedders.1.model.",),
    },
    mark="conditioner.embedders.1.",
    versions={2048: ("sdxl_base_v1-0", False, "stable-diffusion-xl-v1-base/lora")},
)
_FLOW: dict[str, Any] = {
    "cut": True,
    "scheduler": "FlowMatchEulerDiscreteScheduler",
    "predicts": ("flow",),
    "patch": 2,
}
DOLLHOUSE_FLOW = Family(
    name="dollhouse_flow",
    title="the flow-matching dollhouse",
    pipeline="FluxPipeline",
    loaded=("_t5", "FluxBase"),
    scopes=FLUX_SCOPES,
    classes={
        "transformer": "FluxTransformer2DModel",
        "vae": "AutoencoderKL",
        "text_encoder": "CLIPTextModel",
        "text_encoder_2": "CLIPTextModel",
    },
    frozen=("text_encoder_2",),
    window="tokenizer_2",
    kept=((5_421_440, 2_389_000, 184_000, 60_000),),
    **_FLOW,
)
FLUX1_DEV = replace(
    DOLLHOUSE_FLOW,
    name="flux1_dev",
    title="FLUX.1 dev",
    classes={**DOLLHOUSE_FLOW.classes, "text_encoder_2": "T5EncoderModel"},
    tokens=(512, 1),
    alone=r"(double_blocks|single_transformer_blocks)\.",
    distilled=("scheduler/scheduler_config.json", "use_dynamic_shifting", False),
)
Z_IMAGE = Family(
    name="z_image",
    title="Z-Image",
    pipeline="ZImagePipeline",
    loaded=("_language", "ZImageBase"),
    scopes=Z_IMAGE_SCOPES,
    classes={"transformer": "ZImageTransformer2DModel", "vae": "AutoencoderKL", "text_encoder": "Qwen3Model"},
    frozen=("text_encoder",),
    tokens=(512, 8),
    alone=r"(cap_embedder\.|layers\.0\.attention\.)",
    kept=((3_001_216, 2_531_000, 169_000, 43_000),),
    **_FLOW,
)
FLUX2_KLEIN = Family(
    name="flux2_klein",
    title="FLUX.2 klein base",
    pipeline="Flux2KleinPipeline",
    loaded=("_language", "Flux2KleinBase"),
    scopes=FLUX2_SCOPES,
    classes={"transformer": "Flux2Transformer2DModel", "vae": "AutoencoderKLFlux2", "text_encoder": "Qwen3Model"},
    frozen=("text_encoder",),
    tokens=(512, 12),
    alone=r"(single|double)_stream_modulation",
    distilled=("model_index.json", "is_distilled", True),
    kept=((1_596_416, 1_189_000, 126_000, 63_000), (2_843_136, 2_028_000, 184_000, 86_000)),
    **_FLOW,
)
ANIMA = Family(
    name="anima",
    title="Anima",
    pipeline="AnimaModularPipeline",
    loaded=("_qwen", "AnimaBase"),
    scopes=ANIMA_SCOPES,
    classes={
        "transformer": "CosmosTransformer3DModel",
        "vae": "AutoencoderKLQwenImage",
        "text_encoder": "Qwen3Model",
        "text_conditioner": "AnimaTextConditioner",
    },
    frozen=("text_encoder", "text_conditioner"),
    words=("tokenizer", "t5_tokenizer"),
    window="t5_tokenizer",
    tokens=(512, 1),
    index="modular_model_index.json",
    alone=r"(net\.)?(blocks\.0\.self_attn|transformer_blocks\.0\.attn1)\.",
    kept=((2_187_908, 1_080_000, 87_000, 26_000),),
    **_FLOW,
)
QWEN_IMAGE = Family(
    name="qwen_image",
    title="Qwen-Image",
    pipeline="QwenImagePipeline",
    loaded=("_qwen", "QwenImageBase"),
    scopes=QWEN_SCOPES,
    classes={
        "transformer": "QwenImageTransformer2DModel",
        "vae": "AutoencoderKLQwenImage",
        "text_encoder": "Qwen2_5_VLForConditionalGeneration",
    },
    frozen=("text_encoder",),
    tokens=(512, 5),
    alone=r"transformer_blocks\.\d+\.img_mod\.",
    kept=((9_247_616, 2_858_000, 190_000, 58_000),),
    **_FLOW,
)
CHROMA = Family(
    name="chroma",
    title="Chroma",
    pipeline="ChromaPipeline",
    loaded=("_t5", "ChromaBase"),
    scopes=FLUX_SCOPES,
    classes={"transformer": "ChromaTransformer2DModel", "vae": "AutoencoderKL", "text_encoder": "T5EncoderModel"},
    frozen=("text_encoder",),
    tokens=(512, 1),
    alone=r"distilled_guidance_layer\.",
    kept=((4_214_976, 2_387_000, 183_000, 59_000),),
    **_FLOW,
)
SD35 = Family(
    name="sd35",
    title="Stable Diffusion 3.5",
    pipeline="StableDiffusion3Pipeline",
    loaded=("_t5", "StableDiffusion3Base"),
    scopes=SD35_SCOPES,
    classes={
        "transformer": "SD3Transformer2DModel",
        "vae": "AutoencoderKL",
        "text_encoder": "CLIPTextModelWithProjection",
        "text_encoder_2": "CLIPTextModelWithProjection",
        "text_encoder_3": "T5EncoderModel",
    },
    frozen=("text_encoder", "text_encoder_2", "text_encoder_3"),
    window="tokenizer_3",
    tokens=(256, 1),
    alone=r"(joint_blocks|pos_embed\.proj)\.",
    kept=((2_063_184, 755_000, 119_000, 77_000), (4_617_552, 1_407_000, 133_000, 57_000)),
    **_FLOW,
)
KREA2 = Family(
    name="krea2",
    title="Krea 2 Raw",
    pipeline="Krea2Pipeline",
    loaded=("_qwen", "Krea2Base"),
    scopes=KREA2_SCOPES,
    classes={
        "transformer": "Krea2Transformer2DModel",
        "vae": "AutoencoderKLQwenImage",
        "text_encoder": "Qwen3VLModel",
    },
    frozen=("text_encoder",),
    tokens=(512, 5),
    alone=r"(txtfusion|text_fusion)\.",
    distilled=("model_index.json", "is_distilled", True),
    distilled_shift=math.exp(1.15),
    kept=((3_665_805, 2_882_000, 252_000, 67_000),),
    **_FLOW,
)
ERNIE_IMAGE = Family(
    name="ernie_image",
    title="ERNIE-Image",
    pipeline="ErnieImagePipeline",
    loaded=("_language", "ErnieImageBase"),
    scopes=ERNIE_SCOPES,
    classes={
        "transformer": "ErnieImageTransformer2DModel",
        "vae": "AutoencoderKLFlux2",
        "text_encoder": "Mistral3Model",
    },
    frozen=("text_encoder",),
    tokens=(512, 1),
    alone=r"layers\.\d+\.self_attention\.",
    kept=((1_450_240, 1_645_000, 147_000, 49_000),),
    **_FLOW,
)
IDEOGRAM4 = Family(
    name="ideogram4",
    title="Ideogram 4",
    pipeline="Ideogram4Pipeline",
    loaded=("_language", "Ideogram4Base"),
    scopes=IDEOGRAM4_SCOPES,
    classes={
        "transformer": "Ideogram4Transformer2DModel",
        UNCONDITIONAL: "Ideogram4Transformer2DModel",
        "vae": "AutoencoderKLFlux2",
        "text_encoder": "Qwen3VLModel",
    },
    frozen=("text_encoder",),
    tokens=(2048, 8),
    alone=r"llm_cond_(norm|proj)\.",
    kept=((3_721_474, 3_562_000, 220_000, 186_000),),
    **_FLOW,
)
QWEN_IMAGE_21 = Family(
    name="qwen_image_21",
    title="Qwen-Image 2.1",
    pipeline="QwenImage21Pipeline",
    loaded=("_qwen", "QwenImage21Base"),
    scopes=QWEN21_SCOPES,
    classes={
        "transformer": "QwenImage21Transformer2DModel",
        "vae": "AutoencoderKLQwenImage21",
        "text_encoder": "Qwen3VLForConditionalGeneration",
    },
    frozen=("text_encoder",),
    words=("processor",),
    window="processor",
    tokens=(1024, 8),
    alone=r"txt_in\.text_norm\.",
    kept=((2_687_360, 10_812_000, 840_000, 287_000),),
    **_FLOW,
)
LUMINA2 = Family(
    name="lumina2",
    title="Lumina-Image 2",
    pipeline="Lumina2Pipeline",
    formerly="Lumina2Text2ImgPipeline",
    loaded=("_language", "Lumina2Base"),
    scopes=LUMINA2_SCOPES,
    classes={"transformer": "Lumina2Transformer2DModel", "vae": "AutoencoderKL", "text_encoder": "Gemma2Model"},
    frozen=("text_encoder",),
    tokens=(256, 31),
    alone=r"(time_caption_embed\.|layers\.0\.adaLN_modulation\.1\.)",
    read_by=("comfyui",),  # diffusers only where all modules of a block are in it, and adapter.safetensors always
    kept=((1_800_320, 1_562_000, 214_000, 38_000),),
    **_FLOW,
)
# Chroma and FLUX.2 have blocks called as FLUX.1's, Lumina 2 as Z-Image's.
FAMILIES = (
    *(STABLE_DIFFUSION, SDXL, CHROMA, FLUX2_KLEIN, FLUX1_DEV, LUMINA2, Z_IMAGE, ANIMA, QWEN_IMAGE, SD35, KREA2),
    *(ERNIE_IMAGE, IDEOGRAM4, QWEN_IMAGE_21),
)

_WHOLE = "give a whole checkpoint or a diffusers folder of {title}"
_OF_BASE = "give the base that it was made for"
_NEVER = "lorasweep does not train these"
_ALONE_HINT = "override: base={}, base.path=its diffusers folder, and this file as base.weights"

_QUANTISED = "quantised, made for drawing only"
QUANTISED_NAMES = (
    r".*(\.absmax|\.quant_map|scale_weight|scaled_fp8|\.(weight_scale|comfy_quant|qweight))$"  # of tensors
)
_OTHERS = (  # how some tensor's name begins, what the file is, next step
    (r".*(lora_(up|down|A|B|te|unet)|lora\.(up|down)\.|lycoris_|hada_w|lokr_w)", "a LoRA", _OF_BASE),
    (QUANTISED_NAMES, _QUANTISED, _WHOLE),
    (r"(controlnet_|control_model\.|input_hint_block|lllite_|lora_controlnet$)", "a ControlNet", _OF_BASE),
    (r"body\.\d+\.(block1|in_conv)\.", "a T2I-Adapter", _OF_BASE),
    (r"(ip_adapter|image_proj)\.", "an IP-Adapter", _OF_BASE),
    (r".*motion_modules\.", "a motion module", _OF_BASE),
    (r"(emb_params|string_to_param|clip_[gl])$", "an embedding of a few tokens", _OF_BASE),
    (
        r"(double_blocks\.\d+\.img_attn_qkv|blocks\.\d+\.self_attn\.q|.*time_stack|patchify_proj)\.",
        "a video model",
        _NEVER,
    ),
    (r"(clip_txt_mapper|effnet_mapper)\.", "a Stable Cascade", _NEVER),
    (r"edm_vpred", "a CosXL, which is noised in the EDM formulation", _NEVER),
    (r"edm_(mean|std)", "a Playground 2.5, which is noised in the EDM formulation", _NEVER),
    (r".*llm_adapter\.", "an Anima", _ALONE_HINT.format("anima")),
    (r"distilled_guidance_layer\.", "a Chroma", _ALONE_HINT.format("chroma")),
    (r"joint_blocks\.", "a Stable Diffusion 3", _ALONE_HINT.format("sd35")),
    (r"(single|double)_stream_modulation", "a FLUX.2", _ALONE_HINT.format("flux2_klein")),
    (r"(double_blocks|single_transformer_blocks)\.", "a FLUX.1", _ALONE_HINT.format("flux1_dev")),
    (r"(time_caption_embed|layers\.0\.adaLN_modulation\.1)\.", "a Lumina 2", _ALONE_HINT.format("lumina2")),
    (r"cap_embedder\.", "a Z-Image", _ALONE_HINT.format("z_image")),
    (r"(txtfusion|text_fusion)\.", "a Krea 2", _ALONE_HINT.format("krea2")),
    (r"transformer_blocks\.0\.img_mod\.", "a Qwen-Image", _ALONE_HINT.format("qwen_image")),
    (r"layers\.\d+\.self_attention\.", "an ERNIE-Image", _ALONE_HINT.format("ernie_image")),
    (r"llm_cond_(norm|proj)\.", "an Ideogram 4", _ALONE_HINT.format("ideogram4")),
    (r"txt_in\.text_norm\.", "a Qwen-Image 2.1", _ALONE_HINT.format("qwen_image_21")),
    (r"txt_in\.", "one of Qwen-Image's kin", _NEVER),
    (r"(adaln_single|y_embedder)\.", "a PixArt", _NEVER),
)
_ALONE = (  # one part, under the names that it has outside a checkpoint
    (r"(down_blocks|input_blocks)\.", "a UNet alone"),
    (r"(first_stage_model\.)?(encoder\.(down|mid|conv_in)|decoder\.(up|mid|conv_in)|post_quant_conv)", "a VAE alone"),
    (r"(text_model|transformer\.resblocks|encoder\.block|model\.(language_model\.)?layers)\.", "a text encoder alone"),
    (r"(vision_model|visual)\.", "an image encoder alone"),
    (r"(model\.0\.weight|conv_first\.)", "an upscaler"),
)
_EDITING = {9: "an inpainting UNet", 8: "a picture-editing UNet", 5: "a depth UNet"}  # by input channels


def family_of(tensors: Mapping[str, Tensor]) -> Family | None:
    """Return the family of a checkpoint; None when it is of none."""
    whole = (family for family in FAMILIES if family.held)
    return next((family for family in whole if any(name.startswith(family.mark) for name in tensors)), None)


def name_other(tensors: Mapping[str, Tensor], family: Family) -> tuple[str, str] | None:
    """Say what a file is that cannot be a base of this family, and the next step; None when it can."""
    whole = _WHOLE.format(title=family.title)
    plain = [name.removeprefix(UNET) for name in tensors]
    for beginning, what, hint in _OTHERS:
        if any(re.match(beginning, name) for name in plain):
            return what, whole if hint is _WHOLE else hint
    found = family_of(tensors)
    if found is None and any(name.startswith("conditioner.embedders.0.model.") for name in tensors):
        return "an SDXL refiner, which nobody trains LoRAs on", "give the SDXL base"
    if found is None and any(name.startswith("conditioner.embedders.") for name in tensors):
        return "an SDXL without its second text encoder", whole
    if not any(name.startswith(UNET) for name in tensors):
        alone = (what for beginning, what in _ALONE if any(re.match(beginning, name) for name in tensors))
        return next(alone, "nothing that is known"), whole
    first = tensors.get(f"{UNET}input_blocks.0.0.weight")
    channels = first.shape[1] if first is not None and len(first.shape) == 4 else 4
    if channels != 4:
        kind = _EDITING.get(channels, "another UNet")
        return f"{kind} with {channels} input channels instead of 4", whole
    if found is not None and found.name != family.name:
        return f"a checkpoint of {found.title}", f"override: base={found.name}"
    return None


def name_alone(tensors: Mapping[str, Tensor], family: Family) -> str | None:
    """Say what a file is, by its names, that cannot be the denoiser of a base of this family; None when it can."""
    plain = [name.removeprefix(UNET) for name in tensors]
    for beginning, what, _ in itertools.takewhile(lambda row: not row[2].startswith("override"), _OTHERS):
        if any(re.match(beginning, name) for name in plain):
            return what
    owners = (each for each in FAMILIES if each.alone and any(re.match(each.alone, name) for name in plain))
    owner = next(owners, None)
    if owner is None:
        return "nothing that is known"
    return None if owner.name == family.name else f"of {owner.title}"
