"""`lorasweep audit`, `caption` and `dollhouse`: what a dataset teaches, its captions, and one that is drawn."""

from __future__ import annotations

import argparse
import codecs
import dataclasses
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from lorasweep import config
from lorasweep.core import files, paths, progress, registry
from lorasweep.core.errors import ConfigError, InputError, Problem
from lorasweep.core.findings import LEVELS, Finding
from lorasweep.core.paths import require_picture, require_replaceable, require_writable
from lorasweep.core.printable import readable
from lorasweep.core.protocols import Tag
from lorasweep.core.records import Component, Recipe
from lorasweep.data import caption_writing, mending
from lorasweep.data.caption_writing import Change
from lorasweep.data.tagging import look_at
from lorasweep.plan import caption_policy
from lorasweep.plan.audit import Audit, audit

_SHOWN = 12  # changes of captions
_MOST_PX = 100_000_000  # of a sheet: 300 MB in memory


def run_caption(options: argparse.Namespace) -> int:
    """Show what would be written, write it, or undo it; returns the exit code."""
    root = options.folder.absolute()
    _require_one_way(options)
    if options.undo:
        restored = caption_writing.undo(root)
        return _say(options, root, [], f"{len(restored)} captions are as they were")
    tagger, recipe = _asked(root, [*options.overrides, *(options.apply or [])])
    seen: dict[Path, list[Tag]] = {}

    def look(images: Mapping[Path, str]) -> Mapping[Path, list[Tag]]:
        assert tagger is not None
        with progress.images_shown() as tell:
            seen.update(look_at(registry.load("tagger", tagger.name).build(**tagger.options), images, tell))
        return seen

    edits = caption_policy.Edits(
        trigger_first=options.trigger_first,
        add=options.add,
        encoding=options.encoding,
        new_only=options.write and not options.overwrite,
    )
    texts = caption_policy.texts(recipe, root, edits, look if tagger else None)
    if options.out is not None:
        _write_folder(options.out, root, texts)
        return _say(options, root, [], f"{len(texts)} captions written to {options.out}", seen)
    changed = caption_writing.changes(texts)
    kept = [] if options.overwrite else [change for change in changed if change.before is not None]
    if options.write:
        done = [change for change in changed if change not in kept]
        caption_writing.write(root, done)
        said = f"{len(done)} captions written; to undo: lorasweep caption {root} --undo"
        said += f"\n{len(kept)} kept: --overwrite replaces them" if kept else ""
        return _say(options, root, done, said, seen)
    return _say(options, root, changed, f"{len(changed)} of {len(texts)} would change; --write writes them", seen)


def _asked(root: Path, words: Sequence[str]) -> tuple[Component | None, Recipe]:
    """The tagger, if there is one, and the policy; raises ConfigError with the problems of both."""
    tagger, policy, problems = config.take_component("tagger", words)
    try:
        recipe = recipe_of(root, policy)
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems], subject=error.subject) from error
    if problems:
        raise ConfigError(problems, subject="the tagger")
    return tagger, recipe


def _require_one_way(options: argparse.Namespace) -> None:
    """Refuse options that say two things, or nothing, or name a place that cannot be written to."""
    problems = []
    if options.apply is None and not options.overrides and not options.undo:
        problems.append(
            Problem("caption", "needs to know what to do", "tagger=wd, --apply captions=cleaned, or --undo")
        )
    if options.overwrite and not options.write:
        problems.append(Problem("--overwrite", "only means something with --write", "add --write"))
    if sum((options.undo, options.write, options.out is not None)) > 1:
        problems.append(Problem("--undo, --write, --out", "exclude each other", "give one of them"))
    try:
        codecs.lookup(options.encoding)
    except LookupError:
        problems.append(Problem("--encoding", f"no such encoding, got {options.encoding}", "e.g. cp1252 or utf-16"))
    if options.out is not None and options.out.exists():
        problems.append(Problem("--out", f"{options.out} is there already", "name a new folder"))
    if problems:
        raise ConfigError(problems, subject="the command line")
    if options.out is not None:
        paths.require_writable(options.out.parent, option="--out")


def _write_folder(folder: Path, root: Path, texts: dict[Path, str]) -> None:
    """Write all captions into a folder of their own, laid out as the dataset is."""

    def fill(place: Path) -> None:
        for file, text in texts.items():
            files.write_text(place / file.relative_to(root), text, durable=False)

    files.write_folder(folder, fill)


def _say(
    options: argparse.Namespace,
    root: Path,
    changed: list[Change],
    said: str,
    seen: Mapping[Path, list[Tag]] = MappingProxyType({}),
) -> int:
    rows = [
        {
            "file": change.file.relative_to(root).as_posix(),
            "before": None if change.before is None else change.before.decode(errors="replace"),
            "after": (change.after or b"").decode(),
        }
        for change in changed
    ]
    if options.json:
        tags = {
            path.relative_to(root).as_posix(): [[tag.text, tag.confidence] for tag in found]
            for path, found in seen.items()
        }
        print(json.dumps({"changes": rows, "said": said, "tags": tags}, indent=1))
        return 0
    for row in rows[:_SHOWN]:
        print(
            f"{row['file']}\n  - {readable(row['before'] or '(no caption file)')}\n  + {readable(row['after'] or '')}"
        )
    if len(rows) > _SHOWN:
        print(f"... and {len(rows) - _SHOWN} more, all with --json")
    print(said)
    return 0


