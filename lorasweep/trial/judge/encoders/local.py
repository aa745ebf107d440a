"""CLIP, DINO and SSCD from files on this machine; nothing is ever downloaded, and no pickle is opened.

    encoders.clip  a folder in transformers' format: config.json, model.safetensors, preprocessor_config.json,
                   and the tokenizer's files
    encoders.dino  the same of a ViT (DINO) or DINOv2; no tokenizer
    encoders.sscd  `sscd_disc_mixup.torchscript.pt`, as its authors publish it

Source: what to take of each: DreamBooth (arXiv 2208.12242, section 4.1): CLIP's projected image embedding and
DINO's class token; SSCD (arXiv 2202.10261): its descriptor, from pictures stretched to 320 px.

Letters: B pictures, D numbers of an embedding, K texts.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasweep.core import files
from lorasweep.core.records import digest

if TYPE_CHECKING:
    import torch
    from PIL import Image

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
SSCD_SIDE_PX = 320


@dataclass(frozen=True)
class _Local:
    """What an encoder read from a file or folder is."""

    path: Path
    device: str = "cpu"

    @property
    def fingerprint(self) -> str:
        """Of the files, by name, size and times."""
        found = sorted(self.path.iterdir()) if self.path.is_dir() else [self.path]
        return digest([type(self).__name__.lower(), [[file.name, *files.stamp(file)] for file in found]])


class Clip(_Local):
    """See `protocols.Encoder`; gives "whole" (B, D)."""

    def encode(self, pictures: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """Return projected image embeddings."""
        import torch

        model = _transformers_model("CLIPModel", self.path, self.device)
        with torch.no_grad():
            seen = model.vision_model(pixel_values=prepared(pictures, self.path).to(self.device))
            return {"whole": model.visual_projection(seen.pooler_output).float().cpu()}

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Return projected text embeddings (K, D); words beyond the model's length are cut."""
        import torch
        from transformers import CLIPTokenizer

        model = _transformers_model("CLIPModel", self.path, self.device)
        tokenizer = CLIPTokenizer.from_pretrained(str(self.path), local_files_only=True)
        length = model.config.text_config.max_position_embeddings
        tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=length, return_tensors="pt")
        with torch.no_grad():
            read = model.text_model(**tokens.to(self.device))
            embedded: torch.Tensor = model.text_projection(read.pooler_output).float().cpu()
        return embedded


class Dino(_Local):
    """See `protocols.Encoder`; gives "whole" (B, D)."""

    def encode(self, pictures: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """Return the class token of the last layer."""
        import torch

        model = _transformers_model("AutoModel", self.path, self.device)
        with torch.no_grad():
            seen = model(pixel_values=prepared(pictures, self.path).to(self.device))
        return {"whole": seen.last_hidden_state[:, 0].float().cpu()}


class Sscd(_Local):
    """See `protocols.Encoder`; gives "whole" (B, D)."""

    def encode(self, pictures: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """Copy detection descriptors."""
        import torch
        from PIL import Image

        side = (SSCD_SIDE_PX, SSCD_SIDE_PX)
        resized = [picture.convert("RGB").resize(side, Image.Resampling.BILINEAR) for picture in pictures]
        with torch.no_grad():
            seen = _torchscript(self.path, self.device)(_normalised(resized, **IMAGENET).to(self.device))
        return {"whole": seen.float().cpu()}


def prepared(pictures: Sequence[Image.Image], folder: Path) -> torch.Tensor:
    """Resize, crop and normalise as `preprocessor_config.json` says; (B, 3, H, W).

    What transformers' image processors do, without torchvision.
    """
    from PIL import Image

    how = files.read_json(folder / "preprocessor_config.json")
    size = how.get("size", {"shortest_edge": 224})
    shortest = size if isinstance(size, int) else size.get("shortest_edge")
    crop = how.get("crop_size") if how.get("do_center_crop") else None
    made = []
    for picture in pictures:
        image = picture.convert("RGB")
        if how.get("do_resize", True):
            target = _covering(image.size, shortest) if shortest else (size["width"], size["height"])
            image = image.resize(target, Image.Resampling(how.get("resample", 3)))
        if crop is not None:
            width, height = (crop, crop) if isinstance(crop, int) else (crop["width"], crop["height"])
            left, top = (image.width - width) // 2, (image.height - height) // 2
            image = image.crop((left, top, left + width, top + height))
        made.append(image)
    mean, std = how.get("image_mean", IMAGENET["mean"]), how.get("image_std", IMAGENET["std"])
    return _normalised(made, mean=mean, std=std)


def _covering(size_px: tuple[int, int], shortest_px: int) -> tuple[int, int]:
    """Return the size with that shortest side and the same shape, the longer side rounded down."""
    width, height = size_px
    if width <= height:
        return shortest_px, int(shortest_px * height / width)
    return int(shortest_px * width / height), shortest_px


def _normalised(pictures: Sequence[Image.Image], *, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    import numpy as np
    import torch

    stacked_BHWC = np.stack([np.asarray(picture) for picture in pictures]).astype(np.float32) / 255.0
    normal_BHWC = (stacked_BHWC - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return torch.from_numpy(normal_BHWC).permute(0, 3, 1, 2).contiguous()


@functools.lru_cache(maxsize=4)
def _transformers_model(kind: str, folder: Path, device: str) -> Any:
    import transformers

    model = getattr(transformers, kind).from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
    return model.eval().requires_grad_(False).to(device)


@functools.lru_cache(maxsize=1)
def _torchscript(file: Path, device: str) -> Any:
    import torch

    return torch.jit.load(str(file), map_location=device).eval()
