"""Write the commands that mend a dataset, to copy into any system's shell, and move the files that some of them name.

What is set aside goes to `.aside/` in the dataset, which is hidden and so never trained on.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from lorasweep.core.errors import DatasetError, Problem
from lorasweep.core.printable import command

_ASIDE = ".aside"


def rewrite(root: Path, *words: str, new_only: bool = False) -> str:
    """Write captions anew by a policy, e.g. `captions.clean.implied=true`; `new_only`: where there are none."""
    ways = ["--write"] if new_only else ["--write", "--overwrite"]
    return command("lorasweep", "caption", str(root), "--apply", *words, *ways)


def look_again(root: Path, *words: str) -> str:
    """Audit with other keys, which are to be given to `train` and in sweep files as well."""
    return command("lorasweep", "audit", str(root), *words)


def aside(root: Path, images: Iterable[Path], *, extension: str = "") -> str:
    """Move files out of the training; with an extension, the captions beside them too."""
    files = [file for path in images for file in (path, _spelt(path.with_suffix(extension or path.suffix)))]
    named = dict.fromkeys(str(file) for file in files if os.path.exists(file))  # no error, whatever its name
    return look_again(root, "--aside", *named)


def _spelt(file: Path) -> Path:
    """Return a file as it is there, whether letters of its name are whole or taken apart."""
    forms = [file, *(file.with_name(unicodedata.normalize(form, file.name)) for form in ("NFC", "NFD"))]
    return next((form for form in forms if os.path.exists(form)), file)


def renamed(root: Path, names: Mapping[Path, Path]) -> str:
    """Rename files or folders of a dataset: old -> new."""
    return look_again(root, *(word for old, new in names.items() for word in ("--rename", str(old), str(new))))


def aside_of(root: Path, files: Iterable[Path]) -> dict[Path, Path]:
    """Find where files go that are set aside, each by the folders that it is in."""
    return {
        file: root / _ASIDE / (file.relative_to(root) if file.is_relative_to(root) else file.name) for file in files
    }


def move(root: Path, names: Mapping[Path, Path]) -> None:
    """Move files or folders of a dataset, old -> new; all or, where one is in the way, none.

    Raises:
        DatasetError: one is not there, lies elsewhere, or would replace another.
    """
    taken = Counter(names.values())
    problems = []
    for old, new in names.items():
        if not (old.exists() and root in old.parents):
            problems.append(Problem(str(old), "is not in the dataset"))
        elif root not in new.parents:
            problems.append(Problem(str(new), "must be in the dataset"))
        elif new.exists() or taken[new] > 1:
            message = f"{new} is there already" if new.exists() else f"{new} is named twice"
            problems.append(Problem(str(old), message))
    if problems:
        raise DatasetError(problems, subject=f"the dataset {root}")
    for old, new in names.items():
        new.parent.mkdir(parents=True, exist_ok=True)
        old.rename(new)
