"""Records that another version wrote, or somebody edited, are told in words or read as absent: no traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from sweep_folders import Cooked, write_sweep

from lorasweep.cli import main
from lorasweep.core import files

RUN = "0000-a-s0"
CHANGES: list[tuple[str, dict[str, Any]]] = [
    (f"{RUN}/status.json", {"measured": None}),
    (f"{RUN}/status.json", {"step": "80"}),
    (f"{RUN}/metrics.json", {"metrics": {"overcook/utility": "0.5"}}),
    (f"{RUN}/metrics.json", {"rungs": [{"step": 1}]}),
    (f"{RUN}/metrics.json", {"step": "abc", "verdict": {"unmeasured": 3}}),
    (f"{RUN}/recipe.yaml", {"train": None, "adapter": None}),
    ("sweep.yaml", {"total": "5"}),
    ("sweep.yaml", {"metric": 3}),
    ("sweep.yaml", {"arms": None}),
]


@pytest.mark.parametrize(("name", "change"), CHANGES)
def test_no_command_breaks(name: str, change: dict[str, Any], home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_sweep(home / "outputs" / "mine", [Cooked(arm="a", pictures=False), Cooked(arm="b", pictures=False)])
    record = yaml.safe_load((folder / name).read_text(encoding="utf-8")) | change
    files.write_text(folder / name, yaml.safe_dump(record))
    if name.endswith(".json"):
        files.write_json(folder / name, record)
    refused = 2 if name == "sweep.yaml" else 0
    for words in (["status", "mine"], ["status", "mine", "--json"], ["report", "mine"]):
        assert main(words) == refused, words
    assert ("is not a sweep's manifest" in capsys.readouterr().err) == bool(refused)
    assert main(["export", "mine/0"]) == 2, "it has no adapter"


@pytest.mark.parametrize("left", ["", "base:", "train:\nadapter:", "a: 1", "[1, 2]", None])
def test_a_recipe_that_was_cut_or_lost_is_told_in_words(
    left: str | None, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_sweep(home / "outputs" / "mine", [Cooked(arm="a", pictures=False)]) / RUN / "recipe.yaml"
    recipe.unlink() if left is None else recipe.write_text(left, encoding="utf-8")
    assert main(["export", "mine/0"]) == 2
    told = capsys.readouterr().err.partition("its recipe cannot be read")[2]
    assert "the command that trained it writes it anew" in told
    assert not any(word in told for word in ("Error", "Errno", "NoneType", "argument")), told
