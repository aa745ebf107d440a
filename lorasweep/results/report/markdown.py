"""The report as Markdown: the same answer for a README, an issue or a terminal; pictures by file name.

    Findings  ->  Markdown

Text from people's files is escaped, so that it can neither format nor embed anything.
"""

from __future__ import annotations

from lorasweep.core.markdown import code, plain, table
from lorasweep.core.run_folder import SHEET_FILE
from lorasweep.results.ratings import Rated
from lorasweep.results.report import factors, words
from lorasweep.results.report.reading import IDENTITY, SCORE, Findings
from lorasweep.results.report.reproduce import again


def render(findings: Findings) -> str:
    """Write the page."""
    state = findings.state
    parts = [
        f"# {plain(state.question or state.name)}",
        " ".join(plain(sentence) for sentence in words.verdict(findings)),
        _leaderboard(findings),
        f"![contact sheet]({SHEET_FILE})" if (findings.folder / SHEET_FILE).exists() else "",
        *map(_rated, findings.rated),
        _what_mattered(findings),
        _failures(findings),
        _again(findings),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _leaderboard(findings: Findings) -> str:
    metric = findings.state.metric.rpartition("/")[2] or "value"
    rows = [
        [
            str(row.rank or ""),
            plain(row.arm),
            _number(row.value) + (f" ± {row.spread:.3f}" if row.spread is not None else ""),
            _number(row.metrics.get(IDENTITY)),
            _number(row.metrics.get(SCORE)),
            plain(row.sentence or row.reason),
        ]
        for row in findings.arms
    ]
    return "## Leaderboard\n\n" + table(["", "arm", metric, "identity", "overcook", "verdict"], rows)


def _rated(rated: Rated) -> str:
    rows = [
        [str(rank), plain(each.item), f"{each.strength:+.2f} ({each.low:+.2f} to {each.high:+.2f})",
         f"{each.won} / {each.lost} / {each.tied} / {each.both_bad}", "ruined" if each.ruined else ""]
        for rank, each in enumerate(rated.standings, start=1)
    ]  # fmt: skip
    said = [
        f"`{each.metric}` chooses as the eye does in {each.share:.0%} of {each.decided} pairs "
        f"({each.share_low:.0%} to {each.share_high:.0%})."
        for each in rated.agreements[:1]
    ]
    title = f"## {plain(rated.name)} by the eye of {plain(rated.rater)}, blind"
    return "\n\n".join([title, table(["", "", "strength", "won / lost / tied / both bad", ""], rows), *said])


def _what_mattered(findings: Findings) -> str:
    if factors.is_space(findings):
        weighed = factors.importance(findings)
        if weighed.why_not:
            return ""
        rows = [[code(axis), f"{share:.2f}"] for axis, share in weighed.shares.items()]
        return "## What mattered\n\n" + table(["axis", "share of the variance"], rows)
    found = factors.changes(findings)
    rows = [[code(c.factor), plain(f"{c.before} → {c.after}"), f"{c.difference:+.3f}"] for c in found]
    return "## What mattered\n\n" + table(["changed", "from → to", "difference"], rows) if rows else ""


def _failures(findings: Findings) -> str:
    found = [trial for trial in findings.trials if words.failure(trial.state)]
    lines = [
        f"- {plain(trial.state.arm)} seed {trial.state.seed}, "
        f"{words.spoken(trial.state.status.value)}: {plain(words.failure(trial.state))}"
        for trial in found
    ]
    return "\n".join(["## What did not work", "", *lines]) if lines else ""


def _again(findings: Findings) -> str:
    rows = []
    for trial in findings.trials:
        if trial.recipe:
            state, fingerprint = trial.state, trial.record.fingerprint if trial.record else ""
            rows.append([str(state.number), code(again(trial)), str(state.seed), code(fingerprint[:12])])
    if not rows:
        return ""
    return "## Cook it again\n\n" + table(["trial", "command", "seed", "fingerprint"], rows)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
