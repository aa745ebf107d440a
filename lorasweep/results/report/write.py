"""Write what a sweep has to show: `report.html` and `report.md`, and the sheet of its pictures as one file.

The Markdown page is the same answer for a README, an issue or a terminal; text from people's files is escaped in it,
so that it can neither format nor embed anything. Reads run folders only; needs Pillow, not torch.
"""

from __future__ import annotations

from pathlib import Path

from lorasweep.core import files, once
from lorasweep.core.markdown import code, plain, table
from lorasweep.core.run_folder import REPORT_FILE, REPORT_TEXT_FILE, SHEET_FILE
from lorasweep.results import sheet
from lorasweep.results.ratings import Rated
from lorasweep.results.report import gallery, page, words
from lorasweep.results.report.reading import Findings, read_findings
from lorasweep.results.report.words import again
from lorasweep.sweep.ranking.leaderboard import number, short_name

_MARKS = ("· lorasweep</title>", "\n## Leaderboard\n")  # in every page that we write


def is_ours(file: Path) -> bool:
    """Tell whether a file is a report of some sweep, and not somebody's own."""
    text = file.read_text(encoding="utf-8")
    return any(mark in text for mark in _MARKS)


@once.shared()
def write_report(sweep_folder: Path, out: Path | None = None) -> tuple[Path, Path]:
    """Write the HTML page and the Markdown one from whatever the sweep, or `outputs/train`, holds by now; returns them.

    `out` is a folder, None the sweep's own. Raises ConfigError when the folder's sweep.yaml cannot be read.
    """
    findings = read_findings(sweep_folder)
    folder = out or sweep_folder
    files.write_text(folder / REPORT_FILE, page.render(findings))
    files.write_text(folder / REPORT_TEXT_FILE, markdown_page(findings))
    return folder / REPORT_FILE, folder / REPORT_TEXT_FILE


def write_contact_sheet(sweep_folder: Path) -> Path | None:
    """Draw `contact_sheet.png` from whatever trials have samples by now; None when there is nothing to show yet."""
    findings = read_findings(sweep_folder)
    shown = gallery.contact_sheet(findings, findings.shown)
    return None if shown is None else _write(shown, sweep_folder, title=findings.state.question)


def write_step_sheet(run_folder: Path) -> Path | None:
    """Draw one run over its steps, and its kept step over the weights, into its own folder; None for nothing."""
    for trial, shown in gallery.ladders(read_findings(run_folder.parent)):
        if trial.name == run_folder.name:
            return _write(shown, run_folder, title=str(trial.state.verdict.get("sentence", "")))
    return None


def _write(shown: gallery.Sheet, folder: Path, *, title: str) -> Path:
    rows = [(head.text, [each.open() if each else None for each in pictures]) for head, pictures in shown.rows]
    drawn = sheet.contact_sheet(rows, [head.text for head in shown.columns], title=title)
    path = folder / SHEET_FILE
    files.write_atomic(path, lambda temporary: drawn.save(temporary, format="PNG"))
    return path


def markdown_page(findings: Findings) -> str:
    """Write the report as Markdown, pictures by file name."""
    state = findings.state
    parts = [
        f"# {plain(state.question or state.name)}",
        " ".join(_said(*sentence.partition("\n")) for sentence in words.verdict(findings)),
        _leaderboard(findings),
        f"![contact sheet]({SHEET_FILE})" if (findings.folder / SHEET_FILE).exists() else "",
        *map(_rated, findings.rated),
        _what_mattered(findings),
        _failures(findings),
        _again(findings),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _said(text: str, _: str, command: str) -> str:
    return f"{plain(text)} {code(command)}." if command else plain(text)


def _leaderboard(findings: Findings) -> str:
    several, told = findings.state.further, findings.columns
    rows = [
        [
            str(row.rank or ""),
            *(["yes" if row.front else ""] if several else []),
            plain(row.arm),
            row.told,
            *(number(row.metrics.get(name)) for _, name in told),
            plain(row.sentence or row.reason),
        ]
        for row in findings.arms
    ]
    over_seeds = " ± 95 % interval" if any(row.interval for row in findings.arms) else ""
    headings = [plain(short_name(findings.state.metric)) + over_seeds, *(plain(heading) for heading, _ in told)]
    head = ["", *(["front"] if several else []), "arm", *headings, "verdict"]
    return "## Leaderboard\n\n" + table(head, rows)


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
    weighed, changes = page.what_mattered(findings) or (None, ())
    if weighed is None:
        head = ["changed", "from → to", "difference"]
        rows = [[code(c.factor), plain(f"{c.before} → {c.after}"), f"{c.difference:+.3f}"] for c in changes]
    else:
        head, shares = ["axis", "share of the variance"], {} if weighed.why_not else weighed.shares
        rows = [[code(axis), f"{share:.2f}"] for axis, share in shares.items()]
    return "## What mattered\n\n" + table(head, rows) if rows else ""


def _failures(findings: Findings) -> str:
    lines = [
        f"- {plain(trial.state.arm)} seed {trial.state.seed}, {trial.state.status.spoken}: {plain(why)}"
        for trial, why in page.failures(findings)
    ]
    return "\n".join(["## What did not work", "", *lines]) if lines else ""


def _again(findings: Findings) -> str:
    rows = []
    for trial in findings.trials:
        if trial.recipe:
            state = trial.state
            rows.append([str(state.number), code(again(trial)), str(state.seed), code(state.fingerprint[:12])])
    if not rows:
        return ""
    return "## Cook it again\n\n" + table(["trial", "command", "seed", "fingerprint"], rows)
