"""What `benchmarks/memory.py` counts is what the families say that a pass holds at once.

python -m pytest -m slow tests/unit/plan/test_memory_held.py    (all families; 4 min)
"""

from __future__ import annotations

import pytest

from benchmarks import memory
from lorasweep.components.bases._families import FAMILIES

KEPT = {family.name: family.kept for family in FAMILIES}
WAYS = {}, {"gradient_checkpointing": True}, {"trained": False}


def test_stable_diffusion_holds_what_is_counted() -> None:
    held = memory.bytes_held(memory.SHAPES_OF["stable_diffusion"][0], precision="bf16", gradient_checkpointing=True)
    assert round(held, -3) == KEPT["stable_diffusion"][0][2]


@pytest.mark.slow
@pytest.mark.parametrize("name", memory.SHAPES_OF)
def test_a_family_holds_what_is_counted(name: str) -> None:
    for shape, (_, *said) in zip(memory.SHAPES_OF[name], KEPT[name], strict=True):
        assert [round(memory.bytes_held(shape, precision="bf16", **how), -3) for how in WAYS] == said