def run_audit(options: argparse.Namespace) -> int:
    """Print the findings, perhaps write the page; or move what a finding named. Returns the exit code."""
    from lorasweep.results.report import page

    require_replaceable(options.html, page.is_audit, option="--html")
    root = options.folder.absolute()
    if options.aside or options.rename:
        whole, *asides = (Path(os.path.abspath(file)) for file in (root, *options.aside))
        names = {Path(os.path.abspath(old)): Path(os.path.abspath(new)) for old, new in options.rename}
        names |= mending.aside_of(whole, asides)
        mending.move(whole, names)
        print(f"{len(names)} moved")
        return 0
    recipe = recipe_of(root, options.overrides)
    found = audit(recipe)
    if options.html is not None:
        files.write_text(options.html, page.render_audit(recipe, found))
    if options.json:
        print(json.dumps(_described(root, found), indent=1))
    else:
        _print_findings(root, found)
        if options.html is not None:
            print(f"page  {options.html}")
    return int(options.strict and any(finding.level == "must" for finding in found.findings))


def recipe_of(folder: Path, overrides: Sequence[str]) -> Recipe:
    """Compose a recipe for a folder whose name may hold anything."""
    recipe = config.compose_recipe(["dataset.path=.", *overrides])
    return dataclasses.replace(recipe, dataset=dataclasses.replace(recipe.dataset, path=str(folder)))


def _described(root: Path, found: Audit) -> dict[str, object]:
    rows = [
        {"level": each.level, "places": list(each.places), "reason": str(each), "command": each.command}
        for each in found.findings
    ]
    return {"folder": str(root), "counts": _counts(found.findings), "findings": rows}


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    counts = Counter(finding.level for finding in findings)
    return {level: counts[level] for level in LEVELS}


def _print_findings(root: Path, found: Audit) -> None:
    for finding in found.findings:
        print(f"{finding.level:<6}  {readable(finding)}")
        if finding.command:
            print(f"        {finding.command}")
    said = ", ".join(f"{count} {level}" for level, count in _counts(found.findings).items())
    print(f"{root.name}: {said}")


def run_dollhouse(options: argparse.Namespace) -> int:
    """Draw a sheet or write a dataset folder; returns the exit code."""
    _check(options)
    if options.action == "draw":
        require_picture(options.out, option="--out")
    else:
        require_writable(options.out, option="--out")
    return {"draw": _draw, "dataset": _dataset}[options.action](options)


def _check(options: argparse.Namespace) -> None:
    from lorasweep.dollhouse.world import SUBJECTS

    problems = []
    if options.subject is not None and options.subject not in SUBJECTS:
        problems.append(Problem("--subject", f"unknown subject {options.subject!r}", f"one of {', '.join(SUBJECTS)}"))
    if options.action == "draw":
        width_px, height_px = _size(options.size)
        if min(width_px, height_px) < 32:
            message = f"must be WxH px, 32 or more, got {options.size!r}"
            problems.append(Problem("--size", message, "--size 64x64"))
        elif (px := options.count * width_px * height_px) > _MOST_PX:
            message = f"must give a sheet of {_MOST_PX:,} px at most, got {px:,}"
            problems.append(Problem("--count x --size", message, "draw fewer or smaller ones"))
    if options.action == "dataset" and options.subject in SUBJECTS:
        outfits = min(len(SUBJECTS[options.subject].wardrobe), options.images)
        if options.outfits > outfits:
            message = f"must be from 1 to {outfits}, what there is and has an image, got {options.outfits}"
            problems.append(Problem("--outfits", message))
    if options.action == "dataset" and not 0 <= options.confound <= 1:
        problems.append(Problem("--confound", f"must be in [0, 1], got {options.confound}"))
    if options.action == "dataset" and options.out.is_dir() and any(options.out.iterdir()):
        problems.append(Problem("--out", f"{options.out} is not empty", "name a new folder"))
    if problems:
        raise InputError(problems, subject=f"dollhouse {options.action}")


def _size(text: str) -> tuple[int, int]:
    """Read WxH; what is none gives 0 x 0."""
    found = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _draw(options: argparse.Namespace) -> int:
    import math

    import numpy as np
    from PIL import Image, PngImagePlugin

    from lorasweep.dollhouse import world
    from lorasweep.dollhouse.world.dataset import sample_subject_spec

    width_px, height_px = _size(options.size)
    rng = np.random.default_rng(options.seed)
    subject = world.SUBJECTS[options.subject] if options.subject else None
    columns = math.ceil(math.sqrt(options.count))
    rows = math.ceil(options.count / columns)
    sheet = Image.new("RGB", (columns * (width_px + 2), rows * (height_px + 2)), "white")
    for index in range(options.count):
        spec = world.sample_spec(rng) if subject is None else sample_subject_spec(rng, subject)
        place = (index % columns * (width_px + 2) + 1, index // columns * (height_px + 2) + 1)
        sheet.paste(world.render(spec, width_px, height_px), place)
    marked = PngImagePlugin.PngInfo()
    marked.add_text("Software", "lorasweep")
    sheet.save(options.out, format="png", pnginfo=marked)
    print(options.out)
    return 0


def _dataset(options: argparse.Namespace) -> int:
    from lorasweep.dollhouse import world

    folder = world.write_dataset(
        options.out,
        subject=options.subject,
        images=options.images,
        outfits=options.outfits,
        confound=options.confound,
        repeats=options.repeats,
        seed=options.seed,
    )
    print(f"{folder}\ntrain on it: lorasweep train dataset.path={folder}")
    return 0
