"""`lorasweep audit`: what a dataset will teach, before any training."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lorasweep import config
from lorasweep.core import files
from lorasweep.core.findings import LEVELS, Finding
from lorasweep.core.paths import require_replaceable
from lorasweep.core.printable import readable
from lorasweep.core.records import Recipe
from lorasweep.data import mending
from lorasweep.plan.audit import Audit, audit


def run(options: argparse.Namespace) -> int:
    """Print the findings, perhaps write the page; or move what a finding named. Returns the exit code."""
    from lorasweep.results.report import page

    require_replaceable(options.html, page.is_audit, option="--html")
    root = options.folder.absolute()
    if options.aside or options.rename:
        names = {Path(old).absolute(): Path(new).absolute() for old, new in options.rename}
        names |= mending.aside_of(root, [Path(file).absolute() for file in options.aside])
        mending.move(root, names)
        print(f"{len(names)} moved")
        return 0
    recipe = recipe_of(root, options.overrides)
    found = audit(recipe)
    if options.html is not None:
        files.write_text(options.html, page.render_audit(recipe, found))
    if options.json:
        print(json.dumps(_described(root, found), indent=1))
    else:
        _print(root, found)
        if options.html is not None:
            print(f"page  {options.html}")
    return int(options.strict and any(finding.level == "must" for finding in found.findings))


def recipe_of(folder: Path, overrides: Sequence[str]) -> Recipe:
    """Compose a recipe for a folder whose name may hold anything.

    Raises:
        ConfigError: with every problem found.
    """
    recipe = config.compose_recipe(["dataset.path=.", *overrides])
    return dataclasses.replace(recipe, dataset=dataclasses.replace(recipe.dataset, path=str(folder)))


def _described(root: Path, found: Audit) -> dict[str, object]:
    rows = [
        {"level": each.level, "places": list(each.places), "reason": str(each), "command": each.command}
        for each in found.findings
    ]
    return {"folder": str(root), "counts": _counts(found.findings), "findings": rows}


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    counts = Counter(finding.level for finding in findings)
    return {level: counts[level] for level in LEVELS}


def _print(root: Path, found: Audit) -> None:
    for finding in found.findings:
        print(f"{finding.level:<6}  {readable(finding)}")
        if finding.command:
            print(f"        {finding.command}")
    said = ", ".join(f"{count} {level}" for level, count in _counts(found.findings).items())
    print(f"{root.name}: {said}")
