"""What lorasweep keeps to be quicker the next time: how much of it there is, and away with it. No run is in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from lorasweep.config.suggest import unknown
from lorasweep.core import paths
from lorasweep.core.errors import InputError, Problem, SweepHeldError
from lorasweep.core.run_folder import folders_in

_Kind = paths.Cache | Literal["facts"]
_KINDS: dict[_Kind, str] = {  # and what is in them; facts are the files beside the folders of the others
    "latents": "training images as the VAE has them; up to 20 GiB with texts and features",
    "texts": "captions as text encoders have them",
    "features": "pictures as the models that judge see them",
    "base_samples": "what bases draw without a LoRA",
    "class_images": "what bases draw for regularization",
    "dollhouse": "datasets of the embedded world",
    "tags": "what taggers said of images",
    "inputs": "what drivers on other machines sent here",
    "facts": "digests, sizes and checks of files, measured speeds",
}


@dataclass(frozen=True)
class Cached:
    """One kind of what is kept."""

    kind: str
    what: str  # in words
    files: int
    bytes: int


def cache(*kinds: str) -> list[Cached]:
    """Tell what is kept, by kind: all of them, or those named.

    Raises:
        InputError: there is no such kind.
    """
    return [_counted(kind, [*_files(kind)]) for kind in _named(kinds)]


def clear_cache(*kinds: str) -> list[Cached]:
    """Remove what is kept, of all kinds or of those named; returns what went. It is made again when it is needed.

    Raises:
        InputError: there is no such kind.
        SweepHeldError: something is being cooked here, which reads from it.
    """
    from lorasweep.sweep.workers.lock import holder, is_held

    wanted = _named(kinds)
    for folder in (run for sweep in folders_in(paths.outputs()) for run in (sweep, *folders_in(sweep))):
        if who := holder(folder):
            raise SweepHeldError(f"{folder} is being cooked by {who}, which reads from the cache. Wait for it.")
    for lease in paths.scratch().glob("*.lock"):
        if is_held(lease):
            raise SweepHeldError(
                f"{lease.with_suffix('')} is being cooked for another machine, which reads from the cache. Wait for it."
            )
    return [_remove(kind) for kind in wanted]


def _named(kinds: tuple[str, ...]) -> list[_Kind]:
    if problems := [
        Problem(kind, unknown("no such kind of cache", kind, _KINDS), f"kinds: {', '.join(_KINDS)}")
        for kind in kinds
        if kind not in _KINDS
    ]:
        raise InputError(problems, subject="the cache")
    return [kind for kind in _KINDS if kind in kinds or not kinds]


def _remove(kind: _Kind) -> Cached:
    files = [*_files(kind)]
    removed = _counted(kind, files)
    for file in files:
        file.unlink(missing_ok=True)
    if kind != "facts":
        for folder in sorted((each for each in paths.cache(kind).rglob("*") if each.is_dir()), reverse=True):
            with contextlib.suppress(OSError):  # something was put there meanwhile
                folder.rmdir()
    return removed


def _files(kind: _Kind) -> Iterator[Path]:
    if kind == "facts":
        yield from (file for name in get_args(paths.Facts) if (file := paths.facts(name)).is_file())
    else:
        yield from (file for file in paths.cache(kind).rglob("*") if file.is_file() or file.is_symlink())


def _counted(kind: _Kind, files: list[Path]) -> Cached:
    sizes = []
    for file in files:
        with contextlib.suppress(OSError):  # evicted this instant
            sizes.append(file.lstat().st_size)
    return Cached(kind, _KINDS[kind], len(sizes), sum(sizes))
