"""A draft as a recipe that composes, whatever stood in the files; written with the origin of every key."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lorasweep.config import places
from lorasweep.config.bind import TO_BE_GIVEN
from lorasweep.config.importing.draft import Draft, Line, Note
from lorasweep.config.override import parse
from lorasweep.config.places import groups
from lorasweep.config.recipe import compose_recipe
from lorasweep.config.tree import compose_tree, look_up
from lorasweep.core import paths, registry
from lorasweep.core.errors import ConfigError, InputError, Problem
from lorasweep.core.hydra_text import write
from lorasweep.core.printable import readable
from lorasweep.core.records import JUDGED_BY, MATERIAL, digest
from lorasweep.data.tree import OWN_MASKS

SaidT = TypeVar("SaidT", Line, Note, Problem)

_TO_SAY = "Still to be given, in this file or behind plan, train and sweep as KEY=VALUE"
_SECRET = re.compile(r"api_?key|password|secret|(hub|hf|huggingface|access|auth)_?token", re.IGNORECASE)
_WIDTH = 108
_TITLES = {
    "untranslated": "Could not be translated",
    "differs": "Translated, but not quite the same",
    "left_out": "Left out, since they change nothing that is learned",
}


@dataclass(frozen=True)
class Link:
    """A folder of images under the name that says its repeats."""

    name: str  # `10_zkw outfit1`
    target: Path  # where the images are


@dataclass(frozen=True)
class Imported:
    """What became of the files."""

    source: str  # the command that reads them
    trainer: str  # whose they are, in a word
    lines: dict[str, Line]  # recipe key -> value and origin
    untranslated: tuple[Note, ...]  # given, matters, and has no counterpart
    differs: tuple[Note, ...]  # translated, but not quite the same
    left_out: tuple[Note, ...]  # given, and changes nothing that is learned
    links: tuple[Link, ...]  # folders of images to link, by the name that says their repeats
    to_give: tuple[str, ...]  # keys that only the person knows
    not_here: tuple[str, ...] = ()  # keys whose file or folder is not on this machine

    def overrides(self) -> list[str]:
        """Return the recipe as `KEY=VALUE`s."""
        return [write(key, line.value) for key, line in self.lines.items()]

    def to_say(self) -> dict[str, str]:
        """Return the keys without which nothing is trained here -> why."""
        reasons = {note.option: note.reason for note in reversed(self.untranslated)}
        whys = {key: reasons.get(self.lines[key].option, "the files do not say it") for key in self.to_give}
        return whys | {key: readable(f"{self.lines[key].value} is not on this machine") for key in self.not_here}

    def text(self) -> str:
        """Return the recipe file: comments on top list what is to be given and what did not come along.

        Every key says where it comes from.
        """
        lines = []
        if to_say := self.to_say():
            lines += ["#", f"# {_TO_SAY}:", *(f"#   {key}: {why}" for key, why in to_say.items())]
        for name, title in _TITLES.items():
            notes = getattr(self, name)
            lines += ["#", f"# {title}:"] if notes else []
            for note in notes:
                given = "" if note.value is None else f" = {_yaml(note.value)}"
                lines += _wrapped(readable(f"{note.option}{given}: {note.reason}"))
        lines += ["", "recipe:"]
        differing = _differing_defaults(self)
        for key, line in self.lines.items():
            origin = line.option if line.given else f"{line.option} is not given: {self.trainer}'s default"
            if key in differing:
                origin += f" (lorasweep's: {_yaml(differing[key])})"
            lines.append(f"  {key}: {_yaml(line.value)}  # {origin}")
        body = "\n".join(lines) + "\n"
        told = f"It replaces this file as long as nothing below is changed: {digest(body)[:12]}"
        return f"# Made by: {self.source}\n# {told}\n{body}"

    def document(self) -> dict[str, Any]:
        """Return the same as data.

        Keys: `recipe`, `untranslated`, `differs`, `left_out`, `defaults`, `to_give`, `not_here`, `links`.
        """
        notes = {
            name: [
                {"option": note.option, "value": _plain(note.value), "reason": note.reason}
                for note in getattr(self, name)
            ]
            for name in _TITLES
        }
        defaults = [
            {"key": key, "option": line.option, self.trainer: line.value, "lorasweep": own}
            for key, own in _differing_defaults(self).items()
            for line in [self.lines[key]]
        ]
        return {
            "recipe": {key: line.value for key, line in self.lines.items()},
            **notes,
            "defaults": defaults,
            "to_give": list(self.to_give),
            "not_here": list(self.not_here),
            "links": [{"name": link.name, "target": str(link.target)} for link in self.links],
        }


def is_unchanged(file: Path) -> bool:
    """Tell whether it is an import as it was written; raises OSError or ValueError where it is none."""
    _, told, body = file.read_text(encoding="utf-8").split("\n", 2)
    return told.endswith(f": {digest(body)[:12]}")


def finish(draft: Draft, links: Sequence[Link], *, subject: str, source: str) -> Imported:
    """Account for the options that nothing was said about, and drop what a recipe may not say.

    Raises:
        ConfigError: values make no sense: all of them at once.
    """
    draft.judge_the_rest()
    if draft.problems:
        raise ConfigError([_renamed(draft, problem, "where") for problem in draft.problems], subject=subject)
    _train_what_takes_an_adapter(draft)
    _drop_what_is_refused(draft)
    order = {name: number for number, name in enumerate(places.groups())}
    in_order = sorted(draft.lines, key=lambda key: order.get(key.split(".")[0], len(order)))
    return Imported(
        source=source,
        trainer=draft.table.label,
        lines={key: _renamed(draft, draft.lines[key]) for key in in_order},
        untranslated=tuple(_told(draft, note) for note in draft.untranslated),
        differs=tuple(_told(draft, note) for note in draft.differs),
        left_out=tuple(_told(draft, note) for note in draft.left_out),
        links=tuple(links),
        to_give=tuple(key for key in in_order if draft.lines[key].value == TO_BE_GIVEN),
        not_here=tuple(
            key
            for key in MATERIAL
            if key in draft.lines and not (key == "dataset.path" and links) and not _is_here(draft.lines[key].value)
        ),
    )


def _is_here(place: Any) -> bool:
    """Tell whether a file or folder is on this machine, or is yet to be given."""
    try:
        return place in (TO_BE_GIVEN, *OWN_MASKS) or paths.typed(str(place)).exists()
    except (InputError, OSError, ValueError):
        return False


def _told(draft: Draft, note: Note) -> Note:
    """Return a note as it may stand in a file that is shared: keys to other services are not repeated."""
    return _renamed(draft, dataclasses.replace(note, value=_without_secrets(note.option, note.value)))


def _without_secrets(option: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_secrets(str(key), inner) for key, inner in value.items()}
    return "***" if value and _SECRET.search(option) else value


def _renamed(draft: Draft, said: SaidT, attribute: str = "option") -> SaidT:
    """Return the same under the file's own name for the option."""
    option = getattr(said, attribute)
    return dataclasses.replace(said, **{attribute: draft.names.get(option, option)})


