"""The parts of the page, each a function from the findings to HTML, or None when there is nothing to show."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from lorasweep.report import charts, factors, gallery, words
from lorasweep.report.board import leaderboard, word
from lorasweep.report.markup import Markup, join, tag
from lorasweep.report.reading import Findings, TrialFindings
from lorasweep.report.reproduce import reproduction

CARDS_OPEN = 9  # of the best arms

Section = tuple[str, str, Markup | None]  # title, anchor, body


def all_of(findings: Findings) -> list[Section]:
    """Every part of the page, in reading order."""
    return [
        ("Leaderboard", "leaderboard", leaderboard(findings)),
        ("What it looks like", "pictures", pictures(findings)),
        ("Identity against overcooking", "pareto", pareto(findings)),
        ("How each one cooked", "curves", curves(findings)),
        ("Over steps and weights", "ladder", ladder(findings)),
        ("What mattered", "factors", what_mattered(findings)),
        ("Symptoms", "symptoms", symptoms(findings)),
        ("What did not work", "failures", failures(findings)),
        ("What it cost", "cost", cost(findings)),
        ("Cook it again", "again", again(findings)),
    ]


def answer(findings: Findings) -> Markup:
    """The verdict in a paragraph: its first sentence large."""
    first, *rest = words.verdict(findings)
    return join([tag("p", first), tag("p", " ".join(rest)) if rest else None])


def facts(findings: Findings) -> Markup:
    """How much it took."""
    trials, seeds = findings.state.trials, findings.seeds
    steps = sum(trial.step for trial in trials)
    worked_s = sum(trial.wall_s for trial in findings.trials if trial.wall_s is not None)
    told = [
        (f"{findings.ended} of {findings.state.total}", "trials ended"),
        (str(len(seeds)), "seed" if len(seeds) == 1 else "seeds"),
        (f"{steps:,}", "training steps"),
    ]
    if worked_s:
        told.append((words.duration(worked_s), "of workers' time"))
    return tag("ul", (tag("li", tag("b", number), what) for number, what in told), class_="facts")


# ---------------------------------------------------------------------------------------------- pictures


def pictures(findings: Findings) -> Markup | None:
    """The contact sheet."""
    sheet = gallery.contact_sheet(findings)
    if sheet is None:
        return None
    note = "Rows are recipes, columns are prompts; every picture of a column starts from the same noise."
    return join([tag("p", note, class_="note"), sheet])


def ladder(findings: Findings) -> Markup | None:
    """Each arm over its steps and weights."""
    found = gallery.ladders(findings)
    if not found:
        return None
    note = "From left: the base, the checkpoints at the judged weight, the weights of the one kept."
    return join([tag("p", note, class_="note"), *found])


# ------------------------------------------------------------------------------------------------ charts


def pareto(findings: Findings) -> Markup | None:
    """The chart, and how to read it."""
    chart = charts.pareto(findings)
    if chart is None:
        return None
    reading = tag(
        "div",
        tag("p", "Up is more of the subject, left is less harm: the top left corner is what a LoRA is for."),
        tag(
            "p",
            "Each mark is a trial at the checkpoint that it keeps: ",
            word("done"), ", ", word("overcooked"), ", ", word("undercooked"),
            ". The solid stairs join those that nobody beats in both; along a dotted line "
            "identity × (1 − overcook), the utility U, is the same.",
        ),
    )  # fmt: skip
    return tag("div", chart, reading, class_="two")


def curves(findings: Findings) -> Markup | None:
    """A small chart per arm, all on the same axes."""
    ends = [trial.last.exposures for trial in findings.trials if trial.last]
    drawn = []
    for row in findings.arms:
        trials = sorted(
            findings.of_arm(row.arm), key=lambda trial: trial is not findings.shown_trial(row.arm)
        )
        chart = charts.curves(trials, exposures_max=max(ends, default=1.0))
        if chart is not None:
            drawn.append(tag("figure", tag("h3", row.arm), chart, style="margin:0"))
    if not drawn:
        return None
    note = (
        "Overcooking follows how often each image was seen, so that is the axis. Vertical lines: where it "
        "was done, and where it burned; the dotted line is the limit of overcooking."
    )
    return join([tag("p", note, class_="note"), _folded(drawn)])


def _folded(cards: Sequence[Markup]) -> Markup:
    """Cards side by side, those of the best arms; the rest can be unfolded."""
    first, rest = cards[:CARDS_OPEN], cards[CARDS_OPEN:]
    more = (
        tag("details", tag("summary", f"{len(rest)} more"), tag("div", rest, class_="cards"))
        if rest
        else None
    )
    return join([tag("div", first, class_="cards"), more])


# ----------------------------------------------------------------------------------------- what mattered


def what_mattered(findings: Findings) -> Markup | None:
    """Importance of axes, or what single changes made."""
    if len(findings.arms) < 2:
        return None
    return _importance(findings) if factors.is_space(findings) else _changes(findings)


def _importance(findings: Findings) -> Markup:
    found = factors.importance(findings)
    if found.why_not:
        return tag("p", f"Not weighed: {found.why_not}.", class_="note")
    note = (
        "The share of the value's variance that each axis explains, by a random forest over "
        f"{found.trials} trials. It says what matters, not which way."
    )
    return join(
        [
            tag("p", note, class_="note"),
            [_bar(a, s, found.conditions.get(a)) for a, s in found.shares.items()],
        ]
    )


def _bar(name: str, share: float, below: str | None) -> Markup:
    said = tag("span", name, tag("small", below) if below else None)
    return tag(
        "div", said, tag("i", style=f"width:{100 * share:.1f}%"), tag("b", f"{share:.2f}"), class_="bar"
    )


def _changes(findings: Findings) -> Markup:
    found = factors.changes(findings)
    if not found:
        text = "No two arms differ in one thing only, so nothing can be put down to a single change."
        return tag("p", text, class_="note")
    rows = [
        tag(
            "tr",
            tag("th", tag("code", change.factor), scope="row"),
            tag("td", f"{change.before} → {change.after}", class_="full"),
            tag("td", f"{change.difference:+.3f}", class_="n", data_label="difference"),
            tag("td", f"{change.arms[0]} → {change.arms[1]}", class_="full quiet"),
        )
        for change in found
    ]
    heads = ("changed", "from → to", "difference", "arms")
    head = tag(
        "tr", (tag("th", name, scope="col", class_="n" if name == "difference" else None) for name in heads)
    )
    note = "Arms that differ in exactly one thing."
    if all(row.seeds < 2 for row in findings.arms):
        note += " With one seed each, a small difference may be noise."
    table = tag("table", tag("thead", head), tag("tbody", rows), class_="rows")
    return join([tag("p", note, class_="note"), tag("div", table, class_="scroll")])


# ------------------------------------------------------------------------------------ symptoms, failures


def symptoms(findings: Findings) -> Markup | None:
    """What is wrong with each arm, in words, and what could not be measured."""
    found = []
    for row in findings.arms:
        trial = findings.shown_trial(row.arm)
        if trial is None or trial.judged is None:
            continue
        said = [_bar(s.says, s.grade, f"{s.metric} {s.value:.2f}") for s in words.symptoms(trial.judged)]
        missing = [tag("li", tag("code", name), f": {why}") for name, why in trial.missing.items()]
        why = tag("ul", missing, class_="plain")
        unmeasured = tag("details", tag("summary", f"{len(missing)} not measured"), why)
        body = said or tag("p", "Nothing worth a word.", class_="quiet")
        found.append(tag("div", tag("h3", row.arm), body, unmeasured if missing else None))
    if not found:
        return None
    note = "Of the kept checkpoint, the gravest first: 0 is harmless, 0.5 at the limit, 1 fatal by itself."
    return join([tag("p", note, class_="note"), _folded(found)])


def failures(findings: Findings) -> Markup | None:
    """Trials without an answer, and why."""
    found = [trial for trial in findings.trials if words.failure(trial.state)]
    if not found:
        return None
    rows = [
        tag(
            "tr",
            tag("th", f"{trial.state.arm} seed {trial.state.seed}", scope="row"),
            tag("td", trial.state.status.value.lower().replace("_", " ")),
            tag("td", f"{trial.state.step}/{trial.state.steps}", class_="n", data_label="step"),
            tag("td", words.failure(trial.state), class_="full"),
        )
        for trial in sorted(found, key=lambda trial: trial.state.number)
    ]
    return tag("div", tag("table", tag("tbody", rows), class_="rows"), class_="scroll")


# -------------------------------------------------------------------------------------------- cost, again


def cost(findings: Findings) -> Markup | None:
    """Time and steps, said and spent; steps and time of each arm are in the leaderboard."""
    told = words.costs(findings)
    return tag("p", " ".join(told)) if told else None


def again(findings: Findings) -> Markup | None:
    """How to get every row again, and the best one as a file."""
    begun = [trial for trial in findings.trials if trial.recipe]
    if not begun:
        return None
    best = next((trial for trial in findings.trials if trial.rank == 1), None)
    return join([_sweep_commands(findings, best or begun[0], is_best=best is not None), map(_again, begun)])


def _sweep_commands(findings: Findings, trial: TrialFindings, *, is_best: bool) -> Markup:
    """What to do with the whole sweep; a best one is spoken of where there is one."""
    name = shlex.quote(findings.state.name)
    sweep = [f"lorasweep sweep {name}"] if findings.overrides else []
    export = [f"lorasweep export {name} --best"] if is_best and findings.overrides else []
    said = [
        *(["the best as a file for ComfyUI, A1111 and kohya's tools"] if export else []),
        *(["the whole sweep"] if sweep else []),
        "a variation" + (" of the best" if is_best else ""),
    ]
    lead = ", ".join(said)
    fork = f"lorasweep fork {shlex.quote(f'{findings.state.name}/{trial.name}')} train.batch_size=2"
    return join([tag("p", f"{lead[0].upper()}{lead[1:]}:"), _commands([*export, *sweep, fork])])


def _again(trial: TrialFindings) -> Markup:
    how = reproduction(trial)
    commands = [how.again, how.export, *([how.elsewhere] if how.elsewhere else [])]
    labels = {"seed": str(how.seed), "fingerprint": how.fingerprint, **dict(how.made_with)}
    labels |= {"forked from": trial.parent} if trial.parent else {}
    told = [(tag("dt", what), tag("dd", which)) for what, which in labels.items() if which]
    return tag("details", tag("summary", trial.name), _commands(commands), tag("dl", told))


def _commands(commands: Sequence[str]) -> Markup:
    return tag("pre", tag("code", (tag("span", command, class_="command") for command in commands)))
