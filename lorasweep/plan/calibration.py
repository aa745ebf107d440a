"""What a number means on one base: where every symptom begins to count, and when a subject is learned.

    find(recipe, base fingerprint) -> ChosenCalibration(calibration, why it does not fit, if it does not)

A calibration is a JSON file that `lorasweep calibrate` writes. It is addressed by what it holds for: the
base, the kind of dataset, the judged LoRA weight and the guidance. The first that fits is taken, of

    1. the file that the recipe names (`calibration=...`)
    2. <home>/calibrations/<key>.json, where `lorasweep calibrate` puts it
    3. those that come with lorasweep, beside this module

and when none fits, the dollhouse's, with a reason that says so: it still orders checkpoints, but "overcooked"
is then a word borrowed from another base. Scores of two runs are comparable when their digests are equal.
Knows nothing about how limits are found; imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lorasweep.components import bases
from lorasweep.core import files, once, paths
from lorasweep.core.errors import InputError, Problem
from lorasweep.core.records import Recipe, digest, from_dict, to_dict
from lorasweep.plan.symptoms import SYMPTOMS, Limit

SHIPPED = Path(__file__).parent / "calibrations"
NEAREST = SHIPPED / "dollhouse.json"  # what is taken when nothing fits


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Limits, and what they hold for."""

    name: str  # for people, e.g. "dollhouse"
    holds_for: dict[str, Any]  # what `conditions` gave when it was made
    limits: dict[str, Limit]  # by symptom; one that could not be placed is absent
    unplaced: dict[str, str] = field(default_factory=dict)  # symptom -> why it has no limit
    learned: float = 0.4  # F from which a subject counts as learned, (0, 1)
    gain: float = 0.15  # held-out log gain at which the stand-in for F reaches 1 - 1/e, > 0
    made: dict[str, Any] = field(default_factory=dict)  # with what, and when

    @cached_property
    def digest(self) -> str:
        """Twelve hex digits of everything that moves a score."""
        numbers = {name: [float(limit.limit), float(limit.width)] for name, limit in self.limits.items()}
        return digest([numbers, self.learned, self.gain])[:12]

    @property
    def key(self) -> str:
        """The name of its file, without the suffix."""
        return key_of(self.holds_for)

    def why_unplaced(self, symptom: str) -> str:
        """Tell why a symptom does not count."""
        return self.unplaced.get(symptom, f"calibration `{self.name}` has no limit for it")

    def write(self, path: Path) -> None:
        """Write it for `read`, and for people."""
        files.write_json(path, to_dict(self) | {"digest": self.digest})


@dataclass(frozen=True, kw_only=True)
class ChosenCalibration:
    """The calibration to judge with; `reason` is empty when it fits."""

    calibration: Calibration
    reason: str = ""

    def document(self) -> dict[str, Any]:
        """Tell what `metrics.json` says about it."""
        made = self.calibration
        found: dict[str, Any] = {"name": made.name, "digest": made.digest, "fits": not self.reason}
        return found | ({"reason": self.reason} if self.reason else {})


def conditions(recipe: Recipe, base_fingerprint: str) -> dict[str, Any]:
    """Tell what decides the limits of a recipe: equal conditions, comparable scores."""
    return {
        "base": base_fingerprint,
        "dataset": _dataset_kind(recipe),
        "weight": recipe.sample.weight,
        "guidance": recipe.sample.guidance,
    }


def key_of(holds_for: Mapping[str, Any]) -> str:
    """Return a file's name for conditions: 16 hex digits."""
    return digest(dict(holds_for))[:16]


def own_path(holds_for: Mapping[str, Any]) -> Path:
    """Find where `lorasweep calibrate` puts a calibration."""
    return own_folder() / f"{key_of(holds_for)}.json"


def own_folder() -> Path:
    """Return the folder of all calibrations of this home."""
    return paths.home() / "calibrations"


def of_today(recipe: Recipe) -> Calibration:
    """Return what a recipe would be judged by now; raises what `find` does."""
    return find(recipe, bases.fingerprint(recipe)).calibration


@once.per(lambda recipe, base_fingerprint: digest([conditions(recipe, base_fingerprint), recipe.calibration]))
def find(recipe: Recipe, base_fingerprint: str) -> ChosenCalibration:
    """Choose the calibration for a recipe; see the module.

    Raises:
        InputError: the named file, or one that would have fitted, cannot be read.
    """
    wanted = conditions(recipe, base_fingerprint)
    if recipe.calibration is not None:
        named = read(Path(recipe.calibration).expanduser())
        return ChosenCalibration(calibration=named, reason=_difference(named, wanted))
    if own_path(wanted).exists():
        return ChosenCalibration(calibration=read(own_path(wanted)))
    for shipped in map(read, sorted(SHIPPED.glob("*.json"))):
        if shipped.key == key_of(wanted):
            return ChosenCalibration(calibration=shipped)
    nearest = read(NEAREST)
    return ChosenCalibration(calibration=nearest, reason=_difference(nearest, wanted))


def read(path: Path) -> Calibration:
    """Read a calibration.

    Raises:
        InputError: there is no such file, or it is no calibration.
    """
    hint = "`lorasweep calibrate` writes one"
    try:
        data = files.read_json(path)
        made = from_dict(Calibration, {key: value for key, value in data.items() if key != "digest"})
    except OSError as error:
        raise _refuse(path, f"cannot be read: {error.strerror}", hint) from error
    except (ValueError, AttributeError) as error:
        raise _refuse(path, "is not a calibration", hint) from error
    unknown = (made.limits.keys() | made.unplaced.keys()) - {symptom.name for symptom in SYMPTOMS}
    if unknown:
        raise _refuse(path, f"speaks of unknown symptoms: {', '.join(sorted(unknown))}", hint)
    numbers = [number for limit in made.limits.values() for number in (limit.limit, limit.width)]
    if not all(0 < number < math.inf for number in numbers):
        raise _refuse(path, "has a limit or a width that is no number > 0", hint)
    if not (0 < made.learned < 1 and 0 < made.gain < math.inf):
        raise _refuse(path, "must have a `learned` in (0, 1) and a `gain` > 0", hint)
    return made


def _dataset_kind(recipe: Recipe) -> str:
    """Name the kind: drawn pictures have one look, people's own have theirs."""
    path = recipe.dataset.path
    drawn = path is None or (Path(path).expanduser() / "world.json").is_file()
    return "dollhouse" if drawn else "folder"


def _difference(made: Calibration, wanted: Mapping[str, Any]) -> str:
    """Tell why a calibration does not fit; empty when it does."""
    differ = [key for key, value in wanted.items() if made.holds_for.get(key) != value]
    if not differ:
        return ""
    return (
        f"calibrated on `{made.name}`, with another {' and '.join(differ)}: scores order checkpoints, but "
        "where overcooking begins is borrowed; `lorasweep calibrate` finds it for this base"
    )


def _refuse(path: Path, message: str, hint: str) -> InputError:
    return InputError(Problem(str(path), message, hint), subject="the calibration")
