"""What stands side by side in a sheet of pictures, and the words above it.

Two pictures share a column when they were drawn at the same place of the same tier and from the same seed.
Their prompts may differ all the same: an arm may train another trigger. The words above say so.

    arms' pictures by place, and their triggers  ->  columns, a heading for each

Knows nothing about HTML or sheets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorasweep.core import files
from lorasweep.data import captions
from lorasweep.results.report.pictures import Key, Picture

TRIGGER = "<trigger>"
STRANGERS_SHOWN = 2  # there are more so that their mean can be trusted
OTHERS_DIFFER = "(other arms: other words)"


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One arm's row of a sheet."""

    pictures: Mapping[Key, Picture]
    trigger: str | None  # in the arm's prompts; None: there is none, or it is not known


def trigger_of(run_folder: Path) -> str | None:
    """The trigger that a trial was trained on, as its plan has it."""
    try:
        trigger = files.read_json(run_folder / "plan.json")["trigger"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return trigger if isinstance(trigger, str) and trigger else None


def shared(first: Mapping[Key, Picture], arms: Sequence[Drawn]) -> list[Key]:
    """The columns: what the first row has and any arm has, in the first row's order; of strangers a few."""
    worth = [key for key in first if key[0] != "class" or key[1] < STRANGERS_SHOWN]
    return [key for key in worth if any(key in arm.pictures for arm in arms)]


def heading(key: Key, arms: Sequence[Drawn]) -> str:
    """The prompt of a column.

    Where arms differ in the trigger alone it reads `<trigger>, 1girl, beach`; where they differ in more it is
    the first arm's prompt, and says that the others have other words.
    """
    there = [(arm.pictures[key].prompt, arm.trigger) for arm in arms if key in arm.pictures]
    prompts = list(dict.fromkeys(prompt for prompt, _ in there))
    if len(prompts) <= 1:
        return "".join(prompts)
    general = {captions.replace_trigger(prompt, trigger, TRIGGER) for prompt, trigger in there}
    return general.pop() if len(general) == 1 else f"{prompts[0]} {OTHERS_DIFFER}"
