"""Import of files that lorasweep exported: the recipe in their headers, which they keep without paths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorasweep import compose
from lorasweep.cli import main
from lorasweep.core.records import NOT_THE_RECIPE, Recipe, to_dict
from lorasweep.data.tree import OWN_MASKS

FOLDERS = {
    **{"dataset.path": "zkw", "dataset.masks": "zkw_masks", "dataset.holdout_path": "zkw_held"},
    **{"regularization.reg_images.path": "girls", "base.path": "tiny_sd"},
}


@pytest.fixture
def words(home: Path, tiny_sd: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(home)
    for folder in FOLDERS.values():
        (home / folder).mkdir()
    (home / "tiny_sd").rmdir()
    (home / "tiny_sd").symlink_to(tiny_sd, target_is_directory=True)
    return [f"{key}={folder}" for key, folder in FOLDERS.items()]


def kept(*words: str) -> dict[str, Any]:
    picked = ["base=stable_diffusion", "dataset=folder", "regularization=[reg_images,ema]", "optimizer=prodigy"]
    return without(compose(*picked, "seed=3", *words))


def without(recipe: Recipe) -> dict[str, Any]:
    return {key: value for key, value in to_dict(recipe).items() if key not in NOT_THE_RECIPE}


def exported(data: dict[str, Any]) -> str:
    save_file({"x": np.zeros(2, "float32")}, "zkw.safetensors", metadata={"lorasweep.recipe": json.dumps(data)})
    return "zkw.safetensors"


def test_what_it_was_made_from_is_to_be_given(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    file = exported(kept(*words) | {"calibration": "limits.json"})
    assert main(["import", file, "--json", "--out", "zkw.yaml"]) == 0
    found = json.loads(capsys.readouterr().out)
    given = {note["option"]: note["value"] for note in found["untranslated"]}
    assert set(found["to_give"]) == given.keys() and given == FOLDERS | {"calibration": "limits.json"}
    assert not found["not_here"] and not found["differs"] and not found["left_out"]
    assert without(compose("zkw.yaml", *words, "calibration=null")) == kept(*words)


@pytest.mark.parametrize("masks", OWN_MASKS)
def test_masks_that_are_no_folder_stay(masks: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    given = [word for word in words if "masks" not in word]
    assert main(["import", exported(kept(*given, f"dataset.masks={masks}")), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["recipe"]["dataset.masks"] == masks and "dataset.masks" not in found["not_here"]


@pytest.mark.parametrize(
    "changed",
    [{"optimizer": {"name": "no_such", "options": {}}}, {"seed": "${oc.env:HOME}"}, {"caption": {}}, {"base": 1}],
)
def test_a_header_of_a_stranger_is_data(
    changed: dict[str, Any], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["import", exported(kept(*words) | changed), "--json"])
    said = capsys.readouterr()
    assert code == 2 or "is refused here" in said.err, said
    assert str(Path.home()) not in said.out


def test_a_file_in_the_folder_of_a_run_is_told_as_such(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    save_file({"x": np.zeros(2, "float32")}, "adapter.safetensors")
    Path("plan.json").write_text("{}")
    assert main(["import", "adapter.safetensors"]) == 2
    assert "of a run that was cooked: lorasweep train --from ." in capsys.readouterr().err
