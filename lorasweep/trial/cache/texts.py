"""What the frozen text encoders make of captions.

Implements `protocols.Texts` over memory, then disk, then the base's text encoders with every adapter in them
silenced. Recipes that train a text encoder do not come here: they encode live.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from lorasweep.core.protocols import Base, Text
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

    def embed(self, captions: Iterable[str]) -> Text:
        """Captions together on the base's device, without gradient.

        What is missing is encoded and kept in memory only: shuffled captions hardly ever come twice, and
        training should not wait for the disk.
        """
        wanted = list(captions)
        needed = dict.fromkeys(wanted if len({*map(self._base.chunks, wanted)}) < 2 else [*wanted, ""])
        held = {caption: self._memory.get(self._key(caption)) for caption in needed}
        found = {caption: entry for caption, entry in held.items() if entry is not None}
        if missing := [caption for caption in needed if caption not in found]:
            found |= self._encode(missing)
        return self._base.stack([found[caption] for caption in wanted], found.get("", {}))

    def warm(self, captions: Iterable[str]) -> None:
        """Bring captions into memory, encoding what no process has encoded before and keeping it on disk."""
        missing = [caption for caption in dict.fromkeys(captions) if not self._hold(caption)]
        for caption, text in self._encode(missing).items():
            self._store.put(_KIND, self._key(caption), text)

    def _key(self, caption: str) -> str:
        base = self._base
        return digest([caption, base.text_fingerprint, str(base.dtype), base.device.type])

    def _hold(self, caption: str) -> bool:
        """Bring a caption from disk into memory; False when it is in neither."""
        key = self._key(caption)
        if key in self._memory:
            return True
        found = self._store.get(_KIND, key)
        if found is None or "embeds" not in found:
            return False
        self._memory.put(key, {name: tensor.to(self._base.device) for name, tensor in found.items()})
        return True

    @torch.no_grad()
    def _encode(self, captions: Sequence[str]) -> dict[str, Text]:
        """Encode captions, those of one length together."""
        made: dict[str, Text] = {}
        by_length: dict[int, list[str]] = {}
        for caption in captions:
            by_length.setdefault(self._base.chunks(caption), []).append(caption)
        # Asked for by a training step or not, a caption means the same bits: autocast would round otherwise.
        with lora_weight.without_adapters(self._base), torch.autocast(self._base.device.type, enabled=False):
            for group in by_length.values():
                for start in range(0, len(group), _ROWS):
                    chunk = group[start : start + _ROWS]
                    text = self._base.encode_captions([*chunk, *[chunk[-1]] * (_ROWS - len(chunk))])
                    for row, caption in enumerate(chunk):
                        held = text["mask"][row] if "mask" in text else slice(None)
                        # Copies: a view would keep the whole batch alive.
                        made[caption] = {name: tensor[row][held].clone() for name, tensor in text.items()}
        for caption, text in made.items():
            self._memory.put(self._key(caption), text)
        return made
