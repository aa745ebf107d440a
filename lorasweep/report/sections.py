"""The parts of the page, each a function from the findings to HTML, or None when there is nothing to show."""

from __future__ import annotations

from collections.abc import Sequence

from lorasweep.report import axes, charts, factors, gallery, words
from lorasweep.report.markup import Child, Markup, join, tag
from lorasweep.report.reading import IDENTITY, SCORE, Findings, TrialFindings
from lorasweep.report.reproduce import reproduction
from lorasweep.sweep.leaderboard import ArmRow

CURVES_SHOWN = 9
_VERDICTS = ("done", "overcooked", "undercooked")

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
        told.append((words.duration(worked_s), "of one worker's time"))
    return tag("ul", (tag("li", tag("b", number), what) for number, what in told), class_="facts")


# ------------------------------------------------------------------------------------------- leaderboard


def leaderboard(findings: Findings) -> Markup | None:
    """Arms, best first, with what is known about their noise."""
    if not findings.arms:
        return None
    metric = findings.state.metric
    better = "less is better" if findings.state.goal == "minimize" else "more is better"
    values = [
        v for row in findings.arms for v in (*_seed_values(findings, row), *_interval(row)) if v is not None
    ]
    scale = charts.interval_scale(values)
    heads = [
        "",
        "arm",
        metric.rpartition("/")[2] or "value",
        "",
        "identity",
        "overcook",
        "verdict",
        "steps",
        "time",
    ]
    numeric = {2, 4, 5, 7, 8}
    head = tag(
        "tr", (tag("th", h, scope="col", class_="n" if i in numeric else None) for i, h in enumerate(heads))
    )
    body = [_arm(findings, row, scale, metric) for row in findings.arms]
    note = f"Ranked by {metric}, {better}; the mean over seeds where there are several. "
    note += "Bars are intervals, ticks single seeds." if any(row.seeds > 1 for row in findings.arms) else ""
    many = len(findings.arms) > 8
    table = tag(
        "table", tag("thead", head), tag("tbody", body), class_="rows ranked" + (" sortable" if many else "")
    )
    return join([tag("p", note, class_="note"), tag("div", table, class_="scroll")])


def _arm(findings: Findings, row: ArmRow, scale: axes.Scale, metric: str) -> Markup:
    trials = findings.of_arm(row.arm)
    shown = findings.shown_trial(row.arm)
    verdict = shown.verdict if shown else ""
    graphic = None
    if row.value is not None:
        low, high = _interval(row)
        graphic = charts.interval(
            scale, row.value, low=low, high=high, seeds=_seed_values(findings, row), class_=verdict or "other"
        )
    steps = sum(trial.state.step for trial in trials)
    seconds = [trial.wall_s for trial in trials if trial.wall_s is not None]
    note = findings.notes.get(row.arm)
    told_metric = metric.rpartition("/")[2] or "value"
    return tag(
        "tr",
        tag("td", str(row.rank or "–"), class_="rank"),
        tag(
            "th",
            row.arm,
            tag("small", note) if note else None,
            scope="row",
        ),
        _number(row.value, told_metric, strong=True),
        tag("td", graphic),
        _number(row.metrics.get(IDENTITY), "identity"),
        _number(row.metrics.get(SCORE), "overcook"),
        tag("td", _verdict(row, shown), class_="full"),
        tag("td", f"{steps:,}", class_="n", data_label="steps"),
        tag("td", words.duration(sum(seconds)) if seconds else "", class_="n", data_label="time"),
    )


def _verdict(row: ArmRow, shown: TrialFindings | None) -> Child:
    word = shown.verdict if shown else ""
    status = [
        status.value.lower().replace("_", " ") for status in row.statuses if status.value != "COMPLETED"
    ]
    said: list[Child] = [tag("span", word, class_=f"word {_known(word)}")] if word else []
    if status:
        said.append(tag("span", ", ".join(dict.fromkeys(status)), class_="word other"))
    return [*said, tag("small", row.sentence or row.reason)]


def _known(verdict: str) -> str:
    return verdict if verdict in _VERDICTS else "other"


