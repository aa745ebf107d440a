"""What `export` does with a DoRA; what the programs make of it: tests/contracts/test_adapter_files.py."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_checkpoint import write_checkpoint

from lorasweep.cli import main
from lorasweep.core.errors import InputError
from lorasweep.results.export import export_run
from lorasweep.results.runs import find_checkpoint

Cook = Callable[..., tuple[Path, Any]]
KNOBS = {"dim": 4, "alpha": 2.0}


def test_metadata_and_the_command(cook: Cook, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = cook("dora", **KNOBS)
    assert main(["export", str(folder), "--json", "--precision", "fp16"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    with safe_open(told["file"], "np") as file:
        described = file.metadata()
        assert {key.split(".", 1)[1] for key in file.keys()} == {  # noqa: SIM118
            "lora_down.weight", "lora_up.weight", "alpha", "dora_scale"
        }  # fmt: skip
    assert json.loads(described["ss_network_args"])["dora_wd"] == "True" and described["ss_network_dim"] == "4"
    for words in (["--for", "a1111"], ["--form", "diff"], ["--dora", "any"]):
        assert main(["export", str(folder), *words, "--json"]) == 0
        (told,) = json.loads(capsys.readouterr().out)
        assert told["form"] == "diff" and told["read_by"] == ["comfyui", "forge", "a1111"]
        with safe_open(told["file"], "np") as file:
            assert {key.split(".", 1)[1] for key in file.keys()} == {"diff"}  # noqa: SIM118
            assert json.loads(file.metadata()["ss_network_args"]) == {"algo": "full"}


def test_on_a_single_checkpoint(cook: Cook, tiny_sd: Path, tmp_path: Path) -> None:
    """Bases mostly come as one file, whose weights have other names."""
    folder, _ = cook("dora", text_encoder=True, **KNOBS)
    (expected,) = export_run(find_checkpoint(str(folder), subject="export"), out=tmp_path / "folder.safetensors")
    write_checkpoint(tiny_sd, tmp_path / "base.safetensors")
    shutil.copytree(tiny_sd, tmp_path / "base")
    run = find_checkpoint(str(folder), subject="export")
    base = dataclasses.replace(run.recipe.base, path=str(tmp_path / "base.safetensors"))
    one_file = dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, base=base))
    (made,) = export_run(one_file, out=tmp_path / "file.safetensors")
    ours, theirs = load_file(made.file), load_file(expected.file)
    assert ours.keys() == theirs.keys() and all(torch.allclose(t, theirs[key]) for key, t in ours.items())


def test_without_its_base_nothing_is_written(cook: Cook, tmp_path: Path) -> None:
    folder, _ = cook("dora", **KNOBS)
    run = find_checkpoint(str(folder), subject="export")
    elsewhere = dataclasses.replace(run.recipe.base, path=str(tmp_path / "moved"))
    moved = dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, base=elsewhere))
    with pytest.raises(InputError, match="base at hand"):
        export_run(moved, out=tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()
