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

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
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
        import numpy as np
        import torch
        from PIL import Image

        side = (SSCD_SIDE_PX, SSCD_SIDE_PX)
        resized = [picture.convert("RGB").resize(side, Image.Resampling.BILINEAR) for picture in pictures]
        levels_BHWC = torch.from_numpy(np.stack([np.asarray(picture) for picture in resized])) / 255
        normal_BHWC = (levels_BHWC - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
        with torch.no_grad():
            seen = _torchscript(self.path, self.device)(normal_BHWC.permute(0, 3, 1, 2).to(self.device))
        return {"whole": seen.float().cpu()}


def prepared(pictures: Sequence[Image.Image], folder: Path) -> torch.Tensor:
    """Resize, crop and normalise as `preprocessor_config.json` says; (B, 3, H, W)."""
    made: torch.Tensor = _processor(folder)(images=list(pictures), return_tensors="pt")["pixel_values"]
    return made


@functools.lru_cache(maxsize=4)
def _processor(folder: Path) -> Any:
    from transformers import AutoImageProcessor

    return AutoImageProcessor.from_pretrained(
        folder, backend="pil", local_files_only=True, trust_remote_code=False, do_convert_rgb=True
    )


@functools.lru_cache(maxsize=4)
def _transformers_model(kind: str, folder: Path, device: str) -> Any:
    import transformers

    model = getattr(transformers, kind).from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
    return model.eval().requires_grad_(False).to(device)


@functools.lru_cache(maxsize=1)
def _torchscript(file: Path, device: str) -> Any:
    import torch

    return torch.jit.load(str(file), map_location=device).eval()
