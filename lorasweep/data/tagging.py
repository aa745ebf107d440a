"""Let a tagger look at images, each once: what it said is remembered, and goes on where it was killed.

The memory is `cache/tags/<fingerprint>.jsonl`, a line a picture by its content; losing it costs time only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import astuple
from pathlib import Path

from lorasweep.core import files, paths
from lorasweep.core.protocols import Tag, Tagger
from lorasweep.data.images import VERSION, open_rgb


def look_at(tagger: Tagger, images: Mapping[Path, str], tell: Callable[[int, int], None]) -> dict[Path, list[Tag]]:
    """Return what the tagger keeps of every image: characters first, then by confidence.

    Images come with the SHA-256 of their content; `tell` hears how many are done, and of how many. Raises DatasetError
    where one cannot be read.
    """
    memory = paths.cache("tags") / f"{VERSION}-{tagger.fingerprint}.jsonl"
    memory.parent.mkdir(parents=True, exist_ok=True)
    known = {
        row["image"]: [Tag(*tag) for tag in row["tags"]]
        for row in files.read_jsonl(memory, fits=lambda row: isinstance(row.get("tags"), list) and "image" in row)
    }
    new = [
        (content, path) for content, path in {sha: path for path, sha in images.items()}.items() if content not in known
    ]
    for start in range(0, len(new), tagger.batch_size):
        batch = new[start : start + tagger.batch_size]
        said = tagger.tag([open_rgb(path) for _, path in batch])
        for (content, _), tags in zip(batch, said, strict=True):
            known[content] = tags
            files.append_jsonl(memory, {"image": content, "tags": [astuple(tag) for tag in tags]})
        tell(start + len(batch), len(new))
    return {path: _kept(known[content], tagger.thresholds) for path, content in images.items()}


def _kept(tags: list[Tag], thresholds: Mapping[str, float]) -> list[Tag]:
    sure = [tag for tag in tags if tag.confidence >= thresholds[tag.kind]]
    return sorted(sure, key=lambda tag: (tag.kind != "character", -tag.confidence))
