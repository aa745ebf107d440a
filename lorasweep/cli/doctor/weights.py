"""The embedded base, file by file: against the wheel's own record, or against the commit in a checkout."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from importlib import metadata
from pathlib import Path

import lorasweep
from lorasweep.cli.doctor.record import Check, fail, ok, warn

NAME = "dollhouse"
_AGAIN = "install lorasweep again, or git checkout lorasweep/dollhouse/weights"


def dollhouse() -> Check:
    """Whether the weights are those that were shipped."""
    folder = Path(lorasweep.__file__).resolve().parent / "dollhouse" / "weights"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    total = sum(path.stat().st_size for path in files) / 2**20
    if not (folder / "model_index.json").is_file():
        return fail(NAME, f"no weights in {folder}", _AGAIN)
    told = f"{len(files)} files, {total:.1f} MiB"
    recorded = _recorded()
    if recorded:
        wrong = [str(path.relative_to(folder)) for path in files if recorded.get(path) != _digest(path)]
        wrong += [str(path.relative_to(folder)) for path in recorded if not path.is_file()]
        return fail(NAME, f"not as shipped: {', '.join(wrong)}", _AGAIN) if wrong else ok(NAME, f"{told}, intact")
    changed = _changed_since_commit(folder)
    if changed is None:
        return ok(NAME, f"{told}, with nothing to compare them with")
    if changed:
        return warn(NAME, f"changed since the commit: {', '.join(changed)}", _AGAIN)
    return ok(NAME, f"{told}, as committed")


def _recorded() -> dict[Path, str]:
    """Digests of the weights in an installed wheel's RECORD; empty in a checkout."""
    found = {}
    for entry in metadata.files("lorasweep") or ():
        if "dollhouse/weights/" in entry.as_posix() and entry.hash is not None:
            found[Path(str(entry.locate())).resolve()] = entry.hash.value
    return found


def _digest(path: Path) -> str:
    """As RECORD has it: base64 without padding."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _changed_since_commit(folder: Path) -> list[str] | None:
    """Files that differ from the checkout's commit; None when this is no checkout."""
    command = ["git", "-C", str(folder), "status", "--porcelain", "--", "."]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return [line[3:].rpartition("weights/")[2] for line in done.stdout.splitlines()]
