"""`lorasweep import`: another trainer's config becomes a recipe file, and what could not come along is listed."""

from __future__ import annotations

import argparse
import json
import os.path
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from lorasweep.config.importing.finish import Imported, Link, imported_json, recipe_text
from lorasweep.config.trainers import import_config
from lorasweep.core import files
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.paths import require_replaceable
from lorasweep.core.printable import readable
from lorasweep.core.streams import can_show


def run_import(options: argparse.Namespace) -> int:
    """Translate, write or print the recipe, say what is missing; returns the exit code."""
    link_into = options.link.absolute() if options.link else None
    imported = import_config(options.config, options.dataset, link_into=link_into)
    text = recipe_text(imported, source=_command(options))
    require_replaceable(options.out, lambda file: file.read_bytes() == text.encode(), option="--out")
    if link_into is not None:
        _make_links(link_into, imported.links)
    if options.out:
        files.write_text(options.out, text)
    if options.json:
        print(json.dumps(imported_json(imported), indent=1, default=str))
    elif not options.out:
        print(text, end="")
        if not can_show(text):
            print("warning  printed with stand-ins: -o FILE writes all its characters", file=sys.stderr)
    _say(imported, options.out)
    if link_into is not None and not imported.links:
        print("--link: nothing to link, the images are read where they are", file=sys.stderr)
    return 0


def _command(options: argparse.Namespace) -> str:
    words = ["lorasweep", "import", options.config.name]
    if options.dataset:
        words += ["--dataset", options.dataset.name]
    return shlex.join(words)


def _make_links(folder: Path, links: Sequence[Link]) -> None:
    """Make a folder of links; one that is there already may only hold the same ones, or ConfigError is raised first."""
    problems = [
        Problem(str(link.target), "no such folder of images") for link in links if not os.path.isdir(link.target)
    ]
    try:
        for link in links:
            place = folder / link.name
            if (place.is_symlink() or place.exists()) and place.resolve() != link.target.resolve():
                hint = "choose another folder for --link"
                problems.append(Problem(str(place), "is in the way of a link", hint))
        if problems:
            raise ConfigError(problems, subject="the links")
        for link in links:
            place = folder / link.name
            if not place.is_symlink():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(link.target, target_is_directory=True)
    except OSError as error:  # a name that is too long, a disk that takes no links
        problem = Problem(str(folder), f"links cannot be made: {error}", "choose another folder for --link")
        raise ConfigError(problem, subject="the links") from error


def _say(imported: Imported, out: Path | None) -> None:
    """The headline, on stderr: stdout may carry the recipe."""
    counts = (
        (len(imported.lines), "key translated", "keys translated"),
        (len(imported.untranslated), "option could not be translated", "options could not be translated"),
        (len(imported.differs), "is not quite the same", "are not quite the same"),
    )
    print("; ".join(f"{count} {one if count == 1 else more}" for count, one, more in counts), file=sys.stderr)
    for note in imported.untranslated:
        print(f"  {readable(f'{note.option}: {note.reason}')}", file=sys.stderr)
    if out:
        given = "".join(f" {key}=..." for key in imported.to_give)
        print(f"{out}: the rest is commented there. Next: lorasweep plan {out}{given}", file=sys.stderr)
