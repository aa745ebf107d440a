"""The report's sheet of pictures as one file, of all arms: arms x prompts at equal seeds, the base model as first row.

Reads run folders only; needs Pillow, not torch.
"""

from __future__ import annotations

from pathlib import Path

from lorasweep.core import files
from lorasweep.core.run_folder import SHEET_FILE
from lorasweep.results import sheet
from lorasweep.results.report import gallery
from lorasweep.results.report.reading import read_findings


def write_contact_sheet(sweep_folder: Path) -> Path | None:
    """Draw `contact_sheet.png` from whatever trials have samples by now.

    Returns:
        The picture's path, or None when there is nothing to show yet.
    """
    findings = read_findings(sweep_folder)
    shown = gallery.contact_sheet(findings, findings.shown)
    if shown is None:
        return None
    rows = [(head.text, [each.open() if each else None for each in pictures]) for head, pictures in shown.rows]
    drawn = sheet.contact_sheet(rows, [head.text for head in shown.columns], title=findings.state.question)
    path = sweep_folder / SHEET_FILE
    files.write_atomic(path, lambda temporary: drawn.save(temporary, format="PNG"))
    return path
