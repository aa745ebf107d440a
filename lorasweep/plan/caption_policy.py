"""The captions of a folder as a recipe's policy writes them, for files that other trainers read.

Takes a recipe, gives back texts by caption file. Writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lorasweep.core.errors import DatasetError, Problem
from lorasweep.core.records import Recipe
from lorasweep.data import caption_files, captions
from lorasweep.data.folder import find_images
from lorasweep.plan import trigger
from lorasweep.plan.dataset import read_dataset


@dataclass(frozen=True, kw_only=True)
class Edits:
    """What is done to captions beside the policy.

    Attributes:
        trigger_first: move the trigger to the front of captions that have it elsewhere.
        add: a tag for captions that have no class word, behind the trigger; "" for none.
        encoding: of caption files that are not UTF-8.
    """

    trigger_first: bool = False
    add: str = ""
    encoding: str = "utf-8"


def texts(recipe: Recipe, root: Path, edits: Edits) -> dict[Path, str]:
    """Work out every image's caption, by the file that it belongs into; images without a word are left out.

    Raises:
        DatasetError: the folder cannot be read, or two images share a file that cannot say both.
    """
    options = recipe.captions
    folder = find_images(root, caption_extension=options.extension, encoding=edits.encoding)
    triggers = trigger.find_triggers(recipe, folder.images)
    decoupled = {Path(i.file): i.caption for i in read_dataset(recipe).images} if options.decouple else {}
    parents = {image.path.parent for image in folder.images}
    beside = {parent: caption_files.by_image(parent.iterdir(), options.extension) for parent in parents}
    found: dict[Path, str] = {}
    problems = []
    for image in folder.images:
        word = triggers[image.class_tokens]
        text = decoupled.get(image.path) or captions.planned(image.text, word, options)
        if edits.trigger_first and word and captions.has_trigger(text, word):
            text = captions.with_trigger(captions.without_trigger(text, word, options), word, options)
        tags = captions.tags(text, options)
        if edits.add and not any(map(trigger.is_class, tags)):
            place = 1 if word and tags and captions.has_trigger(tags[0], word) else 0
            text = options.separator.join([*tags[:place], edits.add, *tags[place:]])
        stem = image.path.with_suffix("")
        file = beside[image.path.parent].get(stem, stem.with_name(stem.name + options.extension))
        if text and found.setdefault(file, text) != text:
            problems.append(Problem(image.short, f"shares {file.name} with another image", "rename one of them"))
    if problems:
        raise DatasetError(problems, subject="the captions")
    return found
