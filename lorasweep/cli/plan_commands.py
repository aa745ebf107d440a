"""`lorasweep plan`: what would run, without torch."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from lorasweep import config
from lorasweep.cli.plan_view import captions, tables
from lorasweep.core.paths import require_picture


def run_plan(options: argparse.Namespace) -> int:
    """Print the plan of a sweep, or of one recipe; returns the exit code."""
    subject = _subject(list(options.overrides))
    describe, show = (
        (captions.captions_json, captions.print_captions) if options.captions else (tables.plan_json, tables.print_plan)
    )
    require_picture(options.png, option="--png")
    if options.json:
        print(json.dumps(describe(subject), indent=1))
    else:
        show(subject)
    if options.png:
        _draw(subject, options.png)
    return 0


def _subject(words: list[str]) -> config.SweepSpec | config.Recipe:
    """Compose what was typed: a sweep where one is named or a key has several values, else a recipe."""
    is_named = bool(words) and "=" not in words[0] and not re.match(r"~\w+(\.|$)", words[0])  # ~metrics.burn
    if config.has_axes(words[1:] if is_named else words):
        return config.load_sweep(words[0], words[1:]) if is_named else config.sweep_of_overrides(words)
    if is_named and config.is_recipe_file(words[0]):
        return config.load_recipe(words[0], words[1:])
    return config.load_sweep(words[0], words[1:]) if is_named else config.compose_recipe(words)


def _draw(subject: config.SweepSpec | config.Recipe, path: Path) -> None:
    from lorasweep.cli.plan_view import picture

    title = subject.name if isinstance(subject, config.SweepSpec) else ""
    count = picture.draw(subject, path, title=title)
    print(f"learning rates of {count} schedule{'s' if count > 1 else ''}  {path}", file=sys.stderr)
