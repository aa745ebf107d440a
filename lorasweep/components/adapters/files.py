"""LoRA files that any trainer made, one for each of its steps: looked at by `lorasweep judge`, never trained.

Takes a frozen base, returns a `protocols.Adapter` that is the base itself until a file is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lorasweep.core.protocols import Base

if TYPE_CHECKING:
    from lorasweep.components.adapters._file_layers import Files


TRAINS = False
READ_BY = ("comfyui", "forge")  # which read every form; others may, too

Steps = Annotated[int, Field(ge=1)]


def build(base: Base, *, seed: int, paths: tuple[str, ...], steps: tuple[Steps, ...], text_encoder: bool) -> Files:
    """Make room for files in `base`, by ascending step; `text_encoder` says whether any of them changes it."""
    from lorasweep.components.adapters._file_layers import Files

    return Files(base)


def problems(*, paths: tuple[str, ...], steps: tuple[int, ...]) -> list[tuple[str, str, str]]:
    """Find what paths and steps cannot be together."""
    if len(paths) != len(steps):
        return [("steps", f"must be one for each of the {len(paths)} files, got {len(steps)}", "")]
    if list(steps) != sorted(set(steps)):
        return [("steps", f"must ascend, got {', '.join(map(str, steps))}", "")]
    return []
