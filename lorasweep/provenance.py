"""Where a result comes from: versions, code, machine. Knows nothing about recipes."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import lorasweep

_LIBRARIES = (
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "accelerate",
    "prodigyopt",
    "optuna",
    "hydra-core",
)


def provenance() -> dict[str, Any]:
    """Versions, git commit when run from a checkout, and the machine, as plain JSON."""
    return {
        "lorasweep": lorasweep.__version__,
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "git": _git(),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    """Commit and dirtiness of the checkout that holds the package; None when it is not a checkout."""
    root = Path(lorasweep.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        commit = _run(root, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_run(root, "status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _run(root: Path, *arguments: str) -> str:
    result = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
    )
    return result.stdout.strip()
