"""Encoders of pictures: each turns pictures into features by a model that no training ever touches.

    frozen_base   VAE latents and UNet features of the base itself; always there
    mask          where the subject is in a picture, by the frozen base
    local         CLIP, DINO and SSCD from a local copy; nothing is downloaded
    prompt_fit    how well pictures fit prompts, by the base or by CLIP

Always the *frozen* base, never the adapted one: otherwise the ruler bends with what it measures. Importing
this package imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lorasweep.core.judging import EncoderName
from lorasweep.core.protocols import Base, Encoder
from lorasweep.core.records import EncoderOptions
from lorasweep.trial.judge.encoders.frozen_base import FrozenBase
from lorasweep.trial.judge.encoders.local import Clip, Dino, Sscd


def load(name: EncoderName, base: Base, paths: EncoderOptions) -> Encoder | None:
    """Load the encoder of a name; None when it needs a path and has none. Weights are read when first used."""
    if name == "base":
        return FrozenBase(base)
    if (path := getattr(paths, name)) is None:
        return None
    kinds: dict[str, Callable[[Path, str], Encoder]] = {"clip": Clip, "dino": Dino, "sscd": Sscd}
    return kinds[name](Path(path).expanduser(), str(base.device))
