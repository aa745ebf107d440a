"""`lorasweep caption`: captions by a tagger or a policy, written into files beside the images or in a new folder."""

from __future__ import annotations

import argparse
import codecs
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from lorasweep import config
from lorasweep.cli.audit_command import recipe_of
from lorasweep.core import files, paths, progress, registry
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.printable import readable
from lorasweep.core.protocols import Tag
from lorasweep.core.records import Component, Recipe
from lorasweep.data import caption_writing
from lorasweep.data.caption_writing import Change
from lorasweep.data.tagging import look_at
from lorasweep.plan import caption_policy

_SHOWN = 12  # changes


def run(options: argparse.Namespace) -> int:
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
    """The tagger, if there is one, and the policy.

    Raises:
        ConfigError: with the problems of both.
    """
    tagger, policy, problems = config.take_component("tagger", words)
    try:
        recipe = recipe_of(root, policy)
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems], subject=error.subject) from error
    if problems:
        raise ConfigError(problems, subject="the tagger")
    return tagger, recipe


def _require_one_way(options: argparse.Namespace) -> None:
    """Refuse options that say two things, or nothing, or name a place that cannot be written to.

    Raises:
        InputError: with every problem.
    """
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
