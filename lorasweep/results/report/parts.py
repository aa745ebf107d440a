"""The parts of the page: what each of them shows, out of the findings.

    Findings  ->  Parts in reading order, drawn by the macros of their names in parts.html.j2

What takes no more than reading the findings is in the templates. Knows nothing about HTML.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from lorasweep.results.report import charts, factors, gallery, words
from lorasweep.results.report.reading import Findings, TrialFindings

Part = tuple[str, str, Any]  # title, name of its anchor and macro, what the macro takes
_AS_A_FILE = "the best as a file for ComfyUI, A1111 and kohya's tools"


def all_of(findings: Findings) -> list[Part]:
    """Every part that has something to show."""
    parts: list[Part] = [
        ("Leaderboard", "leaderboard", findings.arms),
        ("What it looks like", "pictures", gallery.contact_sheet(findings, gallery.worth_showing(findings))),
        ("By eye, blind", "rated", findings.rated),
        ("Identity against overcooking", "pareto", charts.pareto(findings)),
        ("How each one cooked", "curves", charts.curves(findings)),
        ("Over steps and weights", "ladder", gallery.ladders(findings)),
        ("What mattered", "factors", what_mattered(findings)),
        ("Symptoms", "symptoms", symptoms(findings)),
        ("What did not work", "failures", failures(findings)),
        ("What it cost", "cost", words.costs(findings)),
        ("Cook it again", "again", again(findings)),
    ]
    return [part for part in parts if part[2]]


def worked(trials: Sequence[TrialFindings]) -> str:
    """How long trials took together, those that are over; empty while none is."""
    known = [trial.wall_s for trial in trials if trial.wall_s is not None]
    return words.duration(sum(known)) if known else ""


def what_mattered(findings: Findings) -> tuple[factors.Importance | None, Sequence[factors.Change]] | None:
    """Importance of a space's axes, else what single changes made; None with a single arm."""
    if len(findings.arms) < 2:
        return None
    space = factors.is_space(findings)
    return (factors.importance(findings), []) if space else (None, factors.changes(findings))


def symptoms(findings: Findings) -> list[tuple[TrialFindings, list[words.SymptomSaid]]]:
    """What is wrong with each arm's checkpoint."""
    return [(trial, words.symptoms(trial.judged)) for trial in findings.shown if trial.judged]


def failures(findings: Findings) -> list[tuple[TrialFindings, str]]:
    """Trials without an answer, and why."""
    trials = sorted(findings.trials, key=lambda trial: trial.state.number)
    return [(trial, why) for trial in trials if (why := words.failure(trial.state))]


def again(findings: Findings) -> tuple[list[tuple[str, str]], list[TrialFindings]] | None:
    """What to do next with the sweep, as (what, command), and the trials to get again.

    A best one is spoken of where there is one. None while no trial has begun.
    """
    begun = [trial for trial in findings.trials if trial.recipe]
    if not begun:
        return None
    best = next((trial for trial in findings.trials if trial.rank == 1), None)
    name = shlex.quote(findings.state.name)
    trial = shlex.quote(f"{findings.state.name}/{(best or begun[0]).name}")
    told = [
        (best and findings.overrides, _AS_A_FILE, f"lorasweep export {name} --best"),
        (findings.overrides, "the whole sweep", f"lorasweep sweep {name}"),
        (
            True,
            "a variation" + (" of the best" if best else ""),
            f"lorasweep fork {trial} train.batch_size=2",
        ),
    ]
    return [(what, command) for there, what, command in told if there], begun
