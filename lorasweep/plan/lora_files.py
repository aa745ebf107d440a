"""LoRA files that are judged, in the order in which they were saved, or that training starts from. No torch.

    [my-000002.safetensors, my-000004.safetensors, my.safetensors]  ->  Ordered(steps=(2, 4, 6), unit="epochs")

A file's metadata say best when it was saved, then its name and those of its folders, as trainers write them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lorasweep.components.adapters import file
from lorasweep.components.adapters._start import KEY, Trained, place_start
from lorasweep.core import files, registry
from lorasweep.core.errors import InputError, Problem
from lorasweep.core.printable import some
from lorasweep.core.records import Recipe
from lorasweep.plan.trainable import layer_shapes

Unit = Literal["steps", "epochs"]
SUFFIX = ".safetensors"
_OFFERED = 5  # tags
_STEP_NAMES = (
    r"(?:^|[^a-z])step[_-]?0*(\d+)$",  # kohya, OneTrainer, a run folder of ours: my-step00000500, step_000100
    r"^checkpoint-(\d+)$",  # diffusers, SimpleTuner
    r"_0*(\d{9})$",  # ai-toolkit
    r"-(\d+)-\d+-\d+$",  # OneTrainer: step, epoch, step of the epoch
)
_EPOCH_NAMES = (r"-(\d{6})$", r"(?:^|[^a-z0-9])e(?:poch)?[_-]?0*(\d+)$")  # but not the rate in my_lr_1e4


@dataclass(frozen=True)
class Ordered:
    """Files by ascending step."""

    paths: tuple[Path, ...]
    steps: tuple[int, ...]
    unit: Unit


def has_files(recipe: Recipe) -> bool:
    """Tell whether files are judged, so that nothing is trained."""
    return are_files(recipe.adapter.name)


def are_files(adapter: str) -> bool:
    """Tell whether that kind of adapter is files, of those that there are: a plugin may be gone since a run."""
    return adapter in registry.names("adapter") and not getattr(registry.load("adapter", adapter), "TRAINS", True)


def base_shapes(recipe: Recipe) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the base's weights, by part and module; empty where headers do not tell."""
    parts = registry.load("base", recipe.base.name).weight_shapes(recipe.base) or {}
    return {f"{part}.{name}": shape for part, found in parts.items() for name, shape in found.items()}


def digests(recipe: Recipe) -> list[str]:
    """Digest the bytes of every file that is judged, or of the one that training starts from."""
    if has_files(recipe):
        return [files.file_digest(Path(path)) for path in recipe.adapter.options["paths"]]
    start = _start(recipe)
    return [files.file_digest(start)] if start else []


def problems(recipe: Recipe) -> Iterator[Problem]:
    """Find files that are not there, are no LoRAs or are of another base, and a recipe that would train them.

    Whether they are of this base is not known from one checkpoint file: it is seen when they are loaded.
    """
    if start := _start(recipe):
        yield from _start_problems(recipe, start)
    if not has_files(recipe):
        return
    if not recipe.adapter.options["paths"]:
        yield Problem("adapter", "files are judged, not trained", "lorasweep judge FILE... KEY=VALUE ...")
    shapes = base_shapes(recipe)
    for path in map(Path, recipe.adapter.options["paths"]):
        yield from unreadable(path) or (file.problems_with(path, shapes) if shapes else [])


def unreadable(path: Path) -> list[Problem]:
    """Tell what keeps a file from being a LoRA at all, or from being of use; nothing when it is one."""
    if not path.is_file():
        return [Problem(str(path), "no such file", f"judge takes {SUFFIX} files")]
    return file.unreadable(path)


def notes(recipe: Recipe, trigger: str | None) -> Iterator[str]:
    """Say which files change nothing, and offer a trigger word from them, where none is known."""
    for path in filter(file.changes_nothing, recipe.adapter.options["paths"]):
        yield f"{path} changes nothing: its products are zero, as before any training"
    if trigger is not None:
        return
    told = "no trigger word: whether the subject is there, and still obeys, is not asked; captions.trigger=WORD"
    counted: Counter[str] = Counter()
    for tags in file.describe(recipe.adapter.options["paths"][-1]).tag_frequency.values():
        counted.update(tags)
    if found := counted.most_common(_OFFERED):
        told += f"; most frequent in the file's own notes: {', '.join(f'{tag} ({count})' for tag, count in found)}"
    yield told


