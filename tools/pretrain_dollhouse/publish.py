"""Stage 7: turn the run folder into the shipped one: a diffusers pipeline in half precision, and reader.

Knows nothing about training.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from tools.pretrain_dollhouse.architecture import build_sampler, build_unet


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

    averaged = torch.load(out_dir / "unet.pt", weights_only=True)["ema"]
    parts = {
        prefix: {k.removeprefix(prefix + "."): v for k, v in averaged.items() if k.startswith(prefix + ".")}
        for prefix in ("unet", "text_encoder")
    }
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
    pipeline = StableDiffusionPipeline(**components, requires_safety_checker=False)
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
