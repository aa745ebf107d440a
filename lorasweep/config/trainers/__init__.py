"""From another trainer's config to a recipe of ours, and a list of what could not come along.

    file  ->  importing.document  what it says, as data, and whose it is: by its content, never by its name
              saved               of a LoRA file: the config of its training, which it keeps
          ->  one_trainer, ai_toolkit, simple_tuner, diffusers  a table (.yaml) and what is not one key each (.py)
              kohya                                  sd-scripts, kohya_ss and Easy Training Scripts
              own                                    the recipe in a file that lorasweep exported
          ->  importing           the recipe file

Nothing is trained, downloaded or changed. docs/flags.md is checked against the tables.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from lorasweep.config import kohya
from lorasweep.config.importing import document
from lorasweep.config.importing.draft import Draft
from lorasweep.config.importing.finish import Imported, finish
from lorasweep.config.trainers import ai_toolkit, diffusers, one_trainer, own, saved, simple_tuner
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.printable import command

# Keys that only one trainer writes. First match wins.
MARKS: dict[str, ModuleType] = {
    own.RECIPE: own,
    diffusers.MARK: diffusers,
    "network_module": kohya,
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
        config: of kohya's sd-scripts or kohya_ss, OneTrainer, ai-toolkit, SimpleTuner or diffusers' examples, or a LoRA
            of theirs or ours.
        dataset: the file that says where the images are, when apart.
        link_into: where links to several folders of images would go.

    Raises:
        ConfigError: a file cannot be read, is none of those, or has values that make no sense: all at once.
    """
    content = saved.read(config) if saved.is_saved(config) else diffusers.find(config) or document.read(config)
    trainer = next((each for marks, each in MARKS.items() if content and {*marks.split()} <= content.keys()), kohya)
    if dataset and (trainer in (own, ai_toolkit, diffusers) or (content and content.get(one_trainer.CONCEPTS))):
        what = f"is not read: {config.name} has all that is known of its images"
        raise ConfigError(Problem("--dataset", what, "leave it out; dataset.path=FOLDER says where they are"))
    given = trainer.read(content, config, dataset)
    told = {"untranslated": given.untranslated, "left_out": given.left_out, "names": given.names}
    draft = Draft(given.table or trainer.TABLE, given.options, **told)
    draft.spread()
    links = trainer.translate(draft, given, link_into=link_into)
    draft.put_plain()
    source = command("lorasweep", "import", config.name, *(["--dataset", dataset.name] if dataset else ()))
    subject = f"the {draft.table.label} config {config}"
    return finish(draft, links, subject=subject, source=source)
