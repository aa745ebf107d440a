"""A run that was cooked before, by SWEEP/TRIAL or its folder, and the recipe that it recorded.

What a run folder says came from somebody: its recipe is read as data and checked like one that was typed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lorasweep import config, files, paths
from lorasweep.errors import InputError, Problem
from lorasweep.records import Recipe


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """A run folder and what was cooked in it."""

    folder: Path  # absolute
    recipe: Recipe
    material: str  # digest of images, captions and base; empty when nobody wrote it down

    @property
    def name(self) -> str:
        """SWEEP/TRIAL."""
        return f"{self.folder.parent.name}/{self.folder.name}"


def find(where: str, *, subject: str) -> RecordedRun:
    """Find a run.

    Args:
        where: SWEEP/TRIAL or SWEEP/NUMBER in the output folder, or a run folder's path.
        subject: the command, for errors.

    Raises:
        InputError: there is no such run, or its recipe is not one.
    """
    folder = _folder(where, subject)
    recipe = config.read_recorded(folder / "recipe.yaml")
    plan = folder / "plan.json"
    material = str(files.read_json(plan).get("material", "")) if plan.is_file() else ""
    return RecordedRun(folder=folder, recipe=recipe, material=material)


def _folder(where: str, subject: str) -> Path:
    for folder in paths.candidates(where):
        if (folder / "recipe.yaml").is_file():
            return folder.resolve()
    sweep = paths.outputs() / where.split("/")[0]
    runs = sorted(path.parent.name for path in sweep.glob("*/recipe.yaml")) if where.split("/")[0] else []
    hint = f"runs of {sweep.name}: {', '.join(runs[:6])}" if runs else "lorasweep status lists the sweeps"
    raise InputError(Problem(where, "no such run with a recipe", hint), subject=subject)
