"""Write what a sweep has to show: `report.html` and `report.md`, and the sheet of its pictures as one file.

Reads run folders only; needs Pillow, not torch.
"""

from __future__ import annotations

from pathlib import Path

from lorasweep.core import files
from lorasweep.core.run_folder import REPORT_FILE, REPORT_TEXT_FILE, SHEET_FILE
from lorasweep.results import sheet
from lorasweep.results.report import gallery, markdown, page
from lorasweep.results.report.reading import read_findings

_MARKS = ("· lorasweep</title>", "\n## Leaderboard\n")  # in every page that we write


def is_ours(file: Path) -> bool:
    """Whether a file is a report of some sweep, and not somebody's own."""
    text = file.read_text(encoding="utf-8")
    return any(mark in text for mark in _MARKS)


def write_report(sweep_folder: Path, out: Path | None = None) -> tuple[Path, Path]:
    """Write both pages from whatever the sweep holds by now.

    Args:
        sweep_folder: the sweep's, or `outputs/train`.
        out: a folder; None: the sweep's own.

    Returns:
        The HTML page and the Markdown one.

    Raises:
        ConfigError: the folder's sweep.yaml cannot be read.
    """
    findings = read_findings(sweep_folder)
    folder = out or sweep_folder
    files.write_text(folder / REPORT_FILE, page.render(findings))
    files.write_text(folder / REPORT_TEXT_FILE, markdown.render(findings))
    return folder / REPORT_FILE, folder / REPORT_TEXT_FILE


def write_contact_sheet(sweep_folder: Path) -> Path | None:
    """Draw `contact_sheet.png` from whatever trials have samples by now.

    Returns:
        The picture's path, or None when there is nothing to show yet.
    """
    findings = read_findings(sweep_folder)
    shown = gallery.contact_sheet(findings, findings.shown)
    return None if shown is None else _write(shown, sweep_folder, title=findings.state.question)


def write_step_sheet(run_folder: Path) -> Path | None:
    """Draw one run over its steps, and over the weights at the step that is kept, into its own folder.

    Returns:
        The picture's path, or None when there is nothing to show.
    """
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
