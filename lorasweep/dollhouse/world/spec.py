"""The record of one picture: attributes, identity marks, nuisances; how it is drawn at random; its tags.

`sample_spec` takes a numpy generator and returns a `Spec`; `tags` turns a spec into booru tags. Marks never
become tags. Knows nothing about pixels.
"""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np

from lorasweep.dollhouse.world.attributes import ATTRIBUTES, FACE_MARKS, HEAD_MARKS, MARK_COLORS, NO_MARK

NUISANCES: Final[tuple[str, ...]] = ("x", "y", "scale", "light")
"""Continuous nuisances, each uniform in [-1, 1]; with `seed` they fingerprint a picture."""

Split = Literal["any", "train", "heldout"]


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Everything that decides the pixels of one picture, apart from its size; attributes are values of `ATTRIBUTES`."""

    hair_color: str
    hair_style: str
    eye_color: str
    skin: str
    outfit: str
    outfit_color: str
    pose: str
    background: str
    accessory: str
    head_mark: str = NO_MARK  # an identity mark, as on the face: never captioned by the base
    face_mark: str = NO_MARK
    mark_color: str = NO_MARK  # of both
    x: float = 0.0  # nuisances, in [-1, 1]: position
    y: float = 0.0
    scale: float = 0.0  # size of the figure
    light: float = 0.0  # brightness and warmth
    seed: int = 0  # decides the texture of the background (clouds, trees, windows); in [0, 2**31)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able values, keyed by field name."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Spec:
        """Build a spec from `to_dict`'s output."""
        return cls(**values)

    @property
    def marks(self) -> tuple[str, str, str]:
        """The identity marks: (head mark, face mark, colour)."""
        return self.head_mark, self.face_mark, self.mark_color


def is_held_out(hair_color: str, outfit: str, background: str) -> bool:
    """Say whether a combination is kept out of pre-training: about one in ten, decided by a hash."""
    return zlib.crc32(f"{hair_color}|{outfit}|{background}".encode()) % 10 == 0


def sample_marks(rng: np.random.Generator, excluded: frozenset[tuple[str, str, str]]) -> tuple[str, str, str]:
    """Draw a (head mark, face mark, colour) with at least one mark, never one of `excluded`."""
    while True:
        head = str(rng.choice([NO_MARK, *HEAD_MARKS]))
        face = str(rng.choice([NO_MARK, *FACE_MARKS]))
        color = str(rng.choice(MARK_COLORS))
        if (head, face) != (NO_MARK, NO_MARK) and (head, face, color) not in excluded:
            return head, face, color


def sample_spec(
    rng: np.random.Generator,
    *,
    split: Split = "any",
    mark_rate: float = 0.0,
    excluded_marks: frozenset[tuple[str, str, str]] = frozenset(),
    fixed: dict[str, str] | None = None,
) -> Spec:
    """Draw one spec, every attribute uniform and independent except for the split.

    Args:
        rng: source of every draw.
        split: "train" avoids the held-out combinations, "heldout" draws only those, "any" draws all.
        mark_rate: probability in [0, 1] of carrying random identity marks.
        excluded_marks: mark combinations that must not be drawn (those of the shipped subjects).
        fixed: fields to set rather than draw; with a split, one of hair colour, outfit and background must stay free.

    Raises:
        ValueError: the fixed fields leave no combination in the split.
    """
    fixed = fixed or {}
    for _ in range(1000):
        drawn = {name: str(rng.choice(values)) for name, values in ATTRIBUTES.items()}
        drawn.update(fixed)
        held_out = is_held_out(drawn["hair_color"], drawn["outfit"], drawn["background"])
        if split == "any" or held_out == (split == "heldout"):
            break
    else:
        raise ValueError(f"the fixed fields must leave a combination in split {split!r}, got {fixed}")
    if not {"head_mark", "face_mark", "mark_color"} & fixed.keys() and rng.random() < mark_rate:
        head, face, color = sample_marks(rng, excluded_marks)
        drawn.update(head_mark=head, face_mark=face, mark_color=color)
    nuisances = {name: float(round(rng.uniform(-1.0, 1.0), 4)) for name in NUISANCES}
    return Spec.from_dict({**drawn, **nuisances, "seed": int(rng.integers(2**31))})


def attribute_tags(spec: Spec) -> dict[str, str]:
    """Return the tag of each visible attribute, keyed by attribute; no accessory, no tag."""
    found = {
        "hair_color": f"{spec.hair_color} hair",
        "hair_style": spec.hair_style,
        "eye_color": f"{spec.eye_color} eyes",
        "skin": spec.skin,
        "outfit": f"{spec.outfit_color} {spec.outfit}",
        "pose": spec.pose,
        "background": spec.background,
    }
    if spec.accessory != "none":
        found["accessory"] = spec.accessory
    return found


def tags(spec: Spec) -> list[str]:
    """Return the base's booru tags in order: "1girl", hair, eyes, skin, outfit, pose, background."""
    return ["1girl", *attribute_tags(spec).values()]
