"""Features of pictures, computed once: the base's and the dataset's come back at every rung and trial.

Takes an encoder and pictures, gives their features in order; looks first in memory, then on disk, under the
digest of encoder and pixels. Knows nothing about what a feature means.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from lorasweep.core.protocols import Encoder
from lorasweep.core.provenance import code_digest
from lorasweep.core.records import digest

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from lorasweep.trial.cache import Store

# Pictures are encoded in batches of exactly this many, filled up with repeats: how a kernel rounds depends on
# the batch, and a feature must not depend on which other pictures it was asked for with.
_ROWS = 4


class FeatureCache:
    """Not safe for threads; one per process."""

    def __init__(self, store: Store | None = None, *, memory_bytes: int = 2**29) -> None:
        """Open the cache.

        Args:
            store: shared by processes; None keeps everything in memory only.
            memory_bytes: the least recently used features go first.
        """
        from lorasweep.trial.cache import Memory

        self._store = store
        self._memory = Memory(memory_bytes)

    def features(
        self,
        encoder: Encoder,
        pictures: Sequence[Image.Image],
        *,
        keep: bool = False,
        while_encoding: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> dict[str, torch.Tensor]:
        """Return features by name, each (B, ...) with one row per picture.

        Args:
            encoder: asked for what is not at hand.
            pictures: of one size, RGB.
            keep: also on disk, for pictures that other trials will ask for again.
            while_encoding: entered when something is not at hand; silences an adapter, say.
        """
        import torch

        keys = [_key(encoder, picture) for picture in pictures]
        found = {key: held for key in keys if (held := self._find(key)) is not None}
        missing = {key: picture for key, picture in zip(keys, pictures, strict=True) if key not in found}
        if missing:
            with while_encoding():
                found |= self._encode(encoder, missing, keep=keep)
        names = found[keys[0]].keys()
        return {name: torch.stack([found[key][name] for key in keys]) for name in names}

    def _find(self, key: str) -> dict[str, torch.Tensor] | None:
        held = self._memory.get(key)
        if held is None and self._store is not None and (held := self._store.get("features", key)) is not None:
            self._memory.put(key, held)
        return held

    def _encode(
        self, encoder: Encoder, pictures: dict[str, Image.Image], *, keep: bool
    ) -> dict[str, dict[str, torch.Tensor]]:
        made: dict[str, dict[str, torch.Tensor]] = {}
        keys = list(pictures)
        for start in range(0, len(keys), _ROWS):
            chunk = keys[start : start + _ROWS]
            rows = [*chunk, *[chunk[-1]] * (_ROWS - len(chunk))]
            encoded = encoder.encode([pictures[key] for key in rows])
            for place, key in enumerate(chunk):
                # Copies: a view would keep the whole batch alive.
                made[key] = {name: tensor[place].clone() for name, tensor in encoded.items()}
                self._memory.put(key, made[key])
                if keep and self._store is not None:
                    self._store.put("features", key, made[key])
        return made


def _key(encoder: Encoder, picture: Image.Image) -> str:
    return digest([code_digest(), encoder.fingerprint, picture.size, hashlib.sha256(picture.tobytes()).hexdigest()])
