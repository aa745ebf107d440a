"""`lorasweep status`, `report`, `rate`, `export`, `sync` and `ui`: what was cooked, from the run folders alone."""

from __future__ import annotations

import argparse
import json
import sys
import webbrowser
from dataclasses import asdict

from lorasweep.api import results
from lorasweep.core import paths
from lorasweep.core.console import text_console, text_table
from lorasweep.core.errors import InputError
from lorasweep.core.printable import command
from lorasweep.core.records import to_dict
from lorasweep.core.run_folder import RunFolder
from lorasweep.results import runs
from lorasweep.results.export import forms
from lorasweep.results.export.forms import Form
from lorasweep.results.ratings import Rated
from lorasweep.results.tracking.address import masked, tracking_uri
from lorasweep.sweep.ranking import leaderboard, table
from lorasweep.sweep.ranking.state import SweepState


def run_status(options: argparse.Namespace) -> int:
    """Print one sweep's trials, or every sweep's; 1 when one of them cannot be read."""
    if options.sweep:
        states, unread = [results.status(options.sweep)], 0
    else:
        states, unread = _all_sweeps()
    if options.json:
        documents = [leaderboard.status_json(each) for each in states]
        print(json.dumps(documents[0] if options.sweep else documents, indent=1))
    elif not states and not unread:
        print(f"no sweeps in {paths.outputs()} yet; start one with: lorasweep sweep quickstart")
    else:
        for each in states:
            table.print_state(each)
    return 1 if unread else 0


def _all_sweeps() -> tuple[list[SweepState], int]:
    """Return every sweep that can be read, and how many cannot; a damaged one must not hide the others."""
    states, unread = [], 0
    for sweep in results.sweeps():
        try:
            states.append(sweep.state)
        except InputError as error:
            unread += 1
            print(error, file=sys.stderr)
    return states, unread


def run_report(options: argparse.Namespace) -> int:
    """Write the pages, say where they are; returns the exit code."""
    page, text = results.report(options.sweep, options.out)
    if options.json:
        print(json.dumps({"html": str(page), "markdown": str(text)}, indent=1))
    else:
        print(f"report    {page}\nmarkdown  {text}")
    if options.open:
        webbrowser.open(page.as_uri())
    return 0


def run_rate(options: argparse.Namespace) -> int:
    """Let somebody rate, unless only results are wanted, and print them; returns the exit code."""
    if options.results:
        found = results.ratings(options.named)
    else:
        found = results.rate(
            options.named, rater=options.rater, most=options.pairs, port=options.port, open_browser=options.browser
        )
    if options.json:
        print(json.dumps(to_dict(found), indent=1))
    elif not found:
        print(f"nothing is rated yet: {command('lorasweep', 'rate', options.named)}")
    for rated in found if not options.json else ():
        _print_rated(rated)
    return 0


def _print_rated(rated: Rated) -> None:
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


def run_export(options: argparse.Namespace) -> int:
    """Find the run, write its files, say where they are; returns the exit code."""
    saved = results.checkpoint(options.run, best=options.best, step=options.step)
    written = results.export(
        saved,
        options.out,
        precision=options.precision,
        ranks="all" if options.all_ranks else tuple(options.rank),
        form=options.form,
        readers=options.readers,
    )
    if options.json:
        print(json.dumps([to_dict(each) for each in written], indent=1))
        return 0
    for each in written:
        rank = f" rank {each.rank}" if each.rank else ""
        print(f"{each.adapter}{rank}, {each.modules} modules, {each.bytes / 2**20:.1f} MiB: {each.file}")
    print(_readers(saved, written[0].form))
    print(f"judged at LoRA weight {saved.recipe.sample.weight:g}. {_verdict(saved)}".rstrip())
    return 0


def _readers(saved: runs.Checkpoint, form: Form) -> str:
    """Tell which programs read the file as it was judged, and what to type for the others."""
    kind, base = saved.recipe.adapter.name, saved.recipe.base.name
    able = forms.read_by(kind, form, base=base)
    line = f"read as judged by {forms.names(able) if able else 'no program that is known'}"
    if not forms.names_readers(kind):
        return line  # nor is it known whether it can be written otherwise
    if others := [reader for reader in forms.read_by(kind, "lora", base=base) if reader not in able]:
        line += f"; not by {forms.names(others)}, which want --for {' or --for '.join(others)}"
    return line


def _verdict(saved: runs.Checkpoint) -> str:
    """Return what the judges said, at which weight to use it included; nothing about a rung that was not kept."""
    verdict = RunFolder(saved.folder).result["verdict"]
    return str(verdict.get("sentence", "")) if verdict.get("kept") == saved.step else ""


def run_sync(options: argparse.Namespace) -> int:
    """Bring the named sweeps (or all) up to date in MLflow; 1 when something is still missing."""
    reports = results.sync(*options.sweeps)
    if options.json:
        print(json.dumps({name: asdict(report) for name, report in reports.items()}, indent=1))
    else:
        print(f"MLflow store: {masked(tracking_uri())}")
        for name, report in reports.items():
            print(f"{name}: {report.runs} runs, {report.created} new, {report.updated} brought up to date")
            for problem in report.problems:
                print(f"  {problem}")
    return 1 if any(report.problems for report in reports.values()) else 0


def run_ui(options: argparse.Namespace) -> int:
    """Serve until interrupted; returns the server's exit code."""
    from lorasweep.results.tracking import ui

    return ui.serve(options.port, open_browser=options.open)
