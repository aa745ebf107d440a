"""`lorasweep rate`: pictures compared blind in a browser, and what came of it."""

from __future__ import annotations

import argparse
import json
import re

from lorasweep import api
from lorasweep.core.console import text_console, text_table
from lorasweep.core.errors import InputError, Problem
from lorasweep.core.records import to_dict
from lorasweep.results.ratings import Rated


def run(options: argparse.Namespace) -> int:
    """Let somebody rate, unless only results are wanted, and print them; returns the exit code."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,39}", options.rater):
        message = f"must be up to 40 letters, digits, `_`, `-` or `.`, got {options.rater!r}"
        raise InputError(Problem("--rater", message, "e.g. --rater anna"), subject="rate")
    if options.results:
        found = api.ratings(options.named)
    else:
        found = api.rate(
            options.named, rater=options.rater, most=options.pairs, port=options.port, open_browser=options.browser
        )
    if options.json:
        print(json.dumps(to_dict(found), indent=1))
    elif not found:
        print(f"nothing is rated yet: lorasweep rate {options.named}")
    for rated in found if not options.json else ():
        _print(rated)
    return 0


def _print(rated: Rated) -> None:
    settled = "every rank is settled" if rated.settled else "not every rank is settled"
    title = f"{rated.name} by the eye of {rated.rater}: {rated.answers} answers, {settled}"
    table = text_table(title, texts=["", ""], numbers=["strength", "95 %", "won/lost/tied/bad"])
    for rank, each in enumerate(rated.standings, start=1):
        counts = f"{each.won}/{each.lost}/{each.tied}/{each.both_bad}"
        interval = f"{each.low:+.1f} to {each.high:+.1f}"
        table.add_row(str(rank), each.item + " (ruined)" * each.ruined, f"{each.strength:+.2f}", interval, counts)
    console = text_console()
    console.print(table)
    if rated.unread:
        print(f"{rated.unread} lines of the answers are torn, or none, and not counted")
    agreement = text_table(
        "does the score see what the eye sees?", texts=["number"], numbers=["agrees", "95 %", "of pairs", "tau", "95 %"]
    )
    for said in rated.agreements:
        share = [f"{said.share:.0%}", f"{said.share_low:.0%} to {said.share_high:.0%}", str(said.decided)]
        agreement.add_row(said.metric, *share, f"{said.tau:.2f}", f"{said.tau_low:.2f} to {said.tau_high:.2f}")
    if rated.agreements:
        console.print(agreement)
