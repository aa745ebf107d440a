"""`lorasweep caption`: a caption policy written into files, beside the images or in a new folder."""

from __future__ import annotations

import argparse
import codecs
import json
from pathlib import Path

from lorasweep.cli.audit_command import recipe_of
from lorasweep.core import files
from lorasweep.core.errors import ConfigError, InputError, Problem
from lorasweep.core.printable import readable
from lorasweep.data import caption_writing
from lorasweep.data.caption_writing import Change
from lorasweep.plan import caption_policy

_SHOWN = 12  # changes


def run(options: argparse.Namespace) -> int:
    """Show what would be written, write it, or undo it; returns the exit code."""
    root = options.folder.absolute()
    _require_one_way(options)
    if options.undo:
        restored = caption_writing.undo(root)
        return _say(options, root, [], f"{len(restored)} captions are as they were")
    edits = caption_policy.Edits(trigger_first=options.trigger_first, add=options.add, encoding=options.encoding)
    texts = caption_policy.texts(recipe_of(root, options.apply), root, edits)
    if options.out is not None:
        _write_folder(options.out, root, texts)
        return _say(options, root, [], f"{len(texts)} captions written to {options.out}")
    changed = caption_writing.changes(texts)
    kept = [] if options.overwrite else [change for change in changed if change.before is not None]
    if options.write:
        done = [change for change in changed if change not in kept]
        caption_writing.write(root, done)
        said = f"{len(done)} captions written; to undo: lorasweep caption {root} --undo"
        return _say(options, root, done, said + (f"\n{len(kept)} kept: --overwrite replaces them" if kept else ""))
    return _say(options, root, changed, f"{len(changed)} of {len(texts)} would change; --write writes them")


def _require_one_way(options: argparse.Namespace) -> None:
    """Refuse options that say two things, or nothing.

    Raises:
        ConfigError: with every problem.
    """
    problems = []
    if options.apply is None and not options.undo:
        problems.append(Problem("caption", "needs to know what to do", "--apply captions=cleaned, or --undo"))
    if options.overwrite and not options.write:
        problems.append(Problem("--overwrite", "only means something with --write", "add --write"))
    if sum((options.undo, options.write, options.out is not None)) > 1:
        problems.append(Problem("--undo, --write, --out", "exclude each other", "give one of them"))
    try:
        codecs.lookup(options.encoding)
    except LookupError:
        problems.append(Problem("--encoding", f"no such encoding, got {options.encoding}", "e.g. cp1252 or utf-16"))
    if problems:
        raise ConfigError(problems, subject="the command line")


def _write_folder(folder: Path, root: Path, texts: dict[Path, str]) -> None:
    """Write all captions into a folder of their own, laid out as the dataset is.

    Raises:
        InputError: it is there already.
    """
    if folder.exists():
        raise InputError(Problem("--out", f"{folder} is there already", "name a new folder"), subject="--out")

    def fill(place: Path) -> None:
        for file, text in texts.items():
            files.write_text(place / file.relative_to(root), text, durable=False)

    files.write_folder(folder, fill)


def _say(options: argparse.Namespace, root: Path, changed: list[Change], said: str) -> int:
    rows = [
        {
            "file": change.file.relative_to(root).as_posix(),
            "before": None if change.before is None else change.before.decode(errors="replace"),
            "after": (change.after or b"").decode(),
        }
        for change in changed
    ]
    if options.json:
        print(json.dumps({"changes": rows, "said": said}, indent=1))
        return 0
    for row in rows[:_SHOWN]:
        print(
            f"{row['file']}\n  - {readable(row['before'] or '(no caption file)')}\n  + {readable(row['after'] or '')}"
        )
    if len(rows) > _SHOWN:
        print(f"... and {len(rows) - _SHOWN} more, all with --json")
    print(said)
    return 0
