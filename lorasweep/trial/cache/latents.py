"""Latents of planned images: the posterior's mean and std, so that training can draw its noise afresh.

Implements `protocols.Latents` over memory, then disk, then the base's VAE. C channels, H W latent size.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from lorasweep.core.protocols import Base
from lorasweep.core.records import PlannedImage, digest
from lorasweep.data.images import load_planned
from lorasweep.trial.cache.store import Memory, Store, Tensors

_KIND = "latents"


class LatentCache:
    """See `protocols.Latents`."""

    def __init__(self, base: Base, store: Store, *, memory_bytes: int = 2 * 2**30) -> None:
        self._base = base
        self._store = store
        self._memory = Memory(memory_bytes)

    def mean_std(self, image: PlannedImage) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and std of the image's latent, scaled, both (C, H, W), fp32, on the base's device."""
        key = self._key(image)
        held = self._memory.get(key) or self._load(key) or self._encode(key, image)
        return held["mean"], held["std"]

    def warm(self, images: Iterable[PlannedImage]) -> None:
        """Bring every image into memory, encoding what no process has encoded before.

        One at a time: a convolution rounds differently in batches of another size, and a latent must not
        depend on which images it was asked for with. (8 images of 64 px take as long in one batch, 0.06 s.)
        """
        for image in images:
            self.mean_std(image)

    def _key(self, image: PlannedImage) -> str:
        return digest(
            [
                image.source,
                image.resize_px,
                image.crop_px,
                image.bucket,
                self._base.vae_fingerprint,
                "torch.float32",  # in which every VAE works
                self._base.device.type,
            ]
        )

    def _load(self, key: str) -> Tensors | None:
        found = self._store.get(_KIND, key)
        if found is None or found.keys() != {"mean", "std"}:
            return None
        return self._hold(key, found)

    def _encode(self, key: str, image: PlannedImage) -> Tensors:
        pixels_HWC = np.asarray(load_planned(image), dtype=np.float32) / 127.5 - 1.0
        pixels_CHW = torch.from_numpy(pixels_HWC).permute(2, 0, 1)
        mean_BCHW, std_BCHW = self._base.encode_images(pixels_CHW[None])
        made = {"mean": mean_BCHW[0], "std": std_BCHW[0]}
        self._store.put(_KIND, key, made)
        return self._hold(key, made)

    def _hold(self, key: str, tensors: Tensors) -> Tensors:
        placed = {name: tensor.to(self._base.device) for name, tensor in tensors.items()}
        self._memory.put(key, placed)
        return placed
