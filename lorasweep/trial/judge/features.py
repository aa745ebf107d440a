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

_MEMORY_BYTES = 2**29  # the least recently used features go first


class FeatureCache:
    """Not safe for threads; one per process."""

    def __init__(self, store: Store | None = None) -> None:
        """Open the cache; without a store, which processes share, everything is in memory only."""
        from lorasweep.trial.cache import Layers

        self._layers = Layers("features", set(), "cpu", store, _MEMORY_BYTES)

    def features(
        self,
        encoder: Encoder,
        pictures: Sequence[Image.Image],
        *,
        keep: bool = False,
        while_encoding: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> dict[str, torch.Tensor]:
        """Return features of RGB pictures of one size by name, each (B, ...).

        `keep` also keeps them on disk, for other trials. `while_encoding` is entered when something is not at hand; it
        silences an adapter, say.
        """
        import torch

        keys = [_key(encoder, picture) for picture in pictures]
        found = {key: held for key in keys if (held := self._layers.get(key)) is not None}
        missing = {key: picture for key, picture in zip(keys, pictures, strict=True) if key not in found}
        if missing:
            with while_encoding():
                found |= self._encode(encoder, missing, keep=keep)
        names = found[keys[0]].keys()
        return {name: torch.stack([found[key][name] for key in keys]) for name in names}

    def _encode(
        self, encoder: Encoder, pictures: dict[str, Image.Image], *, keep: bool
    ) -> dict[str, dict[str, torch.Tensor]]:
        from lorasweep.trial.cache import of_one_size

        made: dict[str, dict[str, torch.Tensor]] = {}
        hold = self._layers.keep if keep else self._layers.memory.put
        for batch, filled in of_one_size(list(pictures)):
            encoded = encoder.encode([pictures[key] for key in filled])
            for place, key in enumerate(batch):
                # Copies: a view would keep the whole batch alive.
                made[key] = {name: tensor[place].clone() for name, tensor in encoded.items()}
                hold(key, made[key])
        return made


def _key(encoder: Encoder, picture: Image.Image) -> str:
    return digest([code_digest(), encoder.fingerprint, picture.size, hashlib.sha256(picture.tobytes()).hexdigest()])
