"""Caption embeddings by the frozen text encoder.

Implements `protocols.Texts` over memory, then disk, then the base's text encoder with every adapter in it
silenced. Recipes that train the text encoder do not come here: they encode live.

B captions, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from lorasweep.core.protocols import Base
from lorasweep.core.records import digest
from lorasweep.trial import lora_weight
from lorasweep.trial.cache.store import Memory, Store

_KIND = "texts"
# Captions are encoded in batches of exactly this many rows, filled up with repeats: how a kernel rounds
# depends on the shape that it is given, and an embedding must not depend on what it was asked for with.
_ROWS = 4


class TextCache:
    """See `protocols.Texts`."""

    def __init__(self, base: Base, store: Store, *, memory_bytes: int = 2**30) -> None:
        self._base = base
        self._store = store
        self._memory = Memory(memory_bytes)

    def embed(self, captions: Iterable[str]) -> torch.Tensor:
        """Embeddings (B, L, D) on the base's device, without gradient.

        What is missing is encoded and kept in memory only: shuffled captions hardly ever come twice, and
        training should not wait for the disk.
        """
        wanted = list(captions)
        held = {caption: self._memory.get(self._key(caption)) for caption in dict.fromkeys(wanted)}
        found = {caption: entry["text"] for caption, entry in held.items() if entry is not None}
        found.update(self._encode([caption for caption in held if caption not in found]))
        return torch.stack([found[caption] for caption in wanted])

    def warm(self, captions: Iterable[str]) -> None:
        """Bring captions into memory, encoding what no process has encoded before and keeping it on disk."""
        missing = [caption for caption in dict.fromkeys(captions) if not self._hold(caption)]
        for caption, text_LD in self._encode(missing).items():
            self._store.put(_KIND, self._key(caption), {"text": text_LD})

    def _key(self, caption: str) -> str:
        base = self._base
        return digest([caption, base.text_fingerprint, str(base.dtype), base.device.type])

    def _hold(self, caption: str) -> bool:
        """Bring a caption from disk into memory; False when it is in neither."""
        key = self._key(caption)
        if key in self._memory:
            return True
        found = self._store.get(_KIND, key)
        if found is None or "text" not in found:
            return False
        self._memory.put(key, {"text": found["text"].to(self._base.device)})
        return True

    @torch.no_grad()
    def _encode(self, captions: Sequence[str]) -> dict[str, torch.Tensor]:
        made: dict[str, torch.Tensor] = {}
        # Asked for by a training step or not, a caption means the same bits: autocast would round otherwise.
        plainly = torch.autocast(self._base.device.type, enabled=False)
        with lora_weight.without_adapters(self._base.text_encoder), plainly:
            for start in range(0, len(captions), _ROWS):
                chunk = captions[start : start + _ROWS]
                rows = [*chunk, *[chunk[-1]] * (_ROWS - len(chunk))]
                text_BLD = self._base.encode_captions(rows)
                # Copies: a view would keep the whole batch alive.
                made.update((caption, text_BLD[row].clone()) for row, caption in enumerate(chunk))
        for caption, text_LD in made.items():
            self._memory.put(self._key(caption), {"text": text_LD})
        return made