def _number(value: float | None, label: str, *, strong: bool = False) -> Markup:
    told: Child = "" if value is None else f"{value:.3f}"
    inner = tag("b", told) if strong else told
    return tag("td", inner, class_="n", data_label=label if value is not None else None, data_value=value)


def _seed_values(findings: Findings, row: ArmRow) -> list[float]:
    return [
        t.state.value for t in findings.of_arm(row.arm) if t.rank is not None and t.state.value is not None
    ]


def _interval(row: ArmRow) -> tuple[float | None, float | None]:
    """One standard deviation around the mean, where there are seeds to tell."""
    if row.value is None or row.spread is None:
        return None, None
    return row.value - row.spread, row.value + row.spread


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
    note = "From left: the base, the checkpoints at the judged weight, then the weights at the last step."
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
            "Each mark is a trial at its last step: ",
            _sign("done"), ", ", _sign("overcooked"), ", ", _sign("undercooked"),
            ". The solid stairs join those that nobody beats in both; along a dotted line "
            "identity × (1 − overcook), the utility U, is the same.",
        ),
    )  # fmt: skip
    return tag("div", chart, reading, class_="two")


def _sign(verdict: str) -> Markup:
    return tag("span", verdict, class_=f"word {verdict}")


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
    first, rest = drawn[:CURVES_SHOWN], drawn[CURVES_SHOWN:]
    note = (
        "Overcooking follows how often each image was seen, so that is the axis. Vertical lines: where it was "
        "done, and where it burned; the dotted line is the limit of overcooking."
    )
    more = tag("summary", f"{len(rest)} more")
    return join(
        [
            tag("p", note, class_="note"),
            tag("div", first, class_="cards"),
            tag("details", more, tag("div", rest, class_="cards")) if rest else None,
        ]
    )


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
        f"The share of the value's variance that each axis explains, by fANOVA over {found.trials} trials. "
        "It says what matters, not which way."
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
            tag("td", f"{change.difference:+.3f}", class_="n"),
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
        if trial is None or trial.last is None:
            continue
        said = [_bar(s.says, s.grade, f"{s.metric} {s.value:.2f}") for s in words.symptoms(trial.last)]
        missing = [tag("li", tag("code", name), f": {why}") for name, why in trial.missing.items()]
        why = tag("ul", missing, class_="plain")
        unmeasured = tag("details", tag("summary", f"{len(missing)} not measured"), why)
        body = said or tag("p", "Nothing worth a word.", class_="quiet")
        found.append(tag("div", tag("h3", row.arm), body, unmeasured if missing else None))
    if not found:
        return None
    note = "At the last step, the gravest first: 0 is harmless, 0.5 is at the limit, 1 is fatal by itself."
    return join([tag("p", note, class_="note"), tag("div", found, class_="cards")])


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


# ------------------------------------------------------------------------------------------------- again


def again(findings: Findings) -> Markup | None:
    """How to get every row again, and the best one as a file."""
    begun = [trial for trial in findings.trials if trial.recipe]
    if not begun:
        return None
    name = findings.state.name
    best = [
        tag(
            "p", "The best as a file for ComfyUI, A1111 and kohya's tools, the whole sweep, and a variation:"
        ),
        _commands([f"lorasweep export {name} --best", f"lorasweep sweep {name}"])
        if findings.overrides
        else None,
        _commands([f"lorasweep fork {name}/{begun[0].name} train.batch_size=2"]),
    ]
    return join([*best, (_again(trial) for trial in begun)])


def _again(trial: TrialFindings) -> Markup:
    how = reproduction(trial)
    commands = [how.again, how.export, *([how.elsewhere] if how.elsewhere else [])]
    labels = {"seed": str(how.seed), "fingerprint": how.fingerprint, **dict(how.made_with)}
    labels |= {"forked from": trial.parent} if trial.parent else {}
    told = [(tag("dt", what), tag("dd", which)) for what, which in labels.items() if which]
    return tag("details", tag("summary", trial.name), _commands(commands), tag("dl", told))


def _commands(commands: Sequence[str]) -> Markup:
    return tag("pre", tag("code", (tag("span", command, class_="command") for command in commands)))
