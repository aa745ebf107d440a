"""`lorasweep plan`: what would run, without torch."""

from __future__ import annotations

import argparse
import json

from lorasweep import caption_view, config, plan_view


def run(options: argparse.Namespace) -> int:
    """Print the plan of a sweep, or of one recipe; returns the exit code."""
    words = list(options.overrides)
    subject: config.SweepSpec | config.Recipe
    if words and config.is_recipe_file(words[0]):
        subject = config.load_recipe(words[0], words[1:])
    elif words and "=" not in words[0]:
        subject = config.load_sweep(words[0], words[1:])
    else:
        subject = config.compose_recipe(words)
    describe, show = (
        (caption_view.captions_json, caption_view.print_captions)
        if options.captions
        else (plan_view.plan_json, plan_view.print_plan)
    )
    if options.json:
        print(json.dumps(describe(subject), indent=1))
    else:
        show(subject)
    return 0
