"""`lorasweep plan`: what would run, without torch."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from lorasweep import config
from lorasweep.errors import ConfigError, Problem
from lorasweep.output_folder import is_our_picture, require_replaceable
from lorasweep.plan_view import captions, tables


def run(options: argparse.Namespace) -> int:
    """Print the plan of a sweep, or of one recipe; returns the exit code."""
    words = list(options.overrides)
    subject: config.SweepSpec | config.Recipe
    if words and config.is_recipe_file(words[0]):
        subject = config.load_recipe(words[0], words[1:])
    elif words and "=" not in words[0] and not re.match(r"~\w+(\.|$)", words[0]):  # ~metrics.burn
        subject = config.load_sweep(words[0], words[1:])
    else:
        subject = config.compose_recipe(words)
    describe, show = (
        (captions.captions_json, captions.print_captions)
        if options.captions
        else (tables.plan_json, tables.print_plan)
    )
    require_replaceable(options.png, is_our_picture, option="--png")
    if options.json:
        print(json.dumps(describe(subject), indent=1))
    else:
        show(subject)
    if options.png:
        _draw(subject, options.png)
    return 0


def _draw(subject: config.SweepSpec | config.Recipe, path: Path) -> None:
    """Draw the learning rates.

    Raises:
        ConfigError: the picture cannot be written there.
    """
    from lorasweep.plan_view import picture

    title = subject.name if isinstance(subject, config.SweepSpec) else ""
    try:
        count = picture.draw(subject, path, title=title)
    except OSError as error:
        message = f"cannot be written: {error.strerror}"
        raise ConfigError(Problem(str(path), message, "give another --png"), subject="the picture") from error
    print(f"{count} schedule(s) drawn: {path}", file=sys.stderr)
