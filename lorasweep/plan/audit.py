"""Audit a dataset: everything that `plan` warns of, with levels, and what keeps it from being planned at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
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
    plan: Plan | None = field(repr=False)  # of the recipe that it was audited for; None where there can be none


def audit(recipe: Recipe) -> Audit:
    """Find what is wrong with a recipe's own folder; raises ConfigError where the recipe is wrong, or there is none."""
    root = Path(recipe.dataset.path or "")
    try:
        plan = make_plan(recipe)
    except InputError as error:
        inside = [problem for problem in error.problems if _file(root, problem)]
        if len(inside) < len(error.problems):
            raise
        return Audit(tuple(_findings(root, inside)), None)
    return Audit(tuple(sorted_by_level(plan.warnings)), plan)


def _findings(root: Path, problems: Sequence[Problem]) -> Iterator[Finding]:
    """Return problems with files: what mends one is its hint where that is a command, else to set all others aside."""
    told = [problem.hint.partition("lorasweep caption ") for problem in problems]
    others = [_file(root, problem) or root for problem, (_, found, _) in zip(problems, told, strict=True) if not found]
    aside = mending.aside(root, others)
    for problem, (_, found, rest) in zip(problems, told, strict=True):
        message = f"{problem.where} {problem.message}"
        yield Finding(message, level="must", places=[problem.where], command=found + rest if found else aside)


def _file(root: Path, problem: Problem) -> Path | None:
    """Return the file of the dataset that a problem is about: problems name it by its folder and name."""
    inside = (root.parent, root, *(path for path in root.rglob("*") if path.is_dir()))
    names = (problem.where, problem.where.rpartition(":")[0])
    return next((folder / name for folder in inside for name in names if name and (folder / name).is_file()), None)
