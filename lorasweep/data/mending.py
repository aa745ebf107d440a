"""Write the commands that mend a dataset, to copy into a shell; nothing here touches a file.

What is set aside goes to `.aside/` in the dataset, which is hidden and so never trained on.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path


def rewrite(root: Path, *words: str, new_only: bool = False) -> str:
    """Write captions anew by a policy, e.g. `captions.clean.implied=true`; `new_only`: where there are none."""
    ways = ["--write"] if new_only else ["--write", "--overwrite"]
    return shlex.join(["lorasweep", "caption", str(root), "--apply", *words, *ways])


def look_again(root: Path, *words: str) -> str:
    """Audit with other keys, which are to be given to `train` and in sweep files as well."""
    return shlex.join(["lorasweep", "audit", str(root), *words])


def aside(root: Path, images: Iterable[Path], *, extension: str = "") -> str:
    """Move files out of the training; with an extension, the captions beside them too."""
    files = [file for path in images for file in (path, path.with_suffix(extension or path.suffix))]
    moved = dict.fromkeys(str(file) for file in files if os.path.exists(file))  # no error, whatever its name
    place = str(root / ".aside")
    return f"{shlex.join(['mkdir', '-p', place])} && {shlex.join(['mv', *moved, place])}"


def listed(key: str, values: Iterable[str]) -> str:
    """Write `key=["red hat","blue hat"]` in Hydra's grammar."""
    return f"{key}={json.dumps(list(values), ensure_ascii=False, separators=(',', ':'))}"


def mapped(key: str, values: Mapping[str, str]) -> str:
    """Write `key={zkv: "zkw"}` in Hydra's grammar, which takes keys without quotes, but with backslashes."""
    escaped = {re.sub(r"([\\()\[\]{}:=,])", r"\\\1", old): new for old, new in values.items()}
    pairs = ", ".join(f"{old}: {json.dumps(new, ensure_ascii=False)}" for old, new in escaped.items())
    return f"{key}={{{pairs}}}"


def moved(old: Path, new: Path) -> str:
    """Rename a file or folder."""
    return shlex.join(["mv", str(old), str(new)])
