"""`lorasweep cache`: shown before it goes, and nothing else goes with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
from filelock import FileLock

from lorasweep.cli import main
from lorasweep.core import paths
from lorasweep.core.run_folder import LOCK_FILE


@pytest.fixture
def kept(home: Path) -> dict[str, Path]:
    files = {
        "latents": home / "cache" / "latents" / "ab" / "abc.safetensors",
        "class_images": home / "cache" / "class_images" / "cd" / "cde.png",
        "inputs": home / "cache" / "inputs" / "ef" / "efg.png",
        "facts": home / "cache" / "speed.json",
        "not ours": home / "cache" / "pip" / "wheel.whl",
        "a file of somebody": home / "cache" / "mine.json",
        "a run": home / "outputs" / "train" / "run" / "adapter" / "adapter.safetensors",
    }
    for file in files.values():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(100))
    return files


def left(kept: dict[str, Path]) -> list[str]:
    return [name for name, file in kept.items() if file.exists()]


def test_it_is_shown_and_then_cleared(kept: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "--json"]) == 0
    found = {each["kind"]: (each["files"], each["bytes"]) for each in json.loads(capsys.readouterr().out)["kinds"]}
    there = ("latents", "class_images", "inputs", "facts")
    assert {*found} == {*get_args(paths.Cache), "facts"}
    assert found == {kind: (1, 100) if kind in there else (0, 0) for kind in found}
    assert main(["cache"]) == 0 and left(kept) == [*kept]
    assert "lorasweep cache --clear" in capsys.readouterr().out

    assert main(["cache", "latents", "--clear"]) == 0
    assert left(kept) == [name for name in kept if name != "latents"]
    assert main(["cache", "--clear"]) == 0
    assert "3 files went" in capsys.readouterr().out
    assert left(kept) == ["not ours", "a file of somebody", "a run"]
    assert not any((kept["facts"].parent / "latents").glob("*"))


def test_what_is_linked_from_elsewhere_stays_there(kept: dict[str, Path], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "it.safetensors").write_bytes(b"it")
    (kept["latents"].parent.parent / "link").symlink_to(elsewhere)
    assert main(["cache", "--clear"]) == 0
    assert (elsewhere / "it.safetensors").exists() and not kept["latents"].exists()


def test_it_stays_while_something_is_cooked(kept: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    with FileLock(kept["a run"].parent.parent / LOCK_FILE):
        assert main(["cache", "--clear"]) == 1
    assert "is being cooked" in capsys.readouterr().err and left(kept) == [*kept]

    lease = kept["inputs"].parents[3] / "scratch" / "tmp1.lock"
    lease.parent.mkdir()
    with FileLock(lease):
        assert main(["cache", "--clear"]) == 1
    assert "is being cooked for another machine" in capsys.readouterr().err and left(kept) == [*kept]
    assert main(["cache", "inputs", "--clear"]) == 0, "nobody holds it any more"


def test_a_kind_that_is_none_is_refused(kept: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "latent", "--clear"]) == 2
    assert "did you mean `latents`" in capsys.readouterr().err and left(kept) == [*kept]
