"""Folders of images: what they teach, their captions, and drawn ones."""

from __future__ import annotations

import codecs
import dataclasses
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lorasweep import config
from lorasweep.core import files, paths, progress, registry
from lorasweep.core.errors import ConfigError, InputError, Problem, no_counts
from lorasweep.core.protocols import Tag
from lorasweep.core.records import Component, Recipe
from lorasweep.data import caption_writing, mending
from lorasweep.data.caption_writing import Change
from lorasweep.data.tagging import look_at
from lorasweep.plan import audit as auditing
from lorasweep.plan import caption_policy
from lorasweep.plan.audit import Audit

_MOST_PX = 100_000_000  # of a sheet: 300 MB in memory


def audit(folder: str | Path, *overrides: str, html: str | Path | None = None) -> Audit:
    """Find what a folder of images will teach, and what to mend before training; without torch.

    Raises:
        ConfigError, DatasetError, InputError: there is no such folder, the recipe that the KEY=VALUEs make is wrong, or
            something else lies where the page `html` would be written.
    """
    from lorasweep.results.report import page

    target = None if html is None else paths.typed(html)
    paths.require_replaceable(target, page.is_audit, option="--html")
    recipe = _recipe_of(_root(folder), overrides)
    found = auditing.audit(recipe)
    if target is not None:
        files.write_text(target, page.render_audit(recipe, found))
    return found


def mend(
    folder: str | Path,
    *,
    aside: str | Path | Sequence[str | Path] = (),
    rename: Sequence[tuple[str | Path, str | Path]] = (),
) -> int:
    """Move files of a dataset, all or none: to `.aside/`, not trained on, or to another name; returns how many.

    Raises:
        DatasetError: one is not there, lies elsewhere, or would replace another.
    """
    whole, *asides = (Path(os.path.abspath(file)) for file in (str(_root(folder)), *config.texts([aside], "a file")))
    names = {Path(os.path.abspath(old)): Path(os.path.abspath(new)) for old, new in rename}
    names |= mending.aside_of(whole, asides)
    mending.move(whole, names)
    return len(names)


@dataclass(frozen=True, kw_only=True)
class Captioned:
    """What became of the captions of a folder."""

    changes: Sequence[Change] = ()  # written, or what would change; none where captions went to a folder of their own
    kept: int = 0  # captions that only `overwrite` would have replaced
    captions: int = 0  # that the policy gives, changed or not
    restored: int = 0  # files that an undo brought back
    tags: Mapping[Path, list[Tag]] = field(default_factory=dict)  # what the tagger saw


def caption(
    folder: str | Path,
    *words: str,
    apply: str | Sequence[str] | None = None,
    out: str | Path | None = None,
    write: bool = False,
    overwrite: bool = False,
    undo: bool = False,
    trigger_first: bool = False,
    add: str = "",
    encoding: str = "utf-8",
) -> Captioned:
    """Caption images by a tagger or a policy, show what that would change, or take it back.

    The words are tagger=NAME and KEY=VALUE of the policy, to which `apply` adds (`[]`: the default one); the other
    knobs are those of `lorasweep caption --help`.

    Raises:
        ConfigError: the knobs exclude each other, or the tagger or the policy is wrong: with every problem.
        DatasetError: the folder cannot be read, or was edited since the change to undo.
    """
    root = _root(folder)
    target = None if out is None else paths.typed(out)
    asked = bool(words) or apply is not None
    _require_one_way(target, asked=asked, write=write, overwrite=overwrite, undo=undo, encoding=encoding)
    if write and root.is_dir():
        paths.require_writable(root, option="--out")
    if undo:
        return Captioned(restored=len(caption_writing.undo(root)))
    tagger, recipe = _tagger_and_policy(root, config.texts([*words, apply or ()]))
    seen: dict[Path, list[Tag]] = {}

    def look(images: Mapping[Path, str]) -> Mapping[Path, list[Tag]]:
        assert tagger is not None
        with progress.images_shown() as tell:
            seen.update(look_at(registry.load("tagger", tagger.name).build(**tagger.options), images, tell))
        return seen

    edits = caption_policy.Edits(
        trigger_first=trigger_first, add=add, encoding=encoding, new_only=write and not overwrite
    )
    texts = caption_policy.texts(recipe, root, edits, look if tagger else None)
    if target is not None:
        _write_folder(target, root, texts)
        return Captioned(captions=len(texts), tags=seen)
    changes = caption_writing.changes(texts)
    kept = [change for change in changes if change.before is not None] if write and not overwrite else []
    changes = [change for change in changes if change not in kept]
    if write:
        caption_writing.write(root, changes)
    return Captioned(changes=changes, kept=len(kept), captions=len(texts), tags=seen)


def _root(folder: str | Path) -> Path:
    return paths.typed(folder).absolute()


def _recipe_of(root: Path, overrides: Sequence[str]) -> Recipe:
    """Compose a recipe for a folder whose name may hold anything."""
    recipe = config.compose_recipe(["dataset.path=.", *config.texts(overrides)])
    return dataclasses.replace(recipe, dataset=dataclasses.replace(recipe.dataset, path=str(root)))


