"""A draft as a recipe that composes, whatever stood in the files."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lorasweep.config import places
from lorasweep.config.bind import TO_BE_GIVEN
from lorasweep.config.importing.draft import Draft, Line, Note
from lorasweep.config.override import write
from lorasweep.config.recipe import compose_recipe
from lorasweep.core.errors import ConfigError, Problem

SaidT = TypeVar("SaidT", Line, Note, Problem)

# May be on another machine, or only known to the person.
_PLACES = ("base.path", "base.adapter", "dataset.path", "regularization.reg_images.path")


@dataclass(frozen=True)
class Link:
    """A folder of images under the name that says its repeats."""

    name: str  # `10_zkw outfit1`
    target: Path  # where the images are


@dataclass(frozen=True)
class Imported:
    """What became of the files."""

    trainer: str  # whose they are, in a word
    lines: dict[str, Line]  # recipe key -> value and origin
    untranslated: tuple[Note, ...]  # given, matters, and has no counterpart
    differs: tuple[Note, ...]  # translated, but not quite the same
    left_out: tuple[Note, ...]  # given, and changes nothing that is learned
    links: tuple[Link, ...]  # folders of images to link, by the name that says their repeats
    to_give: tuple[str, ...]  # keys that only the person knows

    def overrides(self) -> list[str]:
        """The recipe as `KEY=VALUE`s."""
        return [write(key, line.value) for key, line in self.lines.items()]


def finish(draft: Draft, links: Sequence[Link], *, subject: str) -> Imported:
    """Account for the options that nothing was said about, and drop what a recipe may not say.

    Args:
        draft: all of it is translated.
        links: the folders of images to link.
        subject: what was read, for messages.

    Raises:
        ConfigError: values make no sense: all of them at once.
    """
    draft.judge_the_rest()
    if draft.problems:
        raise ConfigError([_renamed(draft, problem, "where") for problem in draft.problems], subject=subject)
    _drop_what_is_refused(draft)
    groups = {name: number for number, name in enumerate(places.GROUPS)}
    in_order = sorted(draft.lines, key=lambda key: groups.get(key.split(".")[0], len(groups)))
    return Imported(
        trainer=draft.table.label,
        lines={key: _renamed(draft, draft.lines[key]) for key in in_order},
        untranslated=tuple(_renamed(draft, note) for note in draft.untranslated),
        differs=tuple(_renamed(draft, note) for note in draft.differs),
        left_out=tuple(_renamed(draft, note) for note in draft.left_out),
        links=tuple(links),
        to_give=tuple(key for key in in_order if draft.lines[key].value == TO_BE_GIVEN),
    )


def _renamed(draft: Draft, said: SaidT, attribute: str = "option") -> SaidT:
    """The same under the file's own name for the option."""
    option = getattr(said, attribute)
    return dataclasses.replace(said, **{attribute: draft.names.get(option, option)})


def _drop_what_is_refused(draft: Draft) -> None:
    """Take out what a recipe may not say, each with the rule that it breaks, until the recipe composes."""
    while problems := _refusals(draft):
        if not any(problem.where in draft.lines for problem in problems):
            raise ConfigError(problems, subject="the translated recipe")
        for problem in problems:
            if (line := draft.lines.get(problem.where)) is None:
                continue  # went with another one
            reason = f"{problem.where}={line.value} is refused here: {problem.message}"
            given = draft.options.get(line.option, line.value)
            draft.leave(line.option, f"{reason}; lorasweep's default is taken", given)
            for key in [key for key in draft.lines if f"{key}.".startswith(f"{problem.where}.")]:
                del draft.lines[key]


def _refusals(draft: Draft) -> list[Problem]:
    try:
        compose_recipe([write(key, line.value) for key, line in draft.lines.items()])
    except ConfigError as error:
        return [problem for problem in error.problems if not _can_be_mended(problem, draft)]
    return []


def _can_be_mended(problem: Problem, draft: Draft) -> bool:
    """Whether only this machine lacks something: a folder, or a library, which is told."""
    if problem.where == "optimizer.name":
        option, reason = draft.lines["optimizer"].option, f"{problem.message} ({problem.hint})"
        if not any(note.reason == reason for note in draft.differs):
            draft.differ(option, reason)
    return problem.where in (*_PLACES, "optimizer.name")
