"""Is this machine fit to cook on? Small checks, each with what was found and the next step.

    doctor.py     all of them in order; other machines, asked over their launcher
    software.py   Python, libraries, torch and its device, optional extras, the embedded base
    machine.py    memory, disk, folders, the MLflow store, the UI's port; a real recipe in a process of its own

Nothing is changed: what is written goes to temporary places and is removed.
"""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass


class State(enum.StrEnum):
    """How well it is."""

    OK = "ok"
    WARN = "warn"  # works, but you should know
    FAIL = "fail"  # will not work


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    state: State  # how well
    name: str  # what
    found: str  # what is there, in a few words
    hint: str = ""  # the next step; empty when there is nothing to do


ok = functools.partial(Check, State.OK)
warn = functools.partial(Check, State.WARN)
fail = functools.partial(Check, State.FAIL)
