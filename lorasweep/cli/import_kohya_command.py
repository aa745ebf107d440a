"""`lorasweep import-kohya`: a kohya TOML becomes a recipe file, and what could not come along is listed."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from lorasweep import files
from lorasweep.errors import ConfigError, Problem
from lorasweep.import_kohya import Imported, import_kohya, imported_json, recipe_text
from lorasweep.import_kohya.images import Link
from lorasweep.streams import can_show


def run(options: argparse.Namespace) -> int:
    """Translate, write or print the recipe, say what is missing; returns the exit code."""
    link_into = Path(options.link).absolute() if options.link else None
    dataset = Path(options.dataset) if options.dataset else None
    imported = import_kohya(Path(options.config), dataset, link_into=link_into)
    if link_into is not None:
        _make_links(link_into, imported.links)
    text = recipe_text(imported, source=_command(options))
    if options.out:
        files.write_text(Path(options.out), text)
    if options.json:
        print(json.dumps(imported_json(imported), indent=1, default=str))
    elif not options.out:
        print(text, end="")
        if not can_show(text):
            print("warning  printed with stand-ins: -o FILE writes all its characters", file=sys.stderr)
    _say(imported, options.out)
    return 0


def _command(options: argparse.Namespace) -> str:
    words = ["lorasweep", "import-kohya", Path(options.config).name]
    if options.dataset:
        words += ["--dataset", Path(options.dataset).name]
    return shlex.join(words)


def _make_links(folder: Path, links: Sequence[Link]) -> None:
    """Make a folder of links; one that is there already may only hold the same ones.

    Raises:
        ConfigError: something else is in the way, or a folder of images is missing; nothing was made.
    """
    problems = [
        Problem(str(link.target), "no such folder of images") for link in links if not link.target.is_dir()
    ]
    for link in links:
        place = folder / link.name
        if (place.is_symlink() or place.exists()) and place.resolve() != link.target.resolve():
            problems.append(
                Problem(str(place), "is in the way of a link", "choose another folder for --link")
            )
    if problems:
        raise ConfigError(problems, subject="the links")
    for link in links:
        place = folder / link.name
        if not place.is_symlink():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(link.target, target_is_directory=True)


def _say(imported: Imported, out: str | None) -> None:
    """The headline, on stderr: stdout may carry the recipe."""
    counts = (
        (len(imported.lines), "keys translated"),
        (len(imported.untranslated), "options could not be translated"),
        (len(imported.differs), "are not quite the same"),
    )
    print("; ".join(f"{count} {what}" for count, what in counts), file=sys.stderr)
    for note in imported.untranslated:
        print(f"  {note.option}: {note.reason}", file=sys.stderr)
    if out:
        given = "".join(f" {key}=..." for key in imported.to_give)
        print(f"{out}: the rest is commented there. Next: lorasweep plan {out}{given}", file=sys.stderr)
