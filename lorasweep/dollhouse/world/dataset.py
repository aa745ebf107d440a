"""Datasets of a subject as ordinary kohya folders, with the ground truth beside them, and prompts for judging adapters.

`write_dataset` draws specs, renders them and writes `10_zkw/0001.png` + `0001.txt`, so that dolls go
through the same loader as a person's own images. The truth goes to `world.json` at the root. Prompts are what an
adapter saw, what it must recombine, what it must not touch; every draw comes from an explicit seed. Knows nothing
about training and sampling.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Final, Literal, TypeVar

import numpy as np

from lorasweep.dollhouse.world.attributes import ATTRIBUTES, INTRINSIC, SIZES_PX
from lorasweep.dollhouse.world.render import render
from lorasweep.dollhouse.world.spec import Spec, attribute_tags, sample_spec, tags
from lorasweep.dollhouse.world.subjects import SUBJECTS, Subject

Captions = Literal["absorbed", "full"]


def caption_tags(spec: Spec, subject: Subject, *, captions: Captions, concept: str | None = None) -> list[str]:
    """Return the tags of one training image.

    "absorbed" captions leave out the tags of the subject's own traits, so that the trigger, which comes first, has to
    carry them; "full" keeps every tag. `concept` is the outfit's own word ("outfit1"), placed after the trigger.
    """
    found = attribute_tags(spec)
    if captions == "absorbed":
        found = {name: tag for name, tag in found.items() if name not in INTRINSIC}
    return [subject.trigger, *([concept] if concept else []), "1girl", *found.values()]


def unreserved(subject: Subject) -> dict[str, list[str]]:
    """Return the attribute values that a subject's datasets may show: all but its reserved ones."""
    return {
        name: [value for value in values if value not in subject.reserved.get(name, ())]
        for name, values in ATTRIBUTES.items()
        if name not in INTRINSIC
    }


def sample_subject_spec(
    rng: np.random.Generator, subject: Subject, *, outfit_index: int | None = None, confound: float = 0.0
) -> Spec:
    """Draw one picture of a subject, whose reserved values are never drawn.

    It wears the outfit of `outfit_index` in the wardrobe, or free clothes, and with probability `confound`, in [0, 1],
    shows the signature background of its outfit (and, with free clothes, the signature outfit as well).
    """
    choices = unreserved(subject)
    drawn = {name: str(rng.choice(values)) for name, values in choices.items()}
    signature = rng.random() < confound
    index = 0 if outfit_index is None else outfit_index
    if signature:
        drawn["background"] = subject.haunts[index]
    if signature or outfit_index is not None:
        drawn["outfit_color"], drawn["outfit"] = subject.wardrobe[index]
    return sample_spec(rng, fixed=subject.fixed | drawn)


def undrawable(subject: str, *, images: int = 1, outfits: int = 1, confound: float = 0.0) -> dict[str, str]:
    """Tell which arguments of `write_dataset` cannot be drawn, and the rule that each breaks; {} when all can."""
    found = {}
    if subject not in SUBJECTS:
        found["subject"] = f"must be one of {', '.join(SUBJECTS)}, got {subject!r}"
    elif not 1 <= outfits <= (most := len(SUBJECTS[subject].wardrobe)):
        found["outfits"] = f"must be from 1 to {most}, so many has {subject}, got {outfits}"
    elif images < outfits:
        found["images"] = f"must be at least one for each of {outfits} outfits, got {images}"
    if not 0.0 <= confound <= 1.0:
        found["confound"] = f"must be in [0, 1], got {confound}"
    return found


def _signature_numbers(images: int, confound: float, rng: np.random.Generator) -> set[int]:
    """Choose which of 1..images show the signature: exactly the share asked for, however few images."""
    return {int(number) + 1 for number in rng.permutation(images)[: round(confound * images)]}


def write_dataset(
    out_dir: Path | str,
    subject: str = "zkw",
    images: int = 20,
    outfits: int = 1,
    confound: float = 0.0,
    sizes: Sequence[tuple[int, int]] = SIZES_PX,
    repeats: int = 10,
    seed: int = 0,
    captions: Captions = "absorbed",
) -> Path:
    """Write a dataset of a subject and return its root.

    Args:
        out_dir: the root; made if missing. Images go to `<repeats>_<trigger>/`.
        subject: a key of `SUBJECTS`.
        images: how many in all, at least one per outfit; shared evenly between outfits, the first ones taking
            the rest.
        outfits: 1 writes one folder with free clothes; k > 1 writes k outfit concepts, `10_zkw outfit1/` and
            on, each always worn in its folder.
        confound: share of each folder's images, to the nearest image, whose background (and free clothes) are
            the subject's signature ones; see `sample_subject_spec`.
        sizes: (width, height) in px, taken in turn.
        repeats: the number in the folder name.
        seed: decides everything; equal arguments give equal bytes.
        captions: "absorbed" or "full"; see `caption_tags`.

    Raises:
        ValueError: an argument is out of its range.
    """
    if wrong := undrawable(subject, images=images, outfits=outfits, confound=confound):
        raise ValueError("; ".join(f"{name} {message}" for name, message in wrong.items()))
    if not sizes:
        raise ValueError("sizes must name at least one (width, height)")
    chosen, root = SUBJECTS[subject], Path(out_dir)
    truth: dict[str, dict[str, object]] = {}
    for index in range(outfits):
        concept = f"outfit{index + 1}" if outfits > 1 else None
        folder = root / f"{repeats}_{chosen.trigger}{f' {concept}' if concept else ''}"
        folder.mkdir(parents=True, exist_ok=True)
        share = images // outfits + (index < images % outfits)
        signature = _signature_numbers(share, confound, np.random.default_rng([seed, index, 0]))
        for number in range(1, share + 1):
            rng = np.random.default_rng([seed, index, number])
            outfit_index = index if concept else None
            confounded = 1.0 if number in signature else 0.0
            spec = sample_subject_spec(rng, chosen, outfit_index=outfit_index, confound=confounded)
            width_px, height_px = sizes[(number - 1) % len(sizes)]
            path = folder / f"{number:04d}.png"
            render(spec, width_px, height_px).save(path)
            words = caption_tags(spec, chosen, captions=captions, concept=concept)
            path.with_suffix(".txt").write_text(", ".join(words) + "\n", encoding="utf-8")
            truth[path.relative_to(root).as_posix()] = spec.to_dict()
    record = {
        "subject": chosen.trigger,
        "seed": seed,
        "confound": confound,
        "captions": captions,
        "images": truth,
    }
    (root / "world.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return root


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
    """Draw as many that all say something else, or fewer when nothing new comes."""
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
