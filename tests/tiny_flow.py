"""Tiny random transformers that people train on, in diffusers' folder format: real classes, meaningless weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tiny_flux import DYNAMIC, tiny_transformer
from tiny_sd import WORDS, byte_pairs, tiny_clip, tiny_vae

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
)

READER: dict[str, int] = {  # sizes of the language models
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 2048,
}


def make_tiny(name: str, folder: Path) -> Path:
    """Write the folder of the base with that name and return it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for part, saved in _PARTS[name]().items():
            saved.save_pretrained(folder / part)
    index = "modular_model_index.json" if name == "anima" else "model_index.json"
    (folder / index).write_text(json.dumps({"_class_name": PIPELINES[name]}))
    return folder


def _language_model(layers: int = 3) -> dict[str, Any]:
    from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model

    vocab, merges = byte_pairs(WORDS)
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=merges)
    tokenizer.chat_template = CHAT
    config = Qwen3Config(vocab_size=len(tokenizer), num_hidden_layers=layers, **READER)
    return {"text_encoder": Qwen3Model(config), "tokenizer": tokenizer}


def _t5_tokenizer() -> Any:
    from transformers import T5Tokenizer

    marks = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -2.0)]
    return T5Tokenizer(vocab=[*marks, *((letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz,1")], extra_ids=0)


def _scheduler(**config: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**config)


def _flux1_dev() -> dict[str, Any]:
    from transformers import CLIPTokenizer

    vocab, merges = byte_pairs(WORDS)
    return {
        "transformer": tiny_transformer(guidance_embeds=True),
        "vae": tiny_vae(scaling_factor=0.36, shift_factor=0.12),
        "text_encoder": tiny_clip(),
        "text_encoder_2": _t5(48),
        "tokenizer": CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77),
        "tokenizer_2": _t5_tokenizer(),
        "scheduler": _scheduler(**DYNAMIC),
    }


def _z_image() -> dict[str, Any]:
    from diffusers import ZImageTransformer2DModel

    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=64,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=4,
        n_kv_heads=4,
        cap_feat_dim=32,
        axes_dims=[4, 6, 6],
        axes_lens=[1024, 64, 64],
    )
    for name, parameter in transformer.named_parameters():
        if name.endswith("pad_token"):
            torch.nn.init.normal_(parameter)
    vae = tiny_vae(scaling_factor=0.36, shift_factor=0.12)
    return {"transformer": transformer, "vae": vae, **_language_model(), "scheduler": _scheduler(shift=3.0)}


def _flux2_klein() -> dict[str, Any]:
    from diffusers import Flux2Transformer2DModel

    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=4,
        joint_attention_dim=96,
        timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    return {"transformer": transformer, "vae": _flux2_vae(), **_language_model(27), "scheduler": _scheduler(**DYNAMIC)}


def _flux2_vae() -> Any:
    from diffusers import AutoencoderKLFlux2

    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
    )
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.5, 2.0)
    return vae


def _ernie_image() -> dict[str, Any]:
    from diffusers import ErnieImageTransformer2DModel
    from transformers import Mistral3Config, Mistral3Model

    transformer = ErnieImageTransformer2DModel(
        hidden_size=64,
        num_attention_heads=4,
        num_layers=2,
        ffn_hidden_size=96,
        in_channels=16,
        out_channels=16,
        text_in_dim=32,
        rope_axes_dim=(4, 6, 6),
    )
    for part in (transformer.adaLN_modulation[-1], transformer.final_linear):  # zeros, before any training
        torch.nn.init.normal_(part.weight, std=0.2)
    tokenizer = _language_model(1)["tokenizer"]
    text = {
        "model_type": "ministral3",
        "vocab_size": len(tokenizer),
        "num_hidden_layers": 3,
        **READER,
    }
    sight = {"model_type": "pixtral", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
             "num_attention_heads": 2, "head_dim": 16}  # fmt: skip
    read = {
        "text_encoder": Mistral3Model(Mistral3Config(text_config=text, vision_config=sight)),
        "tokenizer": tokenizer,
    }
    return {"transformer": transformer, "vae": _flux2_vae(), **read, "scheduler": _scheduler(shift=3.0)}


