"""The error family: what went wrong, in words a person can act on.

    LorasweepError                 anything that is ours; exit code 1
    ├── InputError                 what the person gave is wrong; nothing was started; exit code 2
    │   ├── ConfigError            a key, a value, an arm, a sweep file
    │   └── DatasetError           a folder, an image, a caption
    ├── SweepHeldError             another driver holds this sweep
    └── AdapterError               an adapter cannot be built on, or loaded into, this base

An `InputError` carries *all* problems found, not the first one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass

from lorasweep.core.printable import on_one_line

ON_COMMAND_LINE = ContextVar("ON_COMMAND_LINE", default=False)  # whether whoever reads it types options
_OPTION = re.compile(r"(?<![\w/.-])--([a-z][a-z-]*)")
_KNOBS = {"for": "readers", "rank": "ranks"}  # of functions, where commands have other words


@dataclass(frozen=True)
class Problem:
    """One thing to mend."""

    where: str  # the key, file or folder, as the person would look it up (`adapter.dim`, `10_zkw/0003.png`)
    message: str  # the rule and the value that broke it (`must be >= 1, got 0`)
    hint: str = ""  # the next step (`override: adapter.dim=32`); empty when the message already says it

    def __str__(self) -> str:
        return self.line()

    def in_python(self) -> Problem:
        """Say it to whoever calls a function: options are the function's knobs, but those of a command to type."""
        hint = self.hint if "lorasweep " in self.hint else _as_knobs(self.hint)
        if not self.where.startswith("--"):
            return Problem(self.where, self.message, hint)
        return Problem(_as_knobs(self.where), _as_knobs(self.message), hint)

    def line(self, width: int = 0) -> str:
        """Return one line, whatever is quoted in it; what is wrong begins behind `width` columns."""
        hint = f"  ({self.hint})" if self.hint else ""
        return f"{on_one_line(self.where):<{width}}  {on_one_line(self.message + hint)}"


def no_counts(least: int = 1, /, **counts: object) -> list[Problem]:
    """Return the problems of arguments, by name, that are to be whole numbers from `least` on."""
    return [
        Problem(f"--{name.replace('_', '-')}", f"must be a whole number >= {least}, got {count!r}")
        for name, count in counts.items()
        if not isinstance(count, int) or isinstance(count, bool) or count < least
    ]


def _as_knobs(text: str) -> str:
    return _OPTION.sub(lambda found: _KNOBS.get(found[1], found[1].replace("-", "_")), text)


class LorasweepError(Exception):
    """Something lorasweep knows how to explain."""


class InputError(LorasweepError):
    """The input is wrong; nothing was started."""

    def __init__(self, problems: Sequence[Problem] | Problem, *, subject: str = "input") -> None:
        """Collect at least one problem; the headline says what was being read (``recipe `sdxl-lora` ``)."""
        self.problems = [problems] if isinstance(problems, Problem) else list(problems)
        self.subject = subject
        super().__init__(str(self))

    def __str__(self) -> str:
        problems, subject, count = self.problems, self.subject, len(self.problems)
        if not ON_COMMAND_LINE.get():
            problems, subject = [problem.in_python() for problem in problems], subject.removeprefix("--")
        width = min(40, max((len(p.where) for p in problems), default=0))
        lines = [f"{type(self).__name__}: {count} problem{'s' if count != 1 else ''} in {on_one_line(subject)}"]
        return "\n".join([*lines, *(f"  {problem.line(width)}" for problem in problems)])


class ConfigError(InputError):
    """A recipe or a sweep file says something that cannot be."""


class DatasetError(InputError):
    """The images or captions cannot be used as they are."""


class SweepHeldError(LorasweepError):
    """Another driver is running this sweep right now."""


class AdapterError(LorasweepError):
    """An adapter matches nothing in this base, or its file does not fit."""
