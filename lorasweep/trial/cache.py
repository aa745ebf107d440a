"""What is expensive to compute and the same for every trial: latents and caption embeddings, by content.

    <root>/<kind>/<first two hex digits>/<digest of what it was made from>.safetensors

Looked for in memory, then on disk, which processes share, then made by the base. What it was made from includes the
code: another version may read an image or a caption otherwise. A file is written whole or not at all, and the same
digest always holds the same content, so writers need no lock. A file that cannot be read is removed and made again.
C channels, H W latent size.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from lorasweep.core import files, paths
from lorasweep.core.protocols import Base, Text
from lorasweep.core.provenance import code_digest
from lorasweep.core.records import PlannedImage, digest
from lorasweep.data.images import load_mask, load_planned
from lorasweep.trial import lora_weight

logger = logging.getLogger(__name__)

T = TypeVar("T")
Tensors = dict[str, torch.Tensor]

BEING_WRITTEN_SECONDS = 3600.0  # a temporary file younger than this has a writer; an older one lost it
_ROWS = 4


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

    def get(self, kind: paths.Cache, digest: str) -> Tensors | None:
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

    def put(self, kind: paths.Cache, digest: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write an entry; a disk that refuses it costs time later, not the training."""
        whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        try:
            files.write_atomic(self._path(kind, digest), lambda path: save_file(whole, path))
            if self._writes % self._check_every == 0:
                self._make_room()
        except (SafetensorError, OSError) as error:
            logger.warning("cache: cannot write to %s (%s)", self._root, error)
        self._writes += 1

    def _path(self, kind: paths.Cache, digest: str) -> Path:
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


def of_one_size(items: Sequence[T]) -> Iterator[tuple[Sequence[T], list[T]]]:
    """Yield what to encode in batches of exactly `_ROWS`, and these filled up with repeats.

    How a kernel rounds depends on the shape that it is given; what is encoded must not depend on what it was asked for
    with.
    """
    for start in range(0, len(items), _ROWS):
        batch = items[start : start + _ROWS]
        yield batch, [*batch, *[batch[-1]] * (_ROWS - len(batch))]


class Layers:
    """Entries of one kind, which have tensors of these names: in memory, on a device, and on disk, if there is one."""

    def __init__(
        self, kind: paths.Cache, names: set[str], device: torch.device | str, store: Store | None, memory_bytes: int
    ) -> None:
        self._kind, self._names, self._device, self._store = kind, names, device, store
        self.memory = Memory(memory_bytes)

    def get(self, key: str) -> Tensors | None:
        """Find an entry, and bring it into memory; None when no process has made it."""
        if (held := self.memory.get(key)) is not None:
            return held
        found = None if self._store is None else self._store.get(self._kind, key)
        if found is None or not self._names <= found.keys():
            return None
        placed = {name: tensor.to(self._device) for name, tensor in found.items()}
        self.memory.put(key, placed)
        return placed

    def keep(self, key: str, made: Tensors) -> None:
        """Hold an entry in memory, and write it to disk."""
        self.memory.put(key, made)
        if self._store is not None:
            self._store.put(self._kind, key, made)


