"""What all trainers have about adapters: a file that training starts from, and a dropout that not every kind has."""

from __future__ import annotations

from lorasweep.config import places
from lorasweep.config.importing.draft import Draft


def put_init(draft: Draft, option: str) -> None:
    """Decide the file that training starts from."""
    if file := draft.take(option):
        draft.put("adapter.init", file, option)


def has_dropout(adapter: str) -> bool:
    """Whether that adapter of ours has the knob."""
    return "dropout" in places.read_choice("adapter", adapter)
