"""Prompt sets for judging an adapter: what it saw, what it must recombine, what it must not touch.

Takes a subject's trigger and returns prompts; every draw comes from an explicit seed. Knows nothing about
sampling.
"""

from __future__ import annotations

import numpy as np

from lorasweep.dollhouse.world.dataset import Captions, caption_tags, sample_subject_spec
from lorasweep.dollhouse.world.spec import Spec, sample_spec, tags
from lorasweep.dollhouse.world.subjects import SUBJECTS, Subject


def _recombined(rng: np.random.Generator, subject: Subject) -> Spec:
    """Draw a picture whose outfit, colour, background and pose the subject's datasets never show."""
    fixed = {
        name: str(rng.choice(subject.reserved[name]))
        for name in ("outfit", "outfit_color", "background", "pose")
    }
    return sample_spec(rng, fixed=subject.fixed | fixed | {"accessory": "none"})


def _class(rng: np.random.Generator, subject: Subject) -> Spec:
    """Draw somebody else of the class: no trait in common with the subject, no marks."""
    while True:
        spec = sample_spec(rng)
        if all(getattr(spec, name) != value for name, value in subject.traits.items()):
            return spec


def prompt_specs(subject: str, *, count: int = 8, seed: int = 0) -> dict[str, list[Spec]]:
    """Return what each prompt of `prompts` asks to see, in order; "unrelated" has no specs.

    Raises:
        ValueError: the subject is unknown.
    """
    if subject not in SUBJECTS:
        raise ValueError(f"subject must be one of {sorted(SUBJECTS)}, got {subject!r}")
    chosen = SUBJECTS[subject]
    rng = np.random.default_rng([seed, 1])
    return {
        "in_distribution": [sample_subject_spec(rng, chosen) for _ in range(count)],
        "recombined": [_recombined(rng, chosen) for _ in range(count)],
        "class": [_class(rng, chosen) for _ in range(count)],
    }


def prompts(
    subject: str, *, count: int = 8, seed: int = 0, captions: Captions = "absorbed"
) -> dict[str, list[str]]:
    """Return prompts for judging an adapter of a subject.

    Args:
        subject: a key of `SUBJECTS`.
        count: prompts per set; >= 1.
        seed: decides every draw.
        captions: how the adapter's dataset was captioned; the triggered prompts follow it.

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
    return triggered | {
        "class": [", ".join(tags(spec)) for spec in specs["class"]],
        "unrelated": [sample_spec(rng).background for _ in range(count)],
    }