def _train_what_takes_an_adapter(draft: Draft) -> None:
    """Leave out text encoders of a base on whose no adapter sits."""
    base, trained = draft.lines.get("base"), draft.lines.get("adapter.text_encoder")
    if base is None or base.value not in registry.names("base") or trained is None or not trained.value:
        return
    if len(registry.load("base", base.value).PARTS) < 2:
        draft.put("adapter.text_encoder", False, trained.option, given=True)
        draft.lines.pop("optimizer.text_encoder_lr", None)
        draft.leave(trained.option, f"no adapter sits on a text encoder of base={base.value}: the rest is trained")


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
    """Tell whether only this machine lacks something: a folder, or a library, which is told."""
    if is_library := problem.where == "optimizer.name" and "optimizer" in draft.lines:
        option, reason = draft.lines["optimizer"].option, f"{problem.message} ({problem.hint})"
        if not any(note.reason == reason for note in draft.differs):
            draft.differ(option, reason)
    return is_library or problem.where in (*MATERIAL, *JUDGED_BY)


def _differing_defaults(imported: Imported) -> dict[str, Any]:
    """Return what lorasweep itself would take, with the same files picked, where the trainer's default is another."""
    picks = [text for text in imported.overrides() if text.partition("=")[0] in groups()]
    tree, _ = compose_tree(parse(picks)[0])

    def differs(key: str, line: Line) -> bool:
        return not line.given and key not in groups() and look_up(tree.values, key) != line.value

    return {key: look_up(tree.values, key) for key, line in imported.lines.items() if differs(key, line)}


def _plain(value: Any) -> Any:
    """Return what JSON has: a date, nan and inf are written as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    is_json = value is None or isinstance(value, bool | int | str)
    return value if is_json or (isinstance(value, float) and math.isfinite(value)) else str(value)


def _yaml(value: Any) -> str:
    """Return JSON, which is YAML; numbers like 1e-06 are read as numbers by the reader of recipe files."""
    return json.dumps(_plain(value), ensure_ascii=False)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent="#   ",
        subsequent_indent="#     ",
        break_long_words=False,
        break_on_hyphens=False,
    )
