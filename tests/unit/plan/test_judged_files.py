"""The order in which files were saved, by what their trainers write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorasweep.core.errors import Problem
from lorasweep.plan.lora_files import Ordered, order

MODULE = "lora_unet_mid_block_attentions_0_proj_in"


def lora(path: Path, **metadata: str) -> Path:
    """Write a LoRA of one module."""
    path.parent.mkdir(parents=True, exist_ok=True)
    down, up = np.ones((2, 8), "f4"), np.ones((8, 2), "f4")
    save_file({f"{MODULE}.lora_down.weight": down, f"{MODULE}.lora_up.weight": up}, path, metadata=metadata)
    return path


@pytest.mark.parametrize(
    ("names", "steps", "unit"),
    [
        (["my-000004", "my-000002", "my"], (2, 4, 6), "epochs"),
        (["my_e4", "my-epoch2"], (2, 4), "epochs"),
        (["my-step00001000", "my-step00000500"], (500, 1000), "steps"),
        (["my_000000500", "my_000001000"], (500, 1000), "steps"),
        (["checkpoint-500/pytorch_lora_weights", "checkpoint-50/pytorch_lora_weights"], (50, 500), "steps"),
        (["step_000020/adapter", "step_000010/adapter"], (10, 20), "steps"),
        (["alone"], (1,), "steps"),
    ],
)
def test_names_tell_the_order(tmp_path: Path, names: list[str], steps: tuple[int, ...], unit: str) -> None:
    found = order([lora(tmp_path / f"{name}.safetensors") for name in names])
    assert isinstance(found, Ordered)
    assert (found.steps, found.unit) == (steps, unit)


def test_metadata_wins_over_names(tmp_path: Path) -> None:
    late = lora(tmp_path / "a-000001.safetensors", ss_steps="900", ss_epoch="9")
    early = lora(tmp_path / "a-000002.safetensors", ss_steps="300", ss_epoch="3")
    assert order([late, early]) == Ordered((early, late), (300, 900), "steps")


def test_no_order_is_a_problem_unless_steps_are_given(tmp_path: Path) -> None:
    files = [lora(tmp_path / f"{name}.safetensors") for name in ("good", "better")]
    assert isinstance(order(files), Problem)
    assert order(files, steps=[200, 100]) == Ordered((files[1], files[0]), (100, 200), "steps")
    assert isinstance(order(files, steps=[100]), Problem)
    rates = [lora(tmp_path / f"lr_{name}.safetensors") for name in ("1e4", "1e5")]
    assert isinstance(order(rates), Problem), "rates are no epochs"


def test_two_files_of_one_step_are_never_two_steps(tmp_path: Path) -> None:
    """As `export` leaves them: the kept step once more, in another form."""
    steps = {"a-000160": "160", "a-000320": "320", "a-000320-diff": "320"}
    files = [lora(tmp_path / f"{name}.safetensors", ss_steps=step) for name, step in steps.items()]
    found = order(files)
    assert isinstance(found, Problem)
    assert (
        found.message == "several files say that they are of step 320: a-000320.safetensors, a-000320-diff.safetensors"
    )
    assert order(files, steps=[1, 2, 3]) == Ordered(tuple(files), (1, 2, 3), "steps")
    alike = [lora(tmp_path / f"b-00000{epoch}.safetensors", ss_steps="500") for epoch in (1, 2)]  # of the training
    assert order(alike) == Ordered(tuple(alike), (1, 2), "epochs")