def _anima() -> dict[str, Any]:
    from diffusers import AnimaTextConditioner, CosmosTransformer3DModel

    words = _t5_tokenizer()
    return {
        "transformer": CosmosTransformer3DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=4,
            attention_head_dim=16,
            num_layers=2,
            mlp_ratio=2.0,
            text_embed_dim=32,
            adaln_lora_dim=8,
            max_size=(1, 64, 64),
            extra_pos_embed_type=None,
        ),
        "vae": _frame_vae(),
        "text_conditioner": AnimaTextConditioner(
            source_dim=32,
            target_dim=32,
            model_dim=32,
            num_layers=1,
            num_attention_heads=2,
            target_vocab_size=len(words),
            min_sequence_length=64,
        ),
        **_language_model(),
        "t5_tokenizer": words,
        "scheduler": _scheduler(shift=3.0),
    }


def _frame_vae() -> Any:
    from diffusers import AutoencoderKLQwenImage

    return AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 2],
        num_res_blocks=1,
        temperal_downsample=[False, False],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.2, 0.8, 1.0, 2.0],
    )


def _seeing_model(kind: str, layers: int) -> dict[str, Any]:
    """A language model that could look at pictures, with the tokenizer of the others."""
    import transformers

    tokenizer = _language_model(1)["tokenizer"]
    text = {
        "vocab_size": len(tokenizer),
        "num_hidden_layers": layers,
        **READER,
        "rope_scaling": {"rope_type": "default", "mrope_section": [2, 3, 3]},
    }
    sight = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
    if kind.startswith("Qwen3VL"):
        config = transformers.Qwen3VLConfig(text_config=text, vision_config={**sight, "deepstack_visual_indexes": [0]})
    else:
        config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config={**sight, "fullatt_block_indexes": [0]})
    return {"text_encoder": getattr(transformers, kind)(config), "tokenizer": tokenizer}


def _qwen_image() -> dict[str, Any]:
    from diffusers import QwenImageTransformer2DModel

    transformer = QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=4,
        joint_attention_dim=32,
        axes_dims_rope=(4, 6, 6),
    )
    read = _seeing_model("Qwen2_5_VLForConditionalGeneration", 2)
    return {"transformer": transformer, "vae": _frame_vae(), **read, "scheduler": _scheduler(**DYNAMIC)}


def _krea2() -> dict[str, Any]:
    from diffusers import Krea2Transformer2DModel

    transformer = Krea2Transformer2DModel(
        in_channels=16,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        timestep_embed_dim=32,
        text_hidden_dim=32,
        text_num_attention_heads=2,
        text_num_key_value_heads=2,
        text_intermediate_size=48,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=(4, 6, 6),
    )
    for name, parameter in transformer.named_parameters():
        if name.endswith("scale_shift_table"):
            torch.nn.init.normal_(parameter, std=0.2)
    read = _seeing_model("Qwen3VLModel", 36)
    return {"transformer": transformer, "vae": _frame_vae(), **read, "scheduler": _scheduler(**DYNAMIC)}


def _qwen_image_21() -> dict[str, Any]:
    from diffusers import AutoencoderKLQwenImage21, QwenImage21Transformer2DModel

    vae = AutoencoderKLQwenImage21(
        base_dim=8,
        decoder_base_dim=8,
        z_dim=4,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[False, False],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.2, 0.8, 1.0, 2.0],
        scale_factor_spatial=4,
    )
    transformer = QwenImage21Transformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=4,
        context_in_dim=32,
        axes_dims_rope=(4, 6, 6),
    )
    read = _seeing_model("Qwen3VLForConditionalGeneration", 2)
    return {
        "transformer": transformer,
        "vae": vae,
        "text_encoder": read["text_encoder"],
        "processor": read["tokenizer"],
        "scheduler": _scheduler(**DYNAMIC),
    }


