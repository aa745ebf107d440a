"""`lorasweep import`: another trainer's config becomes a recipe file, and what could not come along is listed."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from lorasweep.api.imports import import_config
from lorasweep.config.importing.finish import Imported
from lorasweep.core.printable import command, readable
from lorasweep.core.streams import can_show


def run_import(options: argparse.Namespace) -> int:
    """Translate, write or print the recipe, say what is missing; returns the exit code."""
    imported = import_config(options.config, options.dataset, out=options.out, link=options.link)
    if options.json:
        print(json.dumps(imported.document(), indent=1, default=str))
    elif not options.out:
        text = imported.text()
        print(text, end="")
        if not can_show(text):
            print("warning  printed with stand-ins: -o FILE writes all its characters", file=sys.stderr)
    _say(imported, options.out)
    if options.link is not None and not imported.links:
        print("--link: nothing to link, the images are read where they are", file=sys.stderr)
    return 0


def _say(imported: Imported, out: Path | None) -> None:
    """Print the headline, on stderr: stdout may carry the recipe."""
    counts = (
        (len(imported.lines), "key translated", "keys translated"),
        (len(imported.untranslated), "option could not be translated", "options could not be translated"),
        (len(imported.differs), "is not quite the same", "are not quite the same"),
    )
    print("; ".join(f"{count} {one if count == 1 else more}" for count, one, more in counts), file=sys.stderr)
    to_say = imported.to_say()
    for key, why in to_say.items():
        print(f"still to be given: {key} ({why})", file=sys.stderr)
    for note in imported.untranslated:
        print(f"  {readable(f'{note.option}: {note.reason}')}", file=sys.stderr)
    if out:
        plan = command("lorasweep", "plan", str(out), *(f"{key}=..." for key in to_say))
        print(f"{out}: the rest is commented there. Next: {plan}", file=sys.stderr)
