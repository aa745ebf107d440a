"""Tensors on disk under the digest of what they were made from, shared by processes; and a bounded memory.

    <root>/<kind>/<first two hex digits>/<digest>.safetensors

A file is written whole or not at all, and the same digest always holds the same content, so writers need no
lock. A file that cannot be read is removed and made again. Knows nothing about what the tensors mean.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from lorasweep.core import files

logger = logging.getLogger(__name__)

Tensors = dict[str, torch.Tensor]

BEING_WRITTEN_SECONDS = 3600.0  # a temporary file younger than this has a writer; an older one lost it


class Store:
    """The disk layer."""

    def __init__(self, root: Path, *, max_bytes: int = 20 * 2**30, check_every: int = 256) -> None:
        """Open a store; its root is made when first written to.

        Of `max_bytes` of all files together, the ones that were not read for longest go first; `check_every` writes lie
        between two looks at the total, since looking lists every file.
        """
        self._root = root
        self._max_bytes = max_bytes
        self._check_every = check_every
        self._writes = 0

    def get(self, kind: str, digest: str) -> Tensors | None:
        """Read an entry and mark it as used; None when it is not there or was torn."""
        path = self._path(kind, digest)
        try:
            tensors = load(path.read_bytes())  # load_file opens twice; another process may evict in between
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError) as error:
            logger.warning("cache: %s cannot be read (%s); it is made again", path.name, error)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):  # evicted this instant, or a cache that we may only read
            os.utime(path)
        return tensors

    def put(self, kind: str, digest: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write an entry; a disk that refuses it costs time later, not the training."""
        whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        try:
            files.write_atomic(self._path(kind, digest), lambda path: save_file(whole, path))
            if self._writes % self._check_every == 0:
                self._make_room()
        except OSError as error:
            logger.warning("cache: cannot write to %s (%s)", self._root, error)
        self._writes += 1

    def _path(self, kind: str, digest: str) -> Path:
        return self._root / kind / digest[:2] / f"{digest}.safetensors"

    def _make_room(self) -> None:
        """Remove what was not used for longest until the total fits; others may be doing the same."""
        found = []
        for path in self._root.glob("*/??/*.safetensors"):
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            if path.name.startswith(".") and time.time() - stat.st_mtime < BEING_WRITTEN_SECONDS:
                continue
            found.append((stat.st_mtime_ns, stat.st_size, path))
        excess = sum(size for _, size, _ in found) - self._max_bytes
        for _, size, path in sorted(found):
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= size


class Memory:
    """The layer above: tensors of this process, the least recently used dropped first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._held: OrderedDict[str, Tensors] = OrderedDict()

    def __contains__(self, digest: str) -> bool:
        return digest in self._held

    def get(self, digest: str) -> Tensors | None:
        """Read an entry and mark it as used."""
        if digest in self._held:
            self._held.move_to_end(digest)
        return self._held.get(digest)

    def put(self, digest: str, tensors: Tensors) -> None:
        """Hold an entry; the newest stays even when it alone is too large."""
        self._bytes += _size(tensors) - _size(self._held.pop(digest, {}))
        self._held[digest] = tensors
        while self._bytes > self._max_bytes and len(self._held) > 1:
            self._bytes -= _size(self._held.popitem(last=False)[1])


def _size(tensors: Mapping[str, torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())
