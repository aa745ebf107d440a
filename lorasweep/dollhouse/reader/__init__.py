"""Reads a doll's picture back into attributes, identity marks and nuisances: ground truth for metrics.

`Reader.load()` brings the shipped classifier; `reader.read(images)` returns a `Reading`. Importing this
package does not import torch; using `Reader` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lorasweep.dollhouse.reader.reader import Reader, Reading

__all__ = ["Reader", "Reading"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from lorasweep.dollhouse.reader import reader

        return getattr(reader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