def _lumina2() -> dict[str, Any]:
    from diffusers import Lumina2Transformer2DModel
    from transformers import Gemma2Config, Gemma2Model

    words = _t5_tokenizer()
    config = Gemma2Config(vocab_size=len(words), num_hidden_layers=3, **READER)
    return {
        "transformer": Lumina2Transformer2DModel(
            in_channels=4,
            hidden_size=64,
            num_layers=2,
            num_refiner_layers=1,
            num_attention_heads=4,
            num_kv_heads=2,
            multiple_of=16,
            axes_dim_rope=(4, 6, 6),
            axes_lens=(300, 64, 64),
            cap_feat_dim=32,
        ),
        "vae": tiny_vae(scaling_factor=0.36, shift_factor=0.12),
        "text_encoder": Gemma2Model(config),
        "tokenizer": words,
        "scheduler": _scheduler(shift=6.0),
    }


def _t5(width: int) -> Any:
    from transformers import T5Config, T5EncoderModel

    words = len(_t5_tokenizer())
    return T5EncoderModel(T5Config(vocab_size=words, d_model=width, d_kv=12, d_ff=64, num_layers=2, num_heads=4))


def _chroma() -> dict[str, Any]:
    from diffusers import ChromaTransformer2DModel

    return {
        "transformer": ChromaTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=2,
            attention_head_dim=16,
            num_attention_heads=4,
            joint_attention_dim=48,
            axes_dims_rope=(4, 6, 6),
            approximator_num_channels=32,
            approximator_hidden_dim=32,
            approximator_layers=1,
        ),
        "vae": tiny_vae(scaling_factor=0.36, shift_factor=0.12),
        "text_encoder": _t5(48),
        "tokenizer": _t5_tokenizer(),
        "scheduler": _scheduler(shift=2.0),
    }


def _sd35() -> dict[str, Any]:
    from diffusers import SD3Transformer2DModel
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer

    vocab, merges = byte_pairs(WORDS)
    transformer = SD3Transformer2DModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=8,  # 64 channels a block, as in the large ones: ComfyUI counts on it
        joint_attention_dim=80,
        caption_projection_dim=128,
        pooled_projection_dim=64,
        pos_embed_max_size=16,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    clips = {
        name: tiny_clip(CLIPTextModelWithProjection, projection_dim=32) for name in ("text_encoder", "text_encoder_2")
    }
    words = {
        name: CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77) for name in ("tokenizer", "tokenizer_2")
    }
    return {
        "transformer": transformer,
        "vae": tiny_vae(scaling_factor=1.53, shift_factor=0.06),
        **clips,
        "text_encoder_3": _t5(80),
        **words,
        "tokenizer_3": _t5_tokenizer(),
        "scheduler": _scheduler(shift=3.0),
    }


def _ideogram4() -> dict[str, Any]:
    from diffusers import Ideogram4Transformer2DModel

    config = {
        "in_channels": 16,
        "num_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 4,
        "intermediate_size": 96,
        "adaln_dim": 24,
        "llm_features_dim": 13 * 32,
        "mrope_section": (4, 2, 2),
    }
    both = {part: Ideogram4Transformer2DModel(**config) for part in ("transformer", "unconditional_transformer")}
    read = _seeing_model("Qwen3VLModel", 36)
    return {**both, "vae": _flux2_vae(), **read, "scheduler": _scheduler()}


_PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "flux1_dev": _flux1_dev,
    "z_image": _z_image,
    "flux2_klein": _flux2_klein,
    "anima": _anima,
    "qwen_image": _qwen_image,
    "chroma": _chroma,
    "sd35": _sd35,
    "krea2": _krea2,
    "ernie_image": _ernie_image,
    "ideogram4": _ideogram4,
    "qwen_image_21": _qwen_image_21,
    "lumina2": _lumina2,
}
PIPELINES = {
    "flux1_dev": "FluxPipeline",
    "z_image": "ZImagePipeline",
    "flux2_klein": "Flux2KleinPipeline",
    "anima": "AnimaModularPipeline",
    "qwen_image": "QwenImagePipeline",
    "chroma": "ChromaPipeline",
    "sd35": "StableDiffusion3Pipeline",
    "krea2": "Krea2Pipeline",
    "ernie_image": "ErnieImagePipeline",
    "ideogram4": "Ideogram4Pipeline",
    "qwen_image_21": "QwenImage21Pipeline",
    "lumina2": "Lumina2Pipeline",
}
