"""Equal tensors and metadata give equal bytes: what the safetensors library does not promise."""

from __future__ import annotations

import json
from pathlib import Path


def sort_metadata(path: Path) -> None:
    """Put the metadata of a .safetensors into order: the library hashes it, differently in every process."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8, as the library has it
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])
