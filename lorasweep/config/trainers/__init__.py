"""From another trainer's config to a recipe of ours, and a list of what could not come along.

    file  ->  importing.document  what it says, as data, and whose it is: by its content, never by its name
          ->  one_trainer, ai_toolkit, simple_tuner  a table (.yaml) and what is not one key each (.py)
              kohya                                  sd-scripts, kohya_ss and Easy Training Scripts
          ->  importing           the recipe file

Nothing is trained, downloaded or changed. docs/flags.md is checked against the tables.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from lorasweep.config.importing import document
from lorasweep.config.importing.draft import Draft
from lorasweep.config.importing.finish import Imported, finish
from lorasweep.config.kohya import import_kohya
from lorasweep.config.trainers import ai_toolkit, one_trainer, simple_tuner
from lorasweep.core import paths
from lorasweep.core.errors import ConfigError, Problem

# Keys that only one trainer writes. First match wins.
MARKS: dict[str, ModuleType] = {
    "training_method": one_trainer,
    "concept_file_name": one_trainer,
    "job config": ai_toolkit,
    "data_backend_config": simple_tuner,
    "--data_backend_config": simple_tuner,
    "model_family": simple_tuner,
    "--model_family": simple_tuner,
}


def import_config(config: Path, dataset: Path | None = None, *, link_into: Path | None = None) -> Imported:
    """Read a trainer's config and translate it.

    Args:
        config: of kohya's sd-scripts or kohya_ss, OneTrainer, ai-toolkit or SimpleTuner.
        dataset: the file that says where the images are, when apart.
        link_into: where links to several folders of images would go.

    Raises:
        ConfigError: a file cannot be read, is none of those, or has values that make no sense: all at once.
    """
    content = document.read(config)
    trainer = next((each for marks, each in MARKS.items() if content and {*marks.split()} <= content.keys()), None)
    if content is None or trainer is None:
        return import_kohya(config, dataset, link_into=link_into)
    given = trainer.read(content, lambda named: _beside(config, dataset, named))
    draft = Draft(trainer.TABLE, given.options)
    draft.spread()
    links = trainer.translate(draft, given, link_into=link_into)
    draft.put_plain()
    return finish(draft, links, subject=f"the {trainer.TABLE.label} config {config}")


def _beside(config: Path, dataset: Path | None, named: str) -> Any:
    """Read a file that a config names: the one that is given, or that name, in the working folder or beside it."""
    named = paths.as_here(named)
    places = [dataset] if dataset else [Path(named), config.parent / named, config.parent / Path(named).name]
    for place in places:
        if place.is_file():
            return document.read_any(place)
    if dataset:
        raise ConfigError(Problem(str(dataset), "no such file"), subject="the trainer's config")
    return None
