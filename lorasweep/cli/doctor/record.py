"""What a check says."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class State(enum.StrEnum):
    """How well it is."""

    OK = "ok"
    WARN = "warn"  # works, but you should know
    FAIL = "fail"  # will not work


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        state: how well.
        found: what is there, in a few words.
        hint: the next step; empty when there is nothing to do.
    """

    name: str
    state: State
    found: str
    hint: str = ""


def ok(name: str, found: str, hint: str = "") -> Check:
    """Nothing to mend."""
    return Check(name=name, state=State.OK, found=found, hint=hint)


def warn(name: str, found: str, hint: str) -> Check:
    """Something to know."""
    return Check(name=name, state=State.WARN, found=found, hint=hint)


def fail(name: str, found: str, hint: str) -> Check:
    """Something to mend."""
    return Check(name=name, state=State.FAIL, found=found, hint=hint)
