"""A tiny random Stable Diffusion XL: real classes, meaningless weights, as a diffusers folder or as one file.

Two text encoders of widths 32 and 48, the second padded with "!" and projected to 40; a UNet that is told sizes and
pooled text. Tests get it as the `tiny_sdxl` fixture (a folder).
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoint import unet_name, vae_name
from tiny_sd import END, WORDS, byte_pairs, tiny_clip, tiny_vae, write_words, zero_snr

WIDTHS, POOLED = (32, 48), 40


def make_tiny_sdxl(folder: Path, *, v_and_zero_snr: bool = False, seed: int = 0) -> Path:
    """Write the folder and return it.

    Args:
        folder: made when missing.
        v_and_zero_snr: predicts v on a schedule that ends in nothing but noise, as NoobAI's v-prediction bases.
        seed: of the weights.
    """
    from diffusers import DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    vocab, merges = byte_pairs(WORDS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(32, 64),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=POOLED + 6 * 8,
            cross_attention_dim=sum(WIDTHS),
            attention_head_dim=(2, 4),
            norm_num_groups=8,
        )
        encoders = []
        for width, kind, pad in zip(WIDTHS, (CLIPTextModel, CLIPTextModelWithProjection), (END, "!"), strict=True):
            encoders.append(
                tiny_clip(
                    kind,
                    hidden_size=width,
                    num_hidden_layers=3,
                    num_attention_heads=width // 8,
                    projection_dim=POOLED,
                    pad_token_id=vocab[pad],
                    hidden_act="quick_gelu" if kind is CLIPTextModel else "gelu",
                )
            )
        vae = tiny_vae(scaling_factor=0.13025, force_upcast=True)
    pipeline = StableDiffusionXLPipeline(
        unet=unet,
        vae=vae,
        text_encoder=encoders[0],
        text_encoder_2=encoders[1],
        tokenizer=CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77),
        tokenizer_2=CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77, pad_token="!"),
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
            prediction_type="v_prediction" if v_and_zero_snr else "epsilon",
        ),
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    for part in ("tokenizer", "tokenizer_2"):
        write_words(folder / part, vocab, merges)
    return zero_snr(folder) if v_and_zero_snr else folder


def write_sdxl_checkpoint(folder: Path, file: Path, *, marks: tuple[str, ...] = ()) -> Path:
    """Write the folder's weights as one file under the names of Stability's code; returns it.

    Args:
        folder: of `make_tiny_sdxl`.
        file: a .safetensors.
        marks: empty tensors beside the weights, `v_pred` and `ztsnr` for NoobAI's.
    """
    unet, vae = (load_file(folder / part / "diffusion_pytorch_model.safetensors") for part in ("unet", "vae"))
    texts = [load_file(folder / part / "model.safetensors") for part in ("text_encoder", "text_encoder_2")]
    tensors = {f"model.diffusion_model.{_sdxl_unet_name(name)}": tensor for name, tensor in unet.items()}
    for name, tensor in vae.items():
        is_projection = ".attentions." in name and tensor.ndim == 2
        tensors[f"first_stage_model.{vae_name(name)}"] = tensor[:, :, None, None] if is_projection else tensor
    for name, tensor in texts[0].items():
        tensors[f"conditioner.embedders.0.transformer.text_model.{name.removeprefix('text_model.')}"] = tensor
    tensors |= {f"conditioner.embedders.1.model.{name}": tensor for name, tensor in _open_clip(texts[1]).items()}
    tensors |= {name: torch.zeros(0) for name in marks}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    return file


def _sdxl_unet_name(name: str) -> str:
    if name.startswith("add_embedding.linear_"):
        return name.replace("add_embedding.linear_1", "label_emb.0.0").replace(
            "add_embedding.linear_2", "label_emb.0.2"
        )
    return unet_name(name, attended=True)


def _open_clip(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Under OpenCLIP's names: one matrix for queries, keys and values, and the projection the other way round."""
    found = {"text_projection": state["text_projection.weight"].T}
    plain = {name.removeprefix("text_model."): tensor for name, tensor in state.items()}
    found["token_embedding.weight"] = plain["embeddings.token_embedding.weight"]
    found["positional_embedding"] = plain["embeddings.position_embedding.weight"]
    for leaf in ("weight", "bias"):
        found[f"ln_final.{leaf}"] = plain[f"final_layer_norm.{leaf}"]
    renamed = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    renamed["self_attn.out_proj"] = "attn.out_proj"
    for name in plain:
        match = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
        if match is None:
            continue
        block, part, leaf = f"transformer.resblocks.{match[1]}", match[2], match[3]
        if part in renamed:
            found[f"{block}.{renamed[part]}.{leaf}"] = plain[name]
        elif part == "self_attn.q_proj":
            three = [plain[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            found[f"{block}.attn.in_proj_{leaf}"] = torch.cat(three)
    return found


def config_only(folder: Path) -> Path:
    """Take the weights out of a folder, so that it holds what a checkpoint beside it leaves out."""
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
    return folder


def as_one_file(folder: Path, file: Path, *, marks: tuple[str, ...] = ()) -> Path:
    """Write a folder's weights as `file`, with its configs in the folder beside it; see `write_sdxl_checkpoint`."""
    beside = Path(shutil.copytree(folder, file.with_suffix("")))
    write_sdxl_checkpoint(beside, file, marks=marks)
    config_only(beside)
    return file


def change_json(file: Path, **changes: object) -> None:
    """Change some keys of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
