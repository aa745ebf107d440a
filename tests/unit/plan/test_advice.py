from __future__ import annotations

import re
from pathlib import Path

import pytest

from lorasweep.config import compose_recipe
from lorasweep.plan import make_plan


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["adapter=lokr", "optimizer.lr=1e-4"], ["optimizer.lr=0.0001 is over 8e-05 with lokr"]),
        (["adapter=lokr", "optimizer.lr=4e-5"], ["optimizer.lr=4e-05 is below 5e-05 with lokr"]),
        (["adapter=lokr", "optimizer.lr=8e-5"], []),
        (["adapter=lokr", "optimizer=prodigy", "adapter.dim=48"], ["adapter.dim=48 is over 32 with lokr"]),
        (["adapter=loha", "adapter.dim=33"], ["adapter.dim=33 is over 32 with loha"]),
        (["adapter=ia3", "optimizer.lr=1e-4"], ["optimizer.lr=0.0001 is below 0.005 with ia3"]),
        (["adapter=ia3", "optimizer=prodigy"], []),
        (["adapter=lora", "adapter.dim=128"], []),
        (["optimizer=lion"], []),
        (["optimizer=lion", "optimizer.lr=3e-4"], ["optimizer.lr=0.0003 is over 0.0001 with lion"]),
    ],
    ids=str,
)
def test_leaving_an_advised_range_is_a_warning_with_a_reason(
    home: Path, overrides: list[str], expected: list[str]
) -> None:
    warnings = make_plan(compose_recipe(overrides)).warnings
    found = [warning for warning in warnings if re.match(r"\S+=\S+ is (over|below) \S+ with", warning)]
    assert [warning.split(":")[0] for warning in found] == expected
    assert all(len(warning.split(": ")[1]) > 20 for warning in found)


def test_a_real_base_in_fp32_is_told_unless_it_trains_on_the_cpu(home: Path, on_tiny_sd: list[str]) -> None:
    def told(*words: str, resolution: int = 512) -> bool:
        found = make_plan(compose_recipe([*on_tiny_sd[:2], f"base.resolution={resolution}", *words])).warnings
        return any(warning.startswith("train.precision=fp32") for warning in found)

    assert told()
    assert not told("train.precision=bf16") and not told("train.device=cpu") and not told(resolution=256)
