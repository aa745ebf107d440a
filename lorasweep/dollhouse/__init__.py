"""The dollhouse: the embedded default world, base model and reader; no download, no GPU.

`world` draws paper dolls described by booru tags, `base` trains a small Stable Diffusion pipeline on them,
and `reader` reads a generated doll back into its attributes. Importing this package imports neither torch
nor Pillow.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["flow_weights_dir", "weights_dir"]


def weights_dir() -> Path:
    """Return the folder of the shipped pipeline, in diffusers' format; the reader is in its `reader/`."""
    return Path(__file__).resolve().parent / "weights"


def flow_weights_dir() -> Path:
    """Return the folder of the second pipeline, trained with flow matching."""
    return Path(__file__).resolve().parent / "weights_flow"
