"""LoRA files that any trainer made, one for each of its steps: looked at by `lorasweep judge`, never trained.

Takes a frozen base, returns a `protocols.Adapter` that is the base itself until a file is loaded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from lorasweep.core import registry
from lorasweep.core.protocols import Base

if TYPE_CHECKING:
    import torch

    from lorasweep.components.adapters._file_layers import FileAdapter


TRAINS = False
READ_BY = ("comfyui", "forge")  # which read every form; others may, too

Steps = Annotated[int, Field(ge=1)]


class Files:
    """See `protocols.Adapter`: the file that was loaded last, in its base."""

    def __init__(self, base: Base, seed: int) -> None:
        """Start with no file."""
        self._base, self._seed = base, seed
        self._loaded: FileAdapter | None = None

    @property
    def layers(self) -> Mapping[str, Any]:
        """See `protocols.TellsChanges`, which Python looks up without `__getattr__` from 3.12 on."""
        return self._loaded.layers if self._loaded else {}

    def delta(self, layer: Any) -> torch.Tensor:
        """See `protocols.TellsChanges`."""
        assert self._loaded is not None, "a layer is of a file"
        return self._loaded.delta(layer)

    def by_module(self) -> Mapping[str, Mapping[str, torch.nn.Parameter]]:
        """See `protocols.TellsChanges`."""
        return self._loaded.by_module() if self._loaded else {}

    def parameters(self) -> dict[str, list[torch.nn.Parameter]]:
        """See the protocol."""
        return self._loaded.parameters() if self._loaded else {}

    def set_weight(self, weight: float) -> None:
        """See the protocol."""
        if self._loaded is not None:
            self._loaded.set_weight(weight)

    @contextlib.contextmanager
    def merged(self, weight: float) -> Iterator[None]:
        """See the protocol."""
        with self._loaded.merged(weight) if self._loaded else contextlib.nullcontext():
            yield

    def load(self, path: Path) -> None:
        """Put a file in the place of the one before.

        Raises:
            AdapterError: it is no LoRA of this base.
        """
        self.remove()
        self._loaded = registry.load("adapter", "file").build(self._base, seed=self._seed, path=str(path))

    def remove(self) -> None:
        """See the protocol."""
        if self._loaded is not None:
            self._loaded.remove()
            self._loaded = None


def build(base: Base, *, seed: int, paths: tuple[str, ...], steps: tuple[Steps, ...], text_encoder: bool) -> Files:
    """Make room for files in `base`, by ascending step; `text_encoder` says whether any of them changes it."""
    return Files(base, seed)


def problems(*, paths: tuple[str, ...], steps: tuple[int, ...]) -> list[tuple[str, str, str]]:
    """Find what paths and steps cannot be together."""
    if len(paths) != len(steps):
        return [("steps", f"must be one for each of the {len(paths)} files, got {len(steps)}", "")]
    if list(steps) != sorted(set(steps)):
        return [("steps", f"must ascend, got {', '.join(map(str, steps))}", "")]
    return []
