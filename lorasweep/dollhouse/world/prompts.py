"""Prompt sets for judging an adapter: what it saw, what it must recombine, what it must not touch.

Takes a subject's trigger and returns prompts; every draw comes from an explicit seed. Knows nothing about
sampling.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Final, TypeVar

import numpy as np

from lorasweep.dollhouse.world.dataset import Captions, caption_tags, sample_subject_spec
from lorasweep.dollhouse.world.spec import Spec, sample_spec, tags
from lorasweep.dollhouse.world.subjects import SUBJECTS, Subject

TRIES: Final = 100  # draws in a row that bring nothing new, before there is nothing new
Drawn = TypeVar("Drawn")


def _recombined(rng: np.random.Generator, subject: Subject) -> Spec:
    """Draw a picture whose outfit, colour, background and pose the subject's datasets never show."""
    fixed = {name: str(rng.choice(subject.reserved[name])) for name in ("outfit", "outfit_color", "background", "pose")}
    return sample_spec(rng, fixed=subject.fixed | fixed | {"accessory": "none"})


def _class(rng: np.random.Generator, subject: Subject) -> Spec:
    """Draw somebody else of the class: no trait in common with the subject, no marks."""
    while True:
        spec = sample_spec(rng)
        if all(getattr(spec, name) != value for name, value in subject.traits.items()):
            return spec


def _distinct(drawn: Sequence[Drawn], more: Callable[[], Drawn], says: Callable[[Drawn], Hashable]) -> list[Drawn]:
    """As many that all say something else, or fewer when nothing new comes."""
    found: dict[Hashable, Drawn] = {}
    for one in drawn:
        found.setdefault(says(one), one)
    tries = 0
    while len(found) < len(drawn) and tries < TRIES:
        another = more()
        tries = tries + 1 if says(another) in found else 0
        found.setdefault(says(another), another)
    return list(found.values())


def _text(spec: Spec) -> str:
    return ", ".join(tags(spec))


def prompt_specs(subject: str, *, count: int = 8, seed: int = 0) -> dict[str, list[Spec]]:
    """Return what each prompt of `prompts` asks to see, in order; "unrelated" has no specs.

    No prompt comes twice, so a subject may have fewer to recombine than `count`: its reserved values are few. An
    unknown subject is a ValueError.
    """
    if subject not in SUBJECTS:
        raise ValueError(f"subject must be one of {sorted(SUBJECTS)}, got {subject!r}")
    chosen = SUBJECTS[subject]
    rng = np.random.default_rng([seed, 1])
    kinds: dict[str, Callable[[], Spec]] = {
        "in_distribution": lambda: sample_subject_spec(rng, chosen),
        "recombined": lambda: _recombined(rng, chosen),
        "class": lambda: _class(rng, chosen),
    }
    drawn = {name: [draw() for _ in range(count)] for name, draw in kinds.items()}
    return {name: _distinct(drawn[name], draw, _text) for name, draw in kinds.items()}


def prompts(subject: str, *, count: int = 8, seed: int = 0, captions: Captions = "absorbed") -> dict[str, list[str]]:
    """Return up to `count` different prompts a set for judging an adapter of a subject; `seed` decides every draw.

    The triggered ones follow how the adapter's dataset was captioned.

    Returns:
        "in_distribution": the trigger with values its datasets show; "recombined": the trigger with values
        they never show; "class": another doll, fully described, without the trigger; "unrelated": scenes of
        which only the background is named.

    Raises:
        ValueError: the subject is unknown.
    """
    specs = prompt_specs(subject, count=count, seed=seed)
    chosen = SUBJECTS[subject]
    triggered = {
        name: [", ".join(caption_tags(spec, chosen, captions=captions)) for spec in specs[name]]
        for name in ("in_distribution", "recombined")
    }
    rng = np.random.default_rng([seed, 2])
    places = [sample_spec(rng).background for _ in range(count)]
    return triggered | {
        "class": [_text(spec) for spec in specs["class"]],
        "unrelated": _distinct(places, lambda: sample_spec(rng).background, str),
    }