def _tagger_and_policy(root: Path, words: Sequence[str]) -> tuple[Component | None, Recipe]:
    """Return the tagger, if there is one, and the policy; raises ConfigError with the problems of both."""
    tagger, policy, problems = config.take_component("tagger", words)
    try:
        recipe = _recipe_of(root, policy)
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems], subject=error.subject) from error
    if problems:
        raise ConfigError(problems, subject="the tagger")
    return tagger, recipe


def _require_one_way(out: Path | None, *, asked: bool, write: bool, overwrite: bool, undo: bool, encoding: str) -> None:
    """Refuse options that say two things, or nothing, or name a place that cannot be written to."""
    problems = []
    if not asked and not undo:
        problems.append(
            Problem("caption", "needs to know what to do", "tagger=wd, --apply captions=cleaned, or --undo")
        )
    if overwrite and not write:
        problems.append(Problem("--overwrite", "only means something with --write", "add --write"))
    if sum((undo, write, out is not None)) > 1:
        problems.append(Problem("--undo, --write, --out", "exclude each other", "give one of them"))
    try:
        codecs.lookup(encoding)
    except LookupError:
        problems.append(Problem("--encoding", f"no such encoding, got {encoding}", "e.g. cp1252 or utf-16"))
    if out is not None and out.exists():
        problems.append(Problem("--out", f"{out} is there already", "name a new folder"))
    if problems:
        raise ConfigError(problems, subject="caption")
    if out is not None:
        paths.require_writable(out.parent, option="--out")


def _write_folder(folder: Path, root: Path, texts: dict[Path, str]) -> None:
    """Write all captions into a folder of their own, laid out as the dataset is."""

    def fill(place: Path) -> None:
        for file, text in texts.items():
            files.write_text(place / file.relative_to(root), text, durable=False)

    files.write_folder(folder, fill)


def draw_dollhouse(
    out: str | Path = "dollhouse.png",
    *,
    count: int = 16,
    subject: str | None = None,
    size: str = "64x64",
    seed: int = 0,
) -> Path:
    """Draw a sheet of random dolls, or of one subject, each of `size` WxH px; returns the PNG.

    Raises:
        InputError: with every problem found.
    """
    import numpy as np
    from PIL import Image, PngImagePlugin

    from lorasweep.dollhouse import world
    from lorasweep.dollhouse.world.dataset import sample_subject_spec

    out = paths.typed(out)
    problems = [*no_counts(count=count), *no_counts(0, seed=seed)]
    wrong = {} if subject is None else world.undrawable(subject)
    problems += [Problem(f"--{name}", message) for name, message in wrong.items()]
    width_px, height_px = _size(str(size))
    if min(width_px, height_px) < 32:
        problems.append(Problem("--size", f"must be WxH px, 32 or more, got {size!r}", "--size 64x64"))
    elif not problems and (px := count * width_px * height_px) > _MOST_PX:
        message = f"must give a sheet of {_MOST_PX:,} px at most, got {px:,}"
        problems.append(Problem("--count x --size", message, "draw fewer or smaller ones"))
    if problems:
        raise InputError(problems, subject="dollhouse draw")
    paths.require_picture(out, option="--out")
    rng = np.random.default_rng(seed)
    chosen = world.SUBJECTS[subject] if subject else None
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = Image.new("RGB", (columns * (width_px + 2), rows * (height_px + 2)), "white")
    for index in range(count):
        spec = world.sample_spec(rng) if chosen is None else sample_subject_spec(rng, chosen)
        place = (index % columns * (width_px + 2) + 1, index // columns * (height_px + 2) + 1)
        sheet.paste(world.render(spec, width_px, height_px), place)
    marked = PngImagePlugin.PngInfo()
    marked.add_text("Software", "lorasweep")
    sheet.save(out, format="png", pnginfo=marked)
    return out


def write_dollhouse(
    out: str | Path,
    *,
    subject: str = "zkw",
    images: int = 20,
    outfits: int = 1,
    confound: float = 0.5,
    repeats: int = 10,
    seed: int = 0,
) -> Path:
    """Write a dataset of a subject of the embedded world, see `dollhouse.world.write_dataset`; returns its folder.

    Raises:
        InputError: with every problem found.
    """
    from lorasweep.dollhouse import world

    out = paths.typed(out)
    problems = [*no_counts(images=images, repeats=repeats), *no_counts(0, seed=seed)]
    wrong = {} if problems else world.undrawable(subject, images=images, outfits=outfits, confound=confound)
    problems += [Problem(f"--{name}", message) for name, message in wrong.items()]
    if out.is_dir() and any(out.iterdir()):
        problems.append(Problem("--out", f"{out} is not empty", "name a new folder"))
    if problems:
        raise InputError(problems, subject="dollhouse dataset")
    paths.require_writable(out, option="--out")
    return world.write_dataset(
        out, subject=subject, images=images, outfits=outfits, confound=confound, repeats=repeats, seed=seed
    )


def _size(text: str) -> tuple[int, int]:
    """Read WxH; what is none gives 0 x 0."""
    found = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)
