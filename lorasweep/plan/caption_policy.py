"""The captions of a folder as a recipe's policy writes them, from those that are there or from what images show.

Takes a recipe, gives back texts by caption file. Writes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorasweep.core.errors import ConfigError, DatasetError, Problem
from lorasweep.core.protocols import Tag
from lorasweep.core.records import Recipe
from lorasweep.data import caption_files, captions
from lorasweep.data.folder import FoundImage, find_images
from lorasweep.plan import trigger
from lorasweep.plan.dataset import read_dataset
from lorasweep.plan.image_facts_cache import inspect_all

Look = Callable[[Mapping[Path, str]], Mapping[Path, list[Tag]]]  # from images' digests by path


@dataclass(frozen=True, kw_only=True)
class Edits:
    """What is done to captions beside the policy."""

    trigger_first: bool = False  # move the trigger to the front of captions that have it elsewhere
    add: str = ""  # a tag for captions that have no class word, behind the trigger; "" for none
    encoding: str = "utf-8"  # of caption files that are not UTF-8
    new_only: bool = False  # look at images without a caption only


def texts(recipe: Recipe, root: Path, edits: Edits, look: Look | None = None) -> dict[Path, str]:
    """Work out every image's caption, by the file that it belongs into; images without a word are left out.

    Args:
        recipe: its caption policy.
        root: the dataset.
        edits: what is done beside it.
        look: what an image shows, for the policy to act on in place of the caption that is there.

    Raises:
        ConfigError: the policy takes captions that are there.
        DatasetError: the folder or an image cannot be read, or two images share a file that cannot say both.
    """
    options = recipe.captions
    if look is not None and options.decouple:
        message, hint = "needs captions that are there", "write the tags first, then --apply it"
        raise ConfigError(Problem("captions.decouple", message, hint))
    folder = find_images(root, caption_extension=options.extension, encoding=edits.encoding)
    triggers = trigger.find_triggers(recipe, folder.images)
    if look is not None:
        folder = dataclasses.replace(folder, images=_looked_at(folder.images, look, edits, options.separator))
    decoupled = {i.path: i.caption for i in read_dataset(recipe).images} if options.decouple else {}
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
        own = caption_files.beside(image.path, beside[image.path.parent])
        file = own or stem.with_name(stem.name + options.extension)
        if text and found.setdefault(file, text) != text:
            problems.append(Problem(image.short, f"shares {file.name} with another image", "rename one of them"))
    if problems:
        raise DatasetError(problems, subject="the captions")
    return found


def _looked_at(images: Sequence[FoundImage], look: Look, edits: Edits, separator: str) -> tuple[FoundImage, ...]:
    """Return the images with what they show for captions; all are opened before the first is looked at."""
    facts, problems = inspect_all([i.path for i in images if i.caption is None or not edits.new_only])
    if problems:
        raise DatasetError(problems, subject="the images")
    said = look({path: fact.sha256 for path, fact in facts.items()})
    texts = {path: separator.join(tag.text for tag in tags) for path, tags in said.items()}
    return tuple(dataclasses.replace(image, caption=texts.get(image.path, image.caption)) for image in images)
