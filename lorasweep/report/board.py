"""The leaderboard of the page: arms, best first, with intervals, ties, verdicts and what each cost."""

from __future__ import annotations

from collections.abc import Sequence

from lorasweep.report import charts, words
from lorasweep.report.axes import Scale
from lorasweep.report.markup import Child, Markup, breakable, join, tag
from lorasweep.report.reading import IDENTITY, SCORE, Findings, TrialFindings
from lorasweep.sweep.leaderboard import ArmRow

ROWS_OPEN = 20  # the rest is folded: a phone scrolls far enough
_SORTABLE_FROM = 8  # rows
_VERDICTS = ("done", "overcooked", "undercooked")
_NUMERIC = ("identity", "overcook", "steps", "time")


def leaderboard(findings: Findings) -> Markup | None:
    """The table, and how to read it; None without arms."""
    if not findings.arms:
        return None
    metric = findings.state.metric
    better = "less is better" if findings.state.goal == "minimize" else "more is better"
    note = f"Ranked by {metric}, {better}."
    if any(row.seeds > 1 for row in findings.arms):
        note += " Means over seeds; bars are 95 % intervals, ticks single seeds."
    known = [(*_seed_values(findings, row), *_interval(row)) for row in findings.arms]
    scale = charts.interval_scale([value for values in known for value in values if value is not None])
    first, rest = findings.arms[:ROWS_OPEN], findings.arms[ROWS_OPEN:]
    folded = (
        tag("details", tag("summary", f"{len(rest)} more"), _table(findings, rest, scale)) if rest else None
    )
    return join([tag("p", note, class_="note"), _table(findings, first, scale), folded])


def word(verdict: str) -> Markup:
    """A verdict with its shape and colour."""
    return tag("span", verdict, class_=f"word {verdict if verdict in _VERDICTS else 'other'}")


def _table(findings: Findings, rows: Sequence[ArmRow], scale: Scale) -> Markup:
    value = _value_name(findings)
    names = ["", "arm", value, "", "identity", "overcook", "verdict", "steps", "time"]
    numeric = {value, *_NUMERIC}
    heads = (tag("th", name, scope="col", class_="n" if name in numeric else None) for name in names)
    body = tag("tbody", (_row(findings, row, scale) for row in rows))
    class_ = "rows ranked" + (" sortable" if len(rows) > _SORTABLE_FROM else "")
    return tag("div", tag("table", tag("thead", tag("tr", heads)), body, class_=class_), class_="scroll")


def _row(findings: Findings, row: ArmRow, scale: Scale) -> Markup:
    trials, shown = findings.of_arm(row.arm), findings.shown_trial(row.arm)
    seconds = [trial.wall_s for trial in trials if trial.wall_s is not None]
    cells = [
        tag("td", str(row.rank or "–"), class_="rank"),
        tag("th", breakable(row.arm), _described(findings, row.arm), _tie(findings, row), scope="row"),
        _number(row.value, _value_name(findings), strong=True, below=_range(row)),
        tag("td", _graphic(findings, row, shown, scale), class_="graphic"),
        _number(row.metrics.get(IDENTITY), "identity"),
        _number(row.metrics.get(SCORE), "overcook"),
        tag("td", _verdict(row, shown), class_="full"),
        tag("td", f"{sum(trial.state.step for trial in trials):,}", class_="n", data_label="steps"),
        tag("td", words.duration(sum(seconds)) if seconds else "", class_="n", data_label="time"),
    ]
    return tag("tr", cells)


def _described(findings: Findings, arm: str) -> Child:
    """What an arm is: its note, else what sets it apart."""
    if note := findings.notes.get(arm):
        return tag("small", note)
    overrides = [words.shortened(override) for override in findings.overrides.get(arm) or ()]
    return tag("small", tag("code", " ".join(overrides))) if overrides else None


def _tie(findings: Findings, row: ArmRow) -> Child:
    """Said where seeds were spent and still cannot tell an arm from the best."""
    if not row.tied or row.seeds < 2 or (findings.noise and row.arm == findings.noise.order[0]):
        return None
    return tag("small", "tied with the best", class_="tie")


def _graphic(findings: Findings, row: ArmRow, shown: TrialFindings | None, scale: Scale) -> Child:
    if row.value is None:
        return None
    low, high = _interval(row)
    verdict = shown.verdict if shown else "other"
    return charts.interval(
        scale, row.value, low=low, high=high, seeds=_seed_values(findings, row), class_=verdict
    )


def _verdict(row: ArmRow, shown: TrialFindings | None) -> Child:
    statuses = [s.value.lower().replace("_", " ") for s in row.statuses if s.value != "COMPLETED"]
    said: list[Child] = [word(shown.verdict)] if shown and shown.verdict else []
    said += [word(status) for status in dict.fromkeys(statuses)]
    return [*said, tag("small", row.sentence or row.reason)]


def _range(row: ArmRow) -> Child:
    low, high = _interval(row)
    return None if low is None or high is None else tag("small", f"{low:.3f} to {high:.3f}")


def _number(value: float | None, label: str, *, strong: bool = False, below: Child = None) -> Markup:
    if value is None:
        return tag("td", class_="n")
    told = f"{value:.3f}"
    return tag(
        "td", tag("b", told) if strong else told, below, class_="n", data_label=label, data_value=value
    )


def _value_name(findings: Findings) -> str:
    return findings.state.metric.rpartition("/")[2] or "value"


def _seed_values(findings: Findings, row: ArmRow) -> list[float]:
    ranked = (trial.state.value for trial in findings.of_arm(row.arm) if trial.rank is not None)
    return [value for value in ranked if value is not None]


def _interval(row: ArmRow) -> tuple[float | None, float | None]:
    """Where the mean lies with 95 % confidence, where there are seeds to tell."""
    return (row.interval.low, row.interval.high) if row.interval else (None, None)
