"""The dollhouse's ground truth: who the subject is, what a prompt asks for, what a picture shows.

Used by the metrics that read pictures back. On any other base or dataset it answers None and the metric says
so. Knows nothing about scores.

Letters: B pictures, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorasweep.core import files, registry
from lorasweep.core.protocols import JudgeContext
from lorasweep.core.records import CaptionOptions, Recipe
from lorasweep.data import captions

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from lorasweep.dollhouse.reader.reader import Reader, Reading
    from lorasweep.dollhouse.world.subjects import Subject

UNREADABLE = "only the dollhouse's own pictures of its own subjects can be read back"


def subject_of(context: JudgeContext) -> Subject | None:
    """Return the character being trained, if the reader knows it: a drawn dataset, or one with a `world.json`."""
    return None if context.reader is None else _subject(context.recipe)


def subject_in(recipe: Recipe) -> Subject | None:
    """Find it before anything is loaded: there is a reader of the dollhouse's bases only."""
    return _subject(recipe) if getattr(registry.load("base", recipe.base.name), "READABLE", False) else None


def _subject(recipe: Recipe) -> Subject | None:
    from lorasweep.dollhouse.world import SUBJECTS

    if recipe.dataset.path is None:
        return SUBJECTS.get(recipe.dataset.dollhouse.subject)
    truth = Path(recipe.dataset.path).expanduser() / "world.json"
    if not truth.is_file():
        return None
    return SUBJECTS.get(files.read_json(truth).get("subject", ""))


def asked_for(prompt: str, options: CaptionOptions) -> dict[str, str]:
    """Parse a prompt's tags back into attributes and their values, skipping tags the world does not know."""
    found = {}
    for tag in captions.tags(prompt, options):
        found.update(_attributes_of_tag(tag))
    return found


def read(reader: Reader, pictures: Sequence[Image.Image]) -> Reading:
    """Read pictures of one size."""
    import numpy as np
    import torch

    pixels_BHWC = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    return reader.read(pixels_BHWC.permute(0, 3, 1, 2).float() / 255.0)


@dataclass(frozen=True)
class _ReaderEncoder:
    """The reader as a `protocols.Encoder`, so that a picture that several metrics ask about is read once."""

    reader: Reader

    @property
    def fingerprint(self) -> str:
        return f"the reader at {id(self.reader)}"  # what it says is kept in this process only

    def encode(self, pictures: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        reading = read(self.reader, pictures)
        return {**reading.probabilities, "nuisances": reading.nuisances_BN, "corrupt": reading.corrupt_B}


def reading_of(context: JudgeContext, pictures: Sequence[Image.Image]) -> Reading:
    """Return what pictures of one size show, by the context's reader."""
    from lorasweep.dollhouse.reader.reader import Reading

    found = dict(context.features(pictures, encoder=_ReaderEncoder(context.reader)))
    return Reading(nuisances_BN=found.pop("nuisances"), corrupt_B=found.pop("corrupt"), probabilities=found)


def features_shown(reading: Reading, subject: Subject) -> dict[str, float]:
    """Return probability that each of the subject's features shows, mean over pictures; each in [0, 1].

    A feature is a trait (hair colour and style, eyes, skin) or a mark (on head and face, and their colour).
    One by one rather than all at once: likeness comes, and bleeds, feature by feature.
    """
    from lorasweep.dollhouse.world.attributes import NO_MARK

    features = {head: value for head, value in subject.fixed.items() if value != NO_MARK}
    return {head: float(reading.probability_of(head, value).mean()) for head, value in features.items()}


def likeness(reading: Reading, subject: Subject) -> float:
    """Mean of `features_shown`; in [0, 1]. Chance alone gives a stranger about 0.1."""
    shown = features_shown(reading, subject)
    return sum(shown.values()) / len(shown)


def _attributes_of_tag(tag: str) -> dict[str, str]:
    from lorasweep.dollhouse.world import ATTRIBUTES

    for suffix, attribute in (("hair", "hair_color"), ("eyes", "eye_color")):
        color, _, noun = tag.rpartition(" ")
        if noun == suffix and color in ATTRIBUTES[attribute]:
            return {attribute: color}
    for attribute in ("hair_style", "skin", "pose", "background", "accessory"):
        if tag in ATTRIBUTES[attribute]:
            return {attribute: tag}
    color, _, outfit = tag.partition(" ")
    if color in ATTRIBUTES["outfit_color"] and outfit in ATTRIBUTES["outfit"]:
        return {"outfit_color": color, "outfit": outfit}
    return {}
