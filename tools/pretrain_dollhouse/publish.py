"""Stage 7: turn the run folder into the shipped one: a diffusers pipeline in half precision, and reader.

Knows nothing about training.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tools.pretrain_dollhouse.architecture import (
    FLOW_TEXT_TOKENS,
    TEXT_TOKENS,
    build_flow_sampler,
    build_sampler,
    build_transformer,
    build_unet,
)

if TYPE_CHECKING:
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline


def _replace(staged: Path, target: Path) -> None:
    """Move every staged file over its target, one rename each, so that a reader never meets half a file."""
    for source in sorted(path for path in staged.rglob("*") if path.is_file()):
        destination = target / source.relative_to(staged)
        destination.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, destination)
    shutil.rmtree(staged)


def publish(out_dir: Path, target: Path) -> None:
    """Write the pipeline of the latest checkpoint.

    Args:
        out_dir: a run folder with `vae/`, `tokenizer/`, `text_encoder/`, `unet.pt`, and maybe `reader/`.
        target: made if missing; files are replaced one by one, atomically. On the same file system as
            `out_dir`
            or not.

    Raises:
        FileNotFoundError: a stage is missing.
    """
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
    from transformers import CLIPTextModel, CLIPTokenizer

    parts = _averaged(out_dir / "unet.pt")
    unet = build_unet()
    unet.load_state_dict(parts["unet"])
    text_encoder = CLIPTextModel.from_pretrained(out_dir / "text_encoder", dtype=torch.float32)
    text_encoder.load_state_dict(parts["text_encoder"])
    components: dict[str, Any] = {
        "vae": AutoencoderKL.from_pretrained(out_dir / "vae"),
        "text_encoder": text_encoder,
        "tokenizer": CLIPTokenizer.from_pretrained(out_dir / "tokenizer"),
        "unet": unet,
        "scheduler": build_sampler(),
        "safety_checker": None,
        "feature_extractor": None,
    }
    _write(StableDiffusionPipeline(**components, requires_safety_checker=False), out_dir, target)


def publish_flow(out_dir: Path, target: Path) -> None:
    """Write the flow-matching pipeline of the latest checkpoint; arguments as `publish`'s, with `flow.pt`."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
    from transformers import CLIPTextModel, CLIPTokenizer

    parts = _averaged(out_dir / "flow.pt")
    transformer = build_transformer()
    transformer.load_state_dict(parts["transformer"])
    components: dict[str, Any] = {"transformer": transformer, "scheduler": build_flow_sampler()}
    for name, tokens in (("", TEXT_TOKENS), ("_2", FLOW_TEXT_TOKENS)):
        text_encoder = CLIPTextModel.from_pretrained(out_dir / "text_encoder", dtype=torch.float32)
        text_encoder.load_state_dict(parts[f"text_encoder{name}"])
        components[f"text_encoder{name}"] = text_encoder
        tokenizer = CLIPTokenizer.from_pretrained(out_dir / "tokenizer", model_max_length=tokens)
        components[f"tokenizer{name}"] = tokenizer
    vae = AutoencoderKL.from_pretrained(out_dir / "vae")
    vae.register_to_config(shift_factor=0.0)  # FLUX's pipeline adds it
    _write(FluxPipeline(vae=vae, **components), out_dir, target)


def _averaged(checkpoint: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Return a checkpoint's EMA weights by pipeline component."""
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in torch.load(checkpoint, weights_only=True)["ema"].items():
        part, _, name = key.partition(".")
        parts.setdefault(part, {})[name] = tensor
    return parts


def _write(pipeline: DiffusionPipeline, out_dir: Path, target: Path) -> None:
    """Save a pipeline in half precision, and the reader if there is one."""
    target.mkdir(parents=True, exist_ok=True)
    staged = target / ".staged"
    shutil.rmtree(staged, ignore_errors=True)
    pipeline.to(torch.float16).save_pretrained(staged)
    if (out_dir / "reader").exists():
        shutil.copytree(out_dir / "reader", staged / "reader")
    _tidy(staged)
    _replace(staged, target)


def _tidy(folder: Path) -> None:
    """Make the staged folder fit for others: no local paths, readable files, one dtype when loaded.

    transformers loads a model in the dtype that its config names and diffusers in float32 unless told, so a
    config that named float16 would give a pipeline of two dtypes, which cannot sample.
    """
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for path in folder.rglob("*.json"):
        values = json.loads(path.read_text(encoding="utf-8"))
        values.pop("_name_or_path", None)
        if values.get("dtype") == "float16":
            values["dtype"] = "float32"
        if path.name != "tokenizer.json":
            path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
