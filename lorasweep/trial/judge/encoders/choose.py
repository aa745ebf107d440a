"""Which encoder a metric gets: the one that was asked for, or the first of its preferences that is here.

Takes names and the recipe's paths, gives an encoder or the reason why there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lorasweep.core.protocols import Base
    from lorasweep.core.records import EncoderOptions
    from lorasweep.trial.judge.encoders import Encoder
    from lorasweep.trial.judge.encoders.local import Clip

EncoderName = Literal["base", "clip", "dino", "sscd"]


def first_configured(preferred: Sequence[EncoderName], paths: EncoderOptions) -> EncoderName:
    """The first that has a path; the frozen base needs none and is always there."""
    return next((name for name in preferred if is_here(name, paths)), "base")


def load(name: EncoderName, base: Base, paths: EncoderOptions) -> Encoder | None:
    """The encoder of a name; None when it needs a path and has none. Weights are read when first used."""
    from lorasweep.trial.judge.encoders.frozen_base import FrozenBase
    from lorasweep.trial.judge.encoders.local import Dino, Sscd

    if name == "base":
        return FrozenBase(base)
    if name == "clip":
        return load_clip(base, paths)
    path = _path(name, paths)
    if path is None:
        return None
    return Dino(path, str(base.device)) if name == "dino" else Sscd(path, str(base.device))


def load_clip(base: Base, paths: EncoderOptions) -> Clip | None:
    """CLIP, which also reads texts; None without a path."""
    from lorasweep.trial.judge.encoders.local import Clip

    path = _path("clip", paths)
    return None if path is None else Clip(path, str(base.device))


def is_here(name: EncoderName, paths: EncoderOptions) -> bool:
    """Whether there is such an encoder."""
    return name == "base" or _path(name, paths) is not None


def not_here(name: EncoderName) -> str:
    """The reason to give when there is no such encoder."""
    return f"no local copy of {name} is configured (encoders.{name}=some/path)"


def _path(name: EncoderName, paths: EncoderOptions) -> Path | None:
    found: str | None = {"clip": paths.clip, "dino": paths.dino, "sscd": paths.sscd}[name]
    return None if found is None else Path(found).expanduser()
