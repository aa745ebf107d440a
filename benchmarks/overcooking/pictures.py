"""What the witness asks to see: prompts by group, each with what it asks for; replicas of training images.

    trained     the captions of training images: does it return the images themselves?
    recombined  the trigger with two values that the subject's datasets never show: does the prompt steer?
    stranger    somebody else, fully described, no trigger: does the subject show?
    open        a place only: who is the default person?
    plain       the trigger alone, many noises: how many different pictures?

Prompts and noises are not those of the product's own metrics, so that a metric cannot agree with the truth by
looking at the same pictures. Imports no torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image

from lorasweep.core.records import PlannedImage
from lorasweep.core.seeds import derive
from lorasweep.dollhouse.world import SUBJECTS, Spec, Subject, caption_tags, prompt_specs, render, sample_spec, tags
from lorasweep.dollhouse.world.dataset import sample_subject_spec

Group = Literal["trained", "recombined", "stranger", "open", "plain"]
PROMPT_SEED = 20_000  # far from any hold-out seed, from which the product draws its prompts


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Pictures per group and rung; `replicas` are those of the training set, rendered once per run."""

    trained: int = 12
    recombined: int = 10
    stranger: int = 14
    open: int = 24
    plain: int = 10
    replicas: int = 39


@dataclass(frozen=True, kw_only=True)
class Question:
    """One picture to draw."""

    group: Group  # what it is for
    prompt: str  # as typed
    asked: dict[str, str]  # attribute -> value that the prompt names, the subject's own traits left out
    seed: int = 0  # of the starting noise


def questions(identity: str, trained_captions: Sequence[str], counts: Counts) -> list[Question]:
    """List every picture of one rung; those of all groups but `trained` depend on the identity only."""
    subject = SUBJECTS[identity]
    rng = np.random.default_rng([PROMPT_SEED, derive(0, identity) % 2**32])
    strangers = prompt_specs(identity, count=counts.stranger, seed=PROMPT_SEED)["class"]
    found = [
        Question(group="trained", prompt=text, asked={})
        for text in itertools.islice(itertools.cycle(trained_captions), counts.trained)
    ]
    for _ in range(counts.recombined):
        spec = recombined(rng, subject)
        text = ", ".join(caption_tags(spec, subject, captions="absorbed"))
        found.append(Question(group="recombined", prompt=text, asked=_asked(spec)))
    found += [Question(group="stranger", prompt=", ".join(tags(spec)), asked=_asked(spec)) for spec in strangers]
    found += [Question(group="open", prompt=sample_spec(rng).background, asked={}) for _ in range(counts.open)]
    found += [Question(group="plain", prompt=f"{subject.trigger}, 1girl", asked={}) for _ in range(counts.plain)]
    return [
        replace(question, seed=derive(PROMPT_SEED, question.group, place) % 2**31)
        for place, question in enumerate(found)
    ]


def recombined(rng: np.random.Generator, subject: Subject) -> Spec:
    """Draw a picture of the subject with two attributes at values that its datasets never show."""
    spec = sample_subject_spec(rng, subject)
    reserved = [name for name, values in subject.reserved.items() if values and name != "accessory"]
    chosen = rng.choice(reserved, size=2, replace=False)
    new = {str(name): str(rng.choice(subject.reserved[str(name)])) for name in chosen}
    return Spec.from_dict(spec.to_dict() | new)


def replicas(spec: Spec, image: PlannedImage, count: int, rng: np.random.Generator) -> list[Image.Image]:
    """Draw the same attributes with other nuisances, sized and cropped as the training image is."""
    pictures = []
    for _ in range(count):
        other = sample_spec(rng, fixed={name: value for name, value in spec.to_dict().items() if _is_look(name)})
        whole = render(other, image.width_px, image.height_px).resize(image.resize_px, Image.Resampling.LANCZOS)
        left, top = image.crop_px
        pictures.append(whole.crop((left, top, left + image.bucket.width_px, top + image.bucket.height_px)))
    return pictures


def _is_look(name: str) -> bool:
    return name not in ("x", "y", "scale", "light", "seed")


def _asked(spec: Spec) -> dict[str, str]:
    """What a prompt names besides the person: no accessory is not asked for."""
    named = ("outfit", "outfit_color", "pose", "background", "accessory")
    return {name: value for name in named if (value := getattr(spec, name)) != "none"}
