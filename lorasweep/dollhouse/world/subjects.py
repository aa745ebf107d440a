"""The characters that LoRAs are trained on: fixed traits, identity marks, a trigger word, a wardrobe.

A subject's mark combination is held out of pre-training entirely, so that its identity can only come from an
adapter. Plain data; knows nothing about drawing or files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from lorasweep.dollhouse.world.attributes import INTRINSIC
from lorasweep.dollhouse.world.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One character.

    Attributes:
        trigger: the word that calls it; not in the base's vocabulary, so it tokenises into pieces.
        hair_color, hair_style, eye_color, skin: its fixed traits.
        head_mark, face_mark, mark_color: its identity marks.
        wardrobe: signature (outfit colour, outfit) pairs, the first being its usual clothes.
        haunts: the background that goes with each outfit of the wardrobe when the two are confounded.
        reserved: attribute values that its datasets never show, for prompts that recombine.
    """

    trigger: str
    hair_color: str
    hair_style: str
    eye_color: str
    skin: str
    head_mark: str
    face_mark: str
    mark_color: str
    wardrobe: tuple[tuple[str, str], ...]
    haunts: tuple[str, ...]
    reserved: dict[str, tuple[str, ...]] = field(hash=False)

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


_ALL: Final[tuple[Subject, ...]] = (
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

SUBJECTS: Final[dict[str, Subject]] = {subject.trigger: subject for subject in _ALL}
"""The shipped subjects by trigger word."""

SUBJECT_MARKS: Final[frozenset[tuple[str, str, str]]] = frozenset(subject.marks for subject in _ALL)
"""Mark combinations that pre-training must never draw."""
