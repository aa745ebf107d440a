"""The same again? To the bit, or what differs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorasweep.core import files
from lorasweep.results.report.compare import compare_runs


def run(folder: Path, *, weight: float = 0.5, score: float = 0.2, torch: str = "2.13.0") -> Path:
    folder.mkdir()
    save_file({"a": np.full((2, 2), weight, np.float32)}, folder / "adapter.safetensors")
    files.write_json(folder / "metrics.json", {"metrics": {"overcook/score": score, "identity/score": 0.5}})
    files.write_json(folder / "provenance.json", {"libraries": {"torch": torch}, "compute": {"threads": 1}})
    return folder


def test_equal_runs_are_the_same_to_the_bit(tmp_path: Path) -> None:
    found = compare_runs(run(tmp_path / "a"), run(tmp_path / "b"))

    assert found.same and found.sentence() == "It came out the same, to the bit." and not list(found.details())


def test_what_differs_is_measured_and_the_suspects_are_named(tmp_path: Path) -> None:
    found = compare_runs(run(tmp_path / "a"), run(tmp_path / "b", weight=0.75, score=0.3, torch="2.7.0"))

    assert not found.same and found.largest == pytest.approx(0.25)
    assert found.metrics == {"overcook/score": (0.2, 0.3)}
    assert found.provenance == {"libraries.torch": ("2.13.0", "2.7.0")}
    assert "libraries.torch: 2.13.0 -> 2.7.0" in "\n".join(found.details())


def test_an_unexplained_difference_is_said_to_be_one(tmp_path: Path) -> None:
    found = compare_runs(run(tmp_path / "a"), run(tmp_path / "b", weight=0.5001))

    assert "not deterministic" in "\n".join(found.details())


def test_without_an_adapter_the_metrics_decide(tmp_path: Path) -> None:
    one, other = run(tmp_path / "a"), run(tmp_path / "b", score=0.3)
    (one / "adapter.safetensors").unlink()

    assert not compare_runs(one, other).same
    assert compare_runs(one, one).sentence() == "Every metric is the same."
