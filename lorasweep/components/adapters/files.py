"""LoRA files that any trainer made, one for each of its steps: looked at by `lorasweep judge`, never trained.

Takes a frozen base, returns a `protocols.Adapter` that is the base itself until a file is loaded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from lorasweep.core import registry
from lorasweep.core.protocols import Adapter, Base, Mergeable

if TYPE_CHECKING:
    import torch


TRAINS = False
READ_BY = ("comfyui", "forge")  # which read every form; others may, too

Steps = Annotated[int, Field(ge=1)]


class Files:
    """See `protocols.Adapter`: the file that was loaded last, in its base."""

    def __init__(self, base: Base, seed: int) -> None:
        """Start with no file."""
        self._base, self._seed = base, seed
        self._loaded: Adapter | None = None

    def __getattr__(self, name: str) -> Any:
        """Give what the loaded file's own adapter has, its layers for one."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._loaded, name)

    def parameters(self) -> dict[str, list[torch.nn.Parameter]]:
        """See the protocol."""
        return dict(self._loaded.parameters()) if self._loaded else {}  # type: ignore[arg-type]

    def set_weight(self, weight: float) -> None:
        """See the protocol."""
        if self._loaded is not None:
            self._loaded.set_weight(weight)

    @contextlib.contextmanager
    def merged(self, weight: float) -> Iterator[None]:
        """See the protocol."""
        if isinstance(self._loaded, Mergeable):
            with self._loaded.merged(weight):
                yield
            return
        self.set_weight(weight)
        try:
            yield
        finally:
            self.set_weight(1.0)

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
