"""Where a result comes from: versions, code, machine. Knows nothing about recipes."""

from __future__ import annotations

import functools
import hashlib
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import lorasweep
from lorasweep.core import registry

# Those that have a say in the result of a recipe.
COMPUTING = (
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "accelerate",
    "prodigyopt",
    "pytorch_optimizer",
    "bitsandbytes",
    "pillow",
)
_LIBRARIES = (*COMPUTING, "optuna", "hydra-core")
# What decides nothing about the result of a recipe once it is resolved: how it is composed, scheduled, shown.
_BESIDE = frozenset(("cli", "config", "results", "sweep", "testing", "__main__.py", "api"))


def provenance(begun: Mapping[str, Any]) -> dict[str, Any]:
    """Collect versions, git commit when run from a checkout, and the machine, as plain JSON.

    `begun` is that of the work that is continued, if any: what other code began is the result of neither alone.
    """
    before, now = begun.get("code"), code_digest()
    return {
        "lorasweep": lorasweep.__version__,
        "code": now if before in (None, now) else hashlib.sha256(f"{before} {now}".encode()).hexdigest(),
        "libraries": {name: version_of(name) for name in _LIBRARIES},
        "plugins": {plugin.distribution: plugin.version for plugin in registry.plugins()},
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "compute": _compute(),
        "git": _git(),
    }


def _compute() -> dict[str, Any] | None:
    """Return what torch computes with, which decides the last digits; None where nothing was computed."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return None
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"threads": torch.get_num_threads(), "gpu": gpu}


@functools.cache
def code_digest() -> str:
    """Digest of the code that turns a recipe into a result: under equal code, equal recipes come out equal.

    It covers the package's sources, but for those that only compose, schedule or show recipes, and the
    versions of the libraries that compute. A change of a comment counts as a change: better cooked twice than
    taken for the same.
    """
    found = hashlib.sha256(source_digest().encode())
    for name in COMPUTING:
        found.update(f"{name} {version_of(name)}\0".encode())
    return found.hexdigest()


@functools.cache
def source_digest() -> str:
    """Return the part of `code_digest` that is lorasweep's own, whatever is installed beside it."""
    root = Path(lorasweep.__file__).parent
    found = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*.py") if path.relative_to(root).parts[0] not in _BESIDE):
        found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def version_of(name: str) -> str | None:
    """Return the version of an installed distribution; None when there is none."""
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
