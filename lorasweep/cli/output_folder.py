"""The output folder is checked before any work starts."""

from __future__ import annotations

import tempfile
from pathlib import Path

from lorasweep.errors import InputError, Problem


def require_writable(folder: Path) -> None:
    """Make `folder`, or explain why it cannot hold results.

    Raises:
        InputError: the folder, or one above it, cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            Problem(
                str(folder),
                f"results cannot be written here: {error.strerror or error}",
                "choose another place with LORASWEEP_HOME=/some/folder",
            ),
            subject="the output folder",
        ) from error