class LatentCache:
    """Latents of planned images."""

    def __init__(self, base: Base, store: Store, *, memory_bytes: int = 2 * 2**30) -> None:
        self._base = base
        self._layers = Layers("latents", {"mean", "std"}, base.device, store, memory_bytes)
        self._masks = Memory(memory_bytes // 8)  # 64 KB each at 1024 px, where a latent has eight times as much

    def mean_std(self, image: PlannedImage) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and std of the image's latent, scaled, both (C, H, W), fp32, on the base's device."""
        key = self._key(image)
        held = self._layers.get(key) or self._encode(key, image)
        return held["mean"], held["std"]

    def mask(self, image: PlannedImage, size: Sequence[int]) -> torch.Tensor:
        """Tell how white the mask is at each place of an image's latent: (1, H, W) of that `size`, 0 to 1; 1 without.

        Source: kohya-ss/sd-scripts, library/custom_train_functions.py, apply_masked_loss: means over areas.
        """
        if image.mask is None:
            return torch.ones(1, *size, device=self._base.device)
        key = digest([image.mask, image.resize_px, image.crop_px, image.bucket])
        if (held := self._masks.get(key)) is None:
            pixels_HW = torch.from_numpy(np.asarray(load_mask(image, image.mask), dtype=np.float32) / 255)
            small_1HW = torch.nn.functional.interpolate(pixels_HW[None, None], size=tuple(size), mode="area")[0]
            self._masks.put(key, held := {"mask": small_1HW.to(self._base.device)})
        return held["mask"]

    def warm(self, images: Iterable[PlannedImage]) -> None:
        """Bring every image into memory, encoding what no process has encoded before.

        One at a time: a convolution rounds differently in batches of another size, and a latent must not
        depend on which images it was asked for with. (8 images of 64 px take as long in one batch, 0.06 s.)
        """
        for image in images:
            self.mean_std(image)

    def _key(self, image: PlannedImage) -> str:
        return digest(
            [
                code_digest(),
                image.source,
                image.resize_px,
                image.crop_px,
                image.bucket,
                self._base.vae_fingerprint,
                "torch.float32",  # in which every VAE works
                self._base.device.type,
            ]
        )

    def _encode(self, key: str, image: PlannedImage) -> Tensors:
        pixels_HWC = np.asarray(load_planned(image), dtype=np.float32) / 127.5 - 1.0
        pixels_CHW = torch.from_numpy(pixels_HWC).permute(2, 0, 1)
        mean_BCHW, std_BCHW = self._base.encode_images(pixels_CHW[None])
        made = {"mean": mean_BCHW[0].to(self._base.device), "std": std_BCHW[0].to(self._base.device)}
        self._layers.keep(key, made)
        return made


class TextCache:
    """Captions as the base's text encoders have them, which encode with every adapter in them silenced.

    Recipes that train a text encoder do not come here: they encode live.
    """

    def __init__(self, base: Base, store: Store, *, memory_bytes: int = 2**30) -> None:
        self._base = base
        self._layers = Layers("texts", {"embeds"}, base.device, store, memory_bytes)

    def embed(self, captions: Iterable[str]) -> Text:
        """Return captions together on the base's device, without gradient.

        What is missing is encoded and kept in memory only: shuffled captions hardly ever come twice, and
        training should not wait for the disk.
        """
        wanted = list(captions)
        needed = dict.fromkeys(wanted if len({*map(self._base.chunks, wanted)}) < 2 else [*wanted, ""])
        held = {caption: self._layers.memory.get(self._key(caption)) for caption in needed}
        found = {caption: entry for caption, entry in held.items() if entry is not None}
        if missing := [caption for caption in needed if caption not in found]:
            found |= self._encode(missing)
        return self._base.stack([found[caption] for caption in wanted], found.get("", {}))

    def warm(self, captions: Iterable[str]) -> None:
        """Bring captions into memory, encoding what no process has encoded before and keeping it on disk."""
        missing = [caption for caption in dict.fromkeys(captions) if self._layers.get(self._key(caption)) is None]
        for caption, text in self._encode(missing).items():
            self._layers.keep(self._key(caption), text)

    def _key(self, caption: str) -> str:
        base = self._base
        return digest([code_digest(), caption, base.text_fingerprint, str(base.dtype), base.device.type])

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
                for batch, filled in of_one_size(group):
                    text = self._base.encode_captions(filled)
                    for row, caption in enumerate(batch):
                        held = text["mask"][row] if "mask" in text else slice(None)
                        # Copies: a view would keep the whole batch alive.
                        made[caption] = {name: tensor[row][held].clone() for name, tensor in text.items()}
        for caption, text in made.items():
            self._layers.memory.put(self._key(caption), text)
        return made
