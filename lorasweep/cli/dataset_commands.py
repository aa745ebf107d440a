"""`lorasweep audit`, `caption` and `dollhouse`: what a dataset teaches, its captions, and one that is drawn."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lorasweep.api import datasets
from lorasweep.core.findings import LEVELS, Finding, with_commands
from lorasweep.core.printable import command, readable
from lorasweep.plan.audit import Audit

_SHOWN = 12  # changes of captions
_LONGEST_COMMAND = 600  # characters, half a screen
# Options that the front door has under the same names.
_KNOBS = {
    "caption": ("apply", "out", "write", "overwrite", "undo", "trigger_first", "add", "encoding"),
    "draw": ("count", "subject", "size", "seed"),
    "dataset": ("subject", "images", "outfits", "confound", "repeats", "seed"),
}


def run_caption(options: argparse.Namespace) -> int:
    """Show what would be written, write it, or undo it; returns the exit code."""
    root = options.folder.absolute()
    done = datasets.caption(root, *options.overrides, **{name: getattr(options, name) for name in _KNOBS["caption"]})
    if options.undo:
        said = f"{done.restored} captions are as they were"
    elif options.out is not None:
        said = f"{done.captions} captions written to {options.out}"
    elif options.write:
        said = f"{len(done.changes)} captions written; to undo: {command('lorasweep', 'caption', str(root), '--undo')}"
        said += f"\n{done.kept} kept: --overwrite replaces them" if done.kept else ""
    else:
        said = f"{len(done.changes)} of {done.captions} would change; --write writes them"
    rows = [
        {
            "file": change.file.relative_to(root).as_posix(),
            "before": None if change.before is None else change.before.decode(errors="replace"),
            "after": (change.after or b"").decode(),
        }
        for change in done.changes
    ]
    if options.json:
        tags = {
            path.relative_to(root).as_posix(): [[tag.text, tag.confidence] for tag in found]
            for path, found in done.tags.items()
        }
        print(json.dumps({"changes": rows, "said": said, "tags": tags}, indent=1))
        return 0
    for row in rows[:_SHOWN]:
        print(
            f"{row['file']}\n  - {readable(row['before'] or '(no caption file)')}\n  + {readable(row['after'] or '')}"
        )
    if len(rows) > _SHOWN:
        print(f"... and {len(rows) - _SHOWN} more, all with --json")
    print(said)
    return 0


def run_audit(options: argparse.Namespace) -> int:
    """Print the findings, perhaps write the page; or move what a finding named. Returns the exit code."""
    if options.aside or options.rename:
        print(f"{datasets.mend(options.folder, aside=options.aside, rename=options.rename)} moved")
        return 0
    found = datasets.audit(options.folder, *options.overrides, html=options.html)
    root = options.folder.absolute()
    if options.json:
        print(json.dumps(_described(root, found), indent=1))
    else:
        _print_findings(root, found)
        if options.html is not None:
            print(f"page  {options.html}")
    return int(options.strict and any(finding.level == "must" for finding in found.findings))


def _described(root: Path, found: Audit) -> dict[str, object]:
    rows = [
        {"level": each.level, "places": list(each.places), "reason": str(each), "command": each.command}
        for each in found.findings
    ]
    return {"folder": str(root), "counts": _counts(found.findings), "findings": rows}


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    counts = Counter(finding.level for finding in findings)
    return {level: counts[level] for level in LEVELS}


def _print_findings(root: Path, found: Audit) -> None:
    for finding, mends in with_commands(found.findings):
        print(f"{finding.level:<6}  {readable(finding)}")
        if len(mends) > _LONGEST_COMMAND:
            print(f"        a command of {len(mends):,} characters mends it: --json has it, and --html PAGE")
        elif mends:
            print(f"        {mends}")
    said = ", ".join(f"{count} {level}" for level, count in _counts(found.findings).items())
    print(f"{root.name}: {said}")


def run_dollhouse(options: argparse.Namespace) -> int:
    """Draw a sheet or write a dataset folder; returns the exit code."""
    how = {name: getattr(options, name) for name in _KNOBS[options.action]}
    if options.action == "draw":
        print(datasets.draw_dollhouse(options.out, **how))
    else:
        folder = datasets.write_dollhouse(options.out, **how)
        print(f"{folder}\ntrain on it: {command('lorasweep', 'train', f'dataset.path={folder}')}")
    return 0
