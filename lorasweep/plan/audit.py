"""Audit a dataset: everything that `plan` warns of, with levels, and what keeps it from being planned at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lorasweep.core.errors import InputError, Problem
from lorasweep.core.findings import Finding, sorted_by_level
from lorasweep.core.records import Plan, Recipe
from lorasweep.data import mending
from lorasweep.plan.make import make_plan


@dataclass(frozen=True)
class Audit:
    """What was found."""

    findings: tuple[Finding, ...]  # the gravest first
    plan: Plan | None  # of the recipe that the dataset was audited for; None where there can be none


def audit(recipe: Recipe) -> Audit:
    """Find what is wrong with a recipe's own folder; raises ConfigError where the recipe is wrong, or there is none."""
    root = Path(recipe.dataset.path or "")
    try:
        plan = make_plan(recipe)
    except InputError as error:
        inside = [problem for problem in error.problems if _file(root, problem)]
        if len(inside) < len(error.problems):
            raise
        return Audit(tuple(_finding(root, problem) for problem in inside), None)
    return Audit(tuple(sorted_by_level(plan.warnings)), plan)


def _finding(root: Path, problem: Problem) -> Finding:
    """Return a problem with a file: its hint is what mends it where that is a command."""
    _, is_command, command = problem.hint.partition("lorasweep caption ")
    file = _file(root, problem) or root
    mends = is_command + command if is_command else mending.aside(root, [file])
    return Finding(f"{problem.where} {problem.message}", level="must", places=[problem.where], command=mends)


def _file(root: Path, problem: Problem) -> Path | None:
    """Return the file of the dataset that a problem is about: problems name it by its folder and name."""
    inside = (root.parent, root, *(path for path in root.rglob("*") if path.is_dir()))
    names = (problem.where, problem.where.rpartition(":")[0])
    return next((folder / name for folder in inside for name in names if name and (folder / name).is_file()), None)