def order(paths: Sequence[Path], *, steps: Sequence[int] | None = None) -> Ordered | Problem:
    """Put files, each of them readable, in the order in which they were saved; `steps` where a person says them."""
    if steps is not None:
        if len(steps) != len(paths) or len(set(steps)) < len(steps):
            listed = ", ".join(map(str, steps)) or "none"
            message = f"must be one step for each of the {len(paths)} files, none twice, got {listed}"
            return Problem("--steps", message)
        return _ordered(paths, steps, "steps")
    sources: tuple[tuple[Callable[[Path], int | None], Unit], ...] = (
        (lambda path: file.describe(path).steps, "steps"),
        (lambda path: _named(path, _STEP_NAMES), "steps"),
        (lambda path: file.describe(path).epoch, "epochs"),
        (lambda path: _named(path, _EPOCH_NAMES), "epochs"),
    )
    for read, unit in sources:
        if told := _complete(found := [read(path) for path in paths]):
            return _ordered(paths, told, unit)
        twice = [step for step, count in Counter(found).items() if step and 1 < count < len(paths)]
        if twice and read is sources[0][0]:
            alike = some([path.name for path, step in zip(paths, found, strict=True) if step == twice[0]])
            hint = "give one of them; side by side: NAME=FILE for each; or --steps, in the order of the files"
            return Problem(str(paths[0]), f"several files say that they are of step {twice[0]}: {alike}", hint)
    if len(paths) == 1:
        return Ordered(tuple(paths), (1,), "steps")
    message = f"nothing tells in which order these {len(paths)} files were saved: neither metadata nor names do"
    hint = "--steps 500,1000,... in the order of the files; of several trainings NAME=FILE for each"
    return Problem(str(paths[0]), message, hint)


def _ordered(paths: Sequence[Path], steps: Sequence[int], unit: Unit) -> Ordered:
    by_step = sorted(zip(steps, paths, strict=True))
    return Ordered(tuple(path for _, path in by_step), tuple(step for step, _ in by_step), unit)


def _complete(told: Sequence[int | None]) -> list[int] | None:
    """Return steps that are all known and differ; one that has none is the last, as a training's end has no number."""
    known = sorted(step for step in told if step)
    if len(known) < len(told) - 1 or not known or len(set(known)) < len(known):
        return None
    last = known[-1] + (known[-1] - known[-2] if len(known) > 1 else known[-1])
    return [step or last for step in told]


def _named(path: Path, patterns: Sequence[str]) -> int | None:
    """Return the number in a file's name, else in its folder's."""
    for name in (path.stem, path.absolute().parent.name):
        for pattern in patterns:
            if (found := re.search(pattern, name, re.IGNORECASE)) and int(found[1]) > 0:
                return int(found[1])
    return None


def _start_problems(recipe: Recipe, path: Path) -> list[Problem]:
    """Find what keeps training from starting at a file; where the base's headers do not tell, loading does."""
    if not path.is_file():
        return [Problem(KEY, f"no such file: {path}", "a .safetensors, or null")]
    shapes, own, name = base_shapes(recipe), layer_shapes(recipe), recipe.adapter.name
    if not shapes or own is None:
        return file.unreadable(path)
    trained = {module: Trained(found, _scale(recipe, shapes[module])) for module, found in own.items()}
    kind = name if name in ("loha", "lokr", "ia3") else "lora"
    try:
        place_start(path, shapes, kind=kind, trained=trained)
    except InputError as error:
        return error.problems
    return file.broken(path)


def _start(recipe: Recipe) -> Path | None:
    """Return the file that training starts from (`adapter.init`)."""
    path = recipe.adapter.options.get("init")
    return None if path is None else Path(path).expanduser()


def _scale(recipe: Recipe, shape: tuple[int, ...]) -> float:
    """Return alpha / r of what is beside a weight; (IA)^3 has none."""
    options = recipe.adapter.options
    kernel = "conv_" if "conv_dim" in options and len(shape) == 4 and shape[2:] != (1, 1) else ""
    return float(options[f"{kernel}alpha"] / options[f"{kernel}dim"]) if "dim" in options else 1.0
