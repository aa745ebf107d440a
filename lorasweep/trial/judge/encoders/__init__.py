"""Rulers for pictures: each turns pictures into features by a model that no training ever touches.

    frozen_base   VAE latents and UNet features of the base itself; always there
    mask          where the subject is in a picture, by the frozen base
    local         CLIP, DINO and SSCD from a local copy; nothing is downloaded

Always the *frozen* base, never the adapted one: otherwise the ruler bends with what it measures. Importing
this package imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from PIL import Image

__all__ = ["Encoder"]


class Encoder(Protocol):
    """Turns pictures into features."""

    @property
    def fingerprint(self) -> str:
        """Of everything that decides the features: what they are cached by."""

    def encode(self, pictures: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """Features by name, each (B, ...) in float32 on the CPU, one row per picture; B of any size >= 1."""
