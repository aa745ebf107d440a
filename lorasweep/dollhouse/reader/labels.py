"""What the reader reads: the classes of every head, as plain tables."""

from __future__ import annotations

from typing import Final

from lorasweep.dollhouse.world.attributes import ATTRIBUTES, FACE_MARKS, HEAD_MARKS, MARK_COLORS, NO_MARK
from lorasweep.dollhouse.world.spec import Spec

HEADS: Final[dict[str, tuple[str, ...]]] = {
    **ATTRIBUTES,
    "head_mark": (NO_MARK, *HEAD_MARKS),
    "face_mark": (NO_MARK, *FACE_MARKS),
    "mark_color": (NO_MARK, *MARK_COLORS),
}
"""Classes by head: every captioned attribute, then the identity marks."""


def class_indices(specs: list[Spec]) -> dict[str, list[int]]:
    """Return, for every head, the class of each spec."""
    return {name: [classes.index(getattr(spec, name)) for spec in specs] for name, classes in HEADS.items()}
