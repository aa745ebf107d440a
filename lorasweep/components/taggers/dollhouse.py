"""The embedded world's reader as a tagger: booru tags of paper dolls, for trying captioning out anywhere.

It knows nothing else: a picture that is no doll gets no tag.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lorasweep.core import files
from lorasweep.core.protocols import ImageList, Tag
from lorasweep.core.ranges import Count, Share
from lorasweep.dollhouse import weights_dir
from lorasweep.dollhouse.reader.labels import HEADS
from lorasweep.dollhouse.world.spec import Spec, attribute_tags

if TYPE_CHECKING:
    from PIL import Image

_AREA_PX = 64 * 64  # of the world's pictures
_SHORTEST_PX = 32


def build(*, threshold: Share, batch_size: Count) -> DollTagger:
    """Load the reader."""
    from lorasweep.dollhouse.reader.reader import WEIGHTS_NAME

    return DollTagger(threshold, batch_size, files.file_digest(weights_dir() / "reader" / WEIGHTS_NAME))


class DollTagger:
    """See `protocols.Tagger`."""

    def __init__(self, threshold: float, batch_size: int, fingerprint: str) -> None:
        """Load the reader's weights."""
        from lorasweep.dollhouse.reader.reader import Reader

        self.thresholds, self.batch_size, self.fingerprint = {"general": threshold}, batch_size, fingerprint
        self._reader = Reader.load()

    def tag(self, pictures: ImageList) -> list[list[Tag]]:
        """Return a tag per attribute, each picture read in about the world's own size."""
        return [self._tag(picture) for picture in pictures]

    def _tag(self, picture: Image.Image) -> list[Tag]:
        import numpy as np
        import torch

        scale = (_AREA_PX / (picture.width * picture.height)) ** 0.5
        size = [max(_SHORTEST_PX, round(scale * side)) for side in picture.size]
        pixels = torch.from_numpy(np.asarray(picture.resize(size), np.float32) / 255).permute(2, 0, 1)
        reading = self._reader.read(pixels[None])
        likeliest = {head: rows[0].max(dim=0) for head, rows in reading.probabilities.items()}
        seen: dict[str, Any] = {head: HEADS[head][found.indices] for head, found in likeliest.items()}
        is_doll = 1 - reading.corrupt_B.item()
        sure = {head: is_doll * found.values.item() for head, found in likeliest.items()}
        sure["outfit"] = min(sure["outfit"], sure["outfit_color"])
        tags = [("1girl", is_doll), *((tag, sure[head]) for head, tag in attribute_tags(Spec(**seen)).items())]
        return [Tag(text, confidence, "general") for text, confidence in tags]
