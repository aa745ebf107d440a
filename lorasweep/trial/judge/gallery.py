"""The dataset as pictures that can be held against generated ones: through the VAE, at the samples' size.

    Plan + latents  ->  Gallery: training and held-out pictures, with their captions

A generated picture went through the VAE's decoder, so the dataset's go through it too, or its blur would pass
for a difference. Knows nothing about features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lorasweep.core import seeds
from lorasweep.core.judging import Gallery
from lorasweep.core.protocols import Adapter, Base
from lorasweep.core.records import Plan, PlannedImage, Recipe, digest
from lorasweep.data.near_duplicates import groups, signature
from lorasweep.trial import lora_weight
from lorasweep.trial.sample import pictures

if TYPE_CHECKING:
    from PIL import Image

    from lorasweep.trial.cache import LatentCache


LARGEST = 64  # images of a split; a hash of their bytes decides which, the same ones for every trial


def build(base: Base, recipe: Recipe, plan: Plan, *, latents: LatentCache, adapter: Adapter | None = None) -> Gallery:
    """Decode the gallery in the samples' size; the VAE has no part of the adapter, which is only put in eval mode."""
    size_px, (train, held_out) = recipe.picture_px, _chosen(plan)
    with lora_weight.lora_weight(base, adapter, 0.0):
        shown = tuple(_decode(base, latents, image, size_px) for image in train)
        return Gallery(
            train=shown,
            held_out=tuple(_decode(base, latents, image, size_px) for image in held_out),
            train_captions=tuple(image.caption for image in train),
            twins=tuple(tuple(each) for each in groups([signature(picture) for picture in shown]) if len(each) > 1),
        )


def key(base: Base, recipe: Recipe, plan: Plan) -> str:
    """Digest everything that decides the gallery."""
    train, held_out = _chosen(plan)
    marks = [[i.source, i.caption, i.bucket, i.resize_px, i.crop_px] for i in (*train, *held_out)]
    return digest([base.vae_fingerprint, recipe.picture_px, len(train), marks])


def _chosen(plan: Plan) -> tuple[list[PlannedImage], list[PlannedImage]]:
    return _choose(plan.train_images()), _choose(plan.held_out_images())


def _choose(images: Sequence[PlannedImage]) -> list[PlannedImage]:
    """Return one per content, not too many, in an order that no renaming changes."""
    distinct = {image.sha256: image for image in images}
    return sorted(distinct.values(), key=lambda image: seeds.derive(0, "gallery", image.sha256))[:LARGEST]


def _decode(base: Base, latents: LatentCache, image: PlannedImage, size_px: tuple[int, int]) -> Image.Image:
    """Mean latent to picture, then to the samples' size: cover it, cut the middle."""
    from PIL import Image, ImageOps

    mean_CHW, _ = latents.mean_std(image)
    (picture,) = pictures(base.decode_latents(mean_CHW[None].to(base.device)))
    if picture.size == size_px:
        return picture
    return ImageOps.fit(picture, size_px, Image.Resampling.LANCZOS)
