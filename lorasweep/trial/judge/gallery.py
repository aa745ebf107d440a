"""The dataset as pictures that can be held against generated ones: through the VAE, at the samples' size.

    Plan + latents  ->  Gallery: training and held-out pictures, with their captions

A generated picture went through the VAE's decoder, so the dataset's go through it too, or its blur would pass
for a difference. Knows nothing about features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorasweep.core import seeds
from lorasweep.core.records import PlannedImage, digest
from lorasweep.trial import lora_weight
from lorasweep.trial.sample import pictures

if TYPE_CHECKING:
    from PIL import Image

    from lorasweep.core.protocols import Adapter, Base, Latents
    from lorasweep.core.records import Plan, Recipe

LARGEST = 64  # images of a split; a hash of their bytes decides which, the same ones for every trial
KEPT = 4  # galleries per process: trials of one sweep need one per dataset and bucket choice

_built: dict[str, Gallery] = {}


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Pictures of one dataset, all of one size.

    Attributes:
        train, held_out: RGB.
        train_captions: one per training picture, after the caption policy.
    """

    train: tuple[Image.Image, ...]
    held_out: tuple[Image.Image, ...]
    train_captions: tuple[str, ...]


def build(base: Base, recipe: Recipe, plan: Plan, *, latents: Latents, adapter: Adapter | None = None) -> Gallery:
    """Decode the gallery, or return the one that this process decoded before for the same images.

    Args:
        base: its VAE decodes.
        recipe: gives the samples' size.
        plan: gives the images in their buckets.
        latents: of the plan's images.
        adapter: lives in the base right now; the VAE has no part of it, so it is only put in eval mode.
    """
    size_px = (recipe.sample.width or recipe.base.resolution, recipe.sample.height or recipe.base.resolution)
    chosen = [_choose(images) for images in (plan.train_images(), plan.held_out_images())]
    marks = [[i.source, i.caption, i.bucket, i.resize_px, i.crop_px] for images in chosen for i in images]
    key = digest([base.vae_fingerprint, "torch.float32", size_px, len(chosen[0]), marks])
    if key not in _built:
        while len(_built) >= KEPT:
            _built.pop(next(iter(_built)))
        with lora_weight.at_weight(base, adapter, 0.0):
            train, held_out = ([_decode(base, latents, i, size_px) for i in images] for images in chosen)
        _built[key] = Gallery(
            train=tuple(train),
            held_out=tuple(held_out),
            train_captions=tuple(image.caption for image in chosen[0]),
        )
    return _built[key]


def _choose(images: Sequence[PlannedImage]) -> list[PlannedImage]:
    """One per content, not too many, in an order that no renaming changes."""
    distinct = {image.sha256: image for image in images}
    return sorted(distinct.values(), key=lambda image: seeds.derive(0, "gallery", image.sha256))[:LARGEST]


def _decode(base: Base, latents: Latents, image: PlannedImage, size_px: tuple[int, int]) -> Image.Image:
    """Mean latent to picture, then to the samples' size: cover it, cut the middle."""
    from PIL import Image, ImageOps

    mean_CHW, _ = latents.mean_std(image)
    (picture,) = pictures(base.decode_latents(mean_CHW[None].to(base.device)))
    if picture.size == size_px:
        return picture
    return ImageOps.fit(picture, size_px, Image.Resampling.LANCZOS)
