"""The characters that LoRAs are trained on: fixed traits, identity marks, a trigger word, a wardrobe.

Four are made by hand, and their mark combinations are held out of pre-training entirely, so that their identity
can only come from an adapter. Four more are drawn by a seeded rule, for claims that nobody's choice had a say in;
a base may have seen their marks, on any doll and never named. Plain data; knows nothing about drawing or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from lorasweep.dollhouse.world.attributes import ATTRIBUTES, FACE_MARKS, HEAD_MARKS, INTRINSIC, MARK_COLORS
from lorasweep.dollhouse.world.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One character: its traits and marks are the same in all of its pictures."""

    trigger: str  # the word that calls it; not in the base's vocabulary, so it tokenises into pieces
    hair_color: str
    hair_style: str
    eye_color: str
    skin: str
    head_mark: str
    face_mark: str
    mark_color: str
    wardrobe: tuple[tuple[str, str], ...]  # signature (outfit colour, outfit) pairs, the first being its usual clothes
    haunts: tuple[str, ...]  # the background that goes with each outfit of the wardrobe when the two are confounded
    reserved: dict[str, tuple[str, ...]] = field(hash=False)  # values that its datasets never show, to recombine

    @property
    def traits(self) -> dict[str, str]:
        """The intrinsic attributes and their values."""
        return {name: getattr(self, name) for name in INTRINSIC}

    @property
    def marks(self) -> tuple[str, str, str]:
        """The identity marks: (head mark, face mark, colour)."""
        return self.head_mark, self.face_mark, self.mark_color

    @property
    def fixed(self) -> dict[str, str]:
        """Every spec field that is the same in all of its pictures."""
        return self.traits | dict(zip(("head_mark", "face_mark", "mark_color"), self.marks, strict=True))

    def matches(self, spec: Spec) -> bool:
        """Say whether a spec shows this subject."""
        return all(getattr(spec, name) == value for name, value in self.fixed.items())


_BY_HAND: Final[tuple[Subject, ...]] = (
    Subject(
        trigger="zkw",
        hair_color="white",
        hair_style="twintails",
        eye_color="red",
        skin="dark skin",
        head_mark="horns",
        face_mark="star",
        mark_color="cyan",
        wardrobe=(("black", "coat"), ("red", "dress"), ("purple", "kimono"), ("white", "armor")),
        haunts=("night sky", "city", "forest", "snow"),
        reserved={
            "outfit": ("shirt",),
            "outfit_color": ("yellow", "green"),
            "background": ("beach",),
            "pose": ("arms up",),
            "accessory": ("scarf",),
        },
    ),
    Subject(
        trigger="mona taco",
        hair_color="pink",
        hair_style="bob cut",
        eye_color="green",
        skin="pale skin",
        head_mark="cat ears",
        face_mark="heart",
        mark_color="magenta",
        wardrobe=(("yellow", "shirt"), ("white", "dress"), ("blue", "coat"), ("red", "kimono")),
        haunts=("beach", "city", "snow", "forest"),
        reserved={
            "outfit": ("armor",),
            "outfit_color": ("black", "purple"),
            "background": ("night sky",),
            "pose": ("outstretched arms",),
            "accessory": ("glasses",),
        },
    ),
    Subject(
        trigger="vqx",
        hair_color="green",
        hair_style="ponytail",
        eye_color="yellow",
        skin="tan",
        head_mark="antenna",
        face_mark="scar",
        mark_color="lime",
        wardrobe=(("blue", "armor"), ("green", "shirt"), ("white", "kimono"), ("black", "dress")),
        haunts=("city", "forest", "snow", "night sky"),
        reserved={
            "outfit": ("coat",),
            "outfit_color": ("red", "yellow"),
            "background": ("simple background",),
            "pose": ("waving",),
            "accessory": ("hat",),
        },
    ),
    Subject(
        trigger="ohru",
        hair_color="black",
        hair_style="long hair",
        eye_color="purple",
        skin="pale skin",
        head_mark="halo",
        face_mark="tear",
        mark_color="gold",
        wardrobe=(("white", "kimono"), ("purple", "dress"), ("red", "coat"), ("black", "armor")),
        haunts=("snow", "night sky", "city", "beach"),
        reserved={
            "outfit": ("shirt",),
            "outfit_color": ("blue", "green"),
            "background": ("forest",),
            "pose": ("arms up",),
            "accessory": ("glasses",),
        },
    ),
)

SUBJECT_MARKS: Final[frozenset[tuple[str, str, str]]] = frozenset(subject.marks for subject in _BY_HAND)
"""Mark combinations that pre-training must never draw."""

CONSONANTS: Final = tuple("bcdfghjklmnpqrstvwxz")  # no word of the world is made of them alone


def draw_subjects(rng: np.random.Generator, count: int) -> tuple[Subject, ...]:
    """Draw characters whose traits and marks are dealt out without repeats as far as there are values.

    Wardrobe, haunts and what is reserved are uniform and share no value.
    """
    looks = {name: ATTRIBUTES[name] for name in INTRINSIC}
    looks |= {"head_mark": HEAD_MARKS, "face_mark": FACE_MARKS, "mark_color": MARK_COLORS}
    dealt = {name: _some(rng, values, len(values)) for name, values in looks.items()}
    return tuple(
        _dressed(rng, {name: values[place % len(values)] for name, values in dealt.items()}) for place in range(count)
    )


def _dressed(rng: np.random.Generator, look: dict[str, str]) -> Subject:
    outfits, backgrounds = (_some(rng, ATTRIBUTES[name], 5) for name in ("outfit", "background"))
    colors = _some(rng, ATTRIBUTES["outfit_color"], 6)
    return Subject(
        trigger="".join(rng.choice(CONSONANTS, size=3)),
        **look,
        wardrobe=tuple(zip(colors[:4], outfits[:4], strict=True)),
        haunts=backgrounds[:4],
        reserved={
            "outfit": outfits[4:],
            "outfit_color": colors[4:],
            "background": backgrounds[4:],
            "pose": _some(rng, ATTRIBUTES["pose"][1:], 1),
            "accessory": _some(rng, ATTRIBUTES["accessory"][1:], 1),
        },
    )


def _some(rng: np.random.Generator, values: Sequence[str], count: int) -> tuple[str, ...]:
    return tuple(str(value) for value in rng.choice(values, size=count, replace=False))


_DRAWN: Final = draw_subjects(np.random.default_rng(0), 4)

SUBJECTS: Final[dict[str, Subject]] = {subject.trigger: subject for subject in (*_BY_HAND, *_DRAWN)}
"""The shipped subjects by trigger word, those made by hand first."""
