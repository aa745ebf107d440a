"""Translate kohya's files into a recipe that composes, whatever is in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lorasweep.config import compose_recipe, places
from lorasweep.config.kohya import toml_files
from lorasweep.config.kohya.brakes import translate_brakes
from lorasweep.config.kohya.budget import planned_steps, translate_base, translate_budget
from lorasweep.config.kohya.draft import Draft, Line, Note
from lorasweep.config.kohya.images import TO_BE_GIVEN, Link, effective, translate_buckets, translate_images
from lorasweep.config.kohya.network import translate_network
from lorasweep.config.kohya.optimizer import translate_optimizer
from lorasweep.config.kohya.schedule import translate_schedule
from lorasweep.config.override import write
from lorasweep.core.errors import ConfigError, Problem

_PLACES = (
    "base.path",
    "dataset.path",
    "regularization.reg_images.path",
)  # may be on another machine, or only known to the person


@dataclass(frozen=True)
class Imported:
    """What became of the files.

    Attributes:
        lines: recipe key -> value and origin.
        untranslated: given, matters, and has no counterpart.
        differs: translated, but not quite the same.
        left_out: given, and changes nothing that is learned.
        links: folders of images to link, by the name that says their repeats.
        to_give: keys that only the person knows.
    """

    lines: dict[str, Line]
    untranslated: tuple[Note, ...]
    differs: tuple[Note, ...]
    left_out: tuple[Note, ...]
    links: tuple[Link, ...]
    to_give: tuple[str, ...]

    def overrides(self) -> list[str]:
        """The recipe as `KEY=VALUE`s."""
        return [write(key, line.value) for key, line in self.lines.items()]


def import_kohya(config: Path, dataset: Path | None = None, *, link_into: Path | None = None) -> Imported:
    """Read kohya's TOML files and translate them.

    Args:
        config: the training TOML, with or without `[[datasets]]`.
        dataset: the dataset TOML.
        link_into: where links to several folders of images would go.

    Raises:
        ConfigError: a file cannot be read, or has values that make no sense: all of them at once.
    """
    given = toml_files.read(config, dataset)
    options, hidden = effective(given)
    draft = Draft(options, untranslated=[*given.notes], left_out=hidden)
    _first_rate(draft)
    translate_base(draft)
    links = translate_images(draft, given, link_into=link_into)
    translate_buckets(draft)
    translate_network(draft)
    optimizer, trains_text = translate_optimizer(draft)
    draft.put("adapter.text_encoder", trains_text, "network_train_unet_only")
    translate_schedule(draft, steps=planned_steps(draft), is_scheduled=optimizer.is_scheduled)
    translate_brakes(draft, given)
    translate_budget(draft)
    draft.judge_the_rest()
    if draft.problems:
        raise ConfigError(draft.problems, subject=f"the kohya config {config}")
    _drop_what_is_refused(draft)
    groups = {name: number for number, name in enumerate(places.GROUPS)}
    in_order = sorted(draft.lines, key=lambda key: groups.get(key.split(".")[0], len(groups)))
    return Imported(
        lines={key: draft.lines[key] for key in in_order},
        untranslated=tuple(draft.untranslated),
        differs=tuple(draft.differs),
        left_out=tuple(draft.left_out),
        links=tuple(links),
        to_give=tuple(key for key in in_order if draft.lines[key].value == TO_BE_GIVEN),
    )


def _first_rate(draft: Draft) -> None:
    """sd-scripts takes a list of rates, for bases with several text encoders."""
    rates = draft.options.get("text_encoder_lr")
    if isinstance(rates, list):
        if len(rates) > 1:
            draft.left_out.append(Note("text_encoder_lr", rates, "the first rate is of the one text encoder"))
        draft.options = {**draft.options, "text_encoder_lr": rates[0] if rates else None}


def _drop_what_is_refused(draft: Draft) -> None:
    """Take out what a recipe may not say, each with the rule that it breaks, until the recipe composes."""
    while problems := _refusals(draft):
        refused = [problem for problem in problems if problem.where in draft.lines]
        if not refused:
            raise ConfigError(problems, subject="the translated recipe")
        for problem in refused:
            if problem.where not in draft.lines:
                continue  # went with another one
            line = draft.lines[problem.where]
            reason = f"{problem.where}={line.value} is refused here: {problem.message}"
            given = draft.options.get(line.option, line.value)
            draft.leave(line.option, given, f"{reason}; lorasweep's default is taken")
            for key in [key for key in draft.lines if f"{key}.".startswith(f"{problem.where}.")]:
                del draft.lines[key]


def _refusals(draft: Draft) -> list[Problem]:
    try:
        compose_recipe([write(key, line.value) for key, line in draft.lines.items()])
    except ConfigError as error:
        return [problem for problem in error.problems if not _can_be_mended(problem, draft)]
    return []


def _can_be_mended(problem: Problem, draft: Draft) -> bool:
    """Whether only this machine lacks something: a folder, a library."""
    if problem.where == "optimizer.name":
        option = draft.lines["optimizer"].option
        note = Note(option, draft.options.get(option), f"{problem.message} ({problem.hint})")
        if note not in draft.differs:
            draft.differs.append(note)
        return True
    return problem.where in _PLACES
