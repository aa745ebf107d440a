"""Write a sweep's report: `report.html` and `report.md`, beside the run folders or where the person wants."""

from __future__ import annotations

from pathlib import Path

from lorasweep.core import files
from lorasweep.core.run_folder import REPORT_FILE, REPORT_TEXT_FILE
from lorasweep.results.report import markdown, page
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
