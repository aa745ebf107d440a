"""`lorasweep plan --captions`: every caption before and after, tags by frequency, and untouched files."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from lorasweep import api
from lorasweep.cli import main
from lorasweep.cli.plan_view.tables import print_captions
from lorasweep.config import load_sweep
from lorasweep.core.records import Recipe
from lorasweep.plan import make_plan

MakeRecipe = Callable[..., Recipe]


def test_captions_before_and_after_with_tags_by_frequency(recipe_of: MakeRecipe, photos: Path) -> None:
    files = {file: file.read_bytes() for file in photos.rglob("*.txt")}
    recipe = recipe_of(f"dataset.path={photos}", "captions.prune=[coat]", "dataset.holdout=0")

    (policy,) = json.loads(json.dumps(api.plan(recipe).captions_json()))["policies"]

    assert policy["arms"] == ["recipe"] and policy["trigger"] == "zkw"
    shown = {Path(row["file"]).name: row for row in policy["images"] if "outfit2" in row["file"]}
    assert shown["2.png"]["before"] == "zkw, 1girl, coat, tag2" and shown["2.png"]["after"] == "zkw, 1girl, tag2"
    assert "exposure" not in shown["2.png"]
    tags = {row["tag"]: (row["before"], row["after"]) for row in policy["tags"]}
    assert tags["1girl"] == (10, 10) and tags["coat"] == (4, 0) and tags["zkw"] == (10, 10)
    assert tags["tag0"] == (2, 2) and tags["tag5"] == (1, 1)
    assert {row["tag"]: row["seen"] for row in policy["tags"]} == {
        **make_plan(recipe).tag_exposures,
        "coat": 0,
    }
    assert [max(row["before"], row["after"]) for row in policy["tags"]] == [10, 10, 6, 4, 2, 2, 2, 2, 1, 1]
    assert files == {file: file.read_bytes() for file in photos.rglob("*.txt")}


def test_a_varied_caption_shows_one_exposure_always_the_same(recipe_of: MakeRecipe, photos: Path) -> None:
    (photos / "3_zkw outfit1" / "0.txt").unlink()
    recipe = recipe_of(f"dataset.path={photos}", "captions=shuffled", "captions.tag_dropout=0.5")
    images = api.plan(recipe).captions_json()["policies"][0]["images"]
    assert images == api.plan(recipe).captions_json()["policies"][0]["images"]
    assert any(row["exposure"] != row["after"] for row in images)
    for row in images:
        assert set(row["exposure"].split(", ")) <= {*row["after"].split(", "), ""}
    stream = io.StringIO()
    print_captions(api.plan(recipe), Console(file=stream, width=120))
    assert "one exposure" in stream.getvalue() and "(no caption file)" in stream.getvalue()
    assert "1 of 10 are not as written" in stream.getvalue()  # the one that has the folder's words


def test_arms_with_equal_captions_are_shown_once(
    home: Path, tiny_sd: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = tmp_path / "three.yaml"
    sweep.write_text(
        "sweep:\n  question: why?\n  metric: {name: overcook/utility}\n  arms:\n"
        "    plain: {}\n    rich: {optimizer: prodigy}\n    bare: {captions.prune: [hat, coat]}\n"
    )
    given = [str(sweep), f"base.path={tiny_sd}", f"dataset.path={photos}"]
    assert [p["arms"] for p in api.plan(load_sweep(given[0], given[1:])).captions_json()["policies"]] == [
        ["plain", "rich"],
        ["bare"],
    ]
    assert main(["plan", "--captions", *given]) == 0
    text = capsys.readouterr().out
    assert "captions of plain, rich" in text and "tags of" in text and "learning rate" not in text
    assert main(["plan", *given, "--captions", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["policies"]) == 2
