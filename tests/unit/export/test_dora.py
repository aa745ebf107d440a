"""A DoRA in the UIs: their published formulas, written down anew in float64, against what was judged."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_formulas import dora as judged_delta
from safetensors import safe_open
from safetensors.torch import load_file

from lorasweep.adapters.kohya_names import kohya_name
from lorasweep.cli import main
from lorasweep.errors import InputError
from lorasweep.export import export_run, find_run
from lorasweep.protocols import Base

Cook = Callable[..., tuple[Path, Any]]
KNOBS = {"dim": 4, "alpha": 2.0}


def row_norm(matrix: torch.Tensor) -> torch.Tensor:
    return matrix.flatten(1).norm(dim=1).reshape(-1, *[1] * (matrix.dim() - 1))


def column_norm(matrix: torch.Tensor) -> torch.Tensor:
    return matrix.transpose(0, 1).flatten(1).norm(dim=1).reshape(1, -1, *[1] * (matrix.dim() - 2))


def product(tensors: dict[str, torch.Tensor], name: str, like: torch.Tensor) -> torch.Tensor:
    down, up = (tensors[f"{name}.lora_{which}.weight"].double() for which in ("down", "up"))
    scale = tensors[f"{name}.alpha"].item() / down.shape[0]
    return scale * (up.flatten(1) @ down.flatten(1)).reshape(like.shape)


def comfyui(
    weight: torch.Tensor, tensors: dict[str, torch.Tensor], name: str, strength: float
) -> torch.Tensor:
    """ComfyUI and Forge: with as many magnitudes as outputs, over the norms of the base's own rows."""
    magnitudes = tensors[f"{name}.dora_scale"].double()
    assert magnitudes.shape[0] == weight.shape[0] and magnitudes.dim() == weight.dim()
    trained = (weight + product(tensors, name, weight)) * magnitudes / row_norm(weight)
    return weight + strength * (trained - weight)


def a1111(weight: torch.Tensor, tensors: dict[str, torch.Tensor], name: str, strength: float) -> torch.Tensor:
    """A1111: over the norms of the moved weight's columns."""
    moved = weight + product(tensors, name, weight)
    trained = moved * tensors[f"{name}.dora_scale"].double() / column_norm(moved)
    return weight + strength * (trained - weight)


def difference(
    weight: torch.Tensor, tensors: dict[str, torch.Tensor], name: str, strength: float
) -> torch.Tensor:
    """All of them: a whole difference, times the strength."""
    return weight + strength * tensors[f"{name}.diff"].double()


def modules(base: Base, adapter: Any) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Kohya's name -> (the base's weight, what the adapter adds to it at weight 1), float64."""
    state, found = adapter.state_dict(), {}
    for path in adapter.layers:
        part, module = path.split(".", 1)
        plain: Any = getattr(base, part).get_submodule(module)
        weight = plain.get_base_layer().weight.detach().double()
        own = {
            key.removeprefix(f"{path}."): t.double() for key, t in state.items() if key.startswith(f"{path}.")
        }
        found[kohya_name(path)] = (weight, judged_delta(weight, own, KNOBS))
    return found


@pytest.mark.parametrize("targets", ["attn-mlp", "full"])
def test_comfyui_and_forge_read_what_was_judged(targets: str, cook: Cook, base: Base, tmp_path: Path) -> None:
    folder, adapter = cook("dora", targets=targets, text_encoder=True, **KNOBS)
    (small,) = export_run(find_run(str(folder)), out=tmp_path / "small.safetensors")
    (whole,) = export_run(find_run(str(folder)), out=tmp_path / "whole.safetensors", dora_for="any")
    tensors, whole_tensors = load_file(small.file), load_file(whole.file)
    expected = modules(base, adapter)
    assert small.modules == whole.modules == len(expected) > 10
    assert any(weight.dim() == 4 and weight.shape[2] == 3 for weight, _ in expected.values()) is (
        targets == "full"
    )
    misread = 0
    for name, (weight, delta) in expected.items():
        for strength in (0.7, 1.0):
            wanted = weight + strength * delta
            assert (wanted - weight).abs().max() > 1e-3
            close = {"rtol": 1e-5, "atol": 1e-6}
            torch.testing.assert_close(comfyui(weight, tensors, name, strength), wanted, **close)
            torch.testing.assert_close(difference(weight, whole_tensors, name, strength), wanted, **close)
        misread += not torch.allclose(a1111(weight, tensors, name, 1.0), weight + delta, rtol=0.01)
    assert misread == len(expected)  # why --dora any is there


def test_metadata_and_the_command(cook: Cook, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = cook("dora", **KNOBS)
    assert main(["export", str(folder), "--json", "--precision", "fp16"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    with safe_open(told["file"], "np") as file:
        described = file.metadata()
        assert {key.split(".", 1)[1] for key in file.keys()} == {  # noqa: SIM118
            "lora_down.weight", "lora_up.weight", "alpha", "dora_scale"
        }  # fmt: skip
    assert (
        json.loads(described["ss_network_args"])["dora_wd"] == "True" and described["ss_network_dim"] == "4"
    )
    assert main(["export", str(folder), "--dora", "any", "--json"]) == 0
    with safe_open(json.loads(capsys.readouterr().out)[0]["file"], "np") as file:
        assert {key.split(".", 1)[1] for key in file.keys()} == {"diff"}  # noqa: SIM118


def test_without_its_base_nothing_is_written(cook: Cook, tmp_path: Path) -> None:
    folder, _ = cook("dora", **KNOBS)
    run = find_run(str(folder))
    elsewhere = dataclasses.replace(run.recipe.base, path=str(tmp_path / "moved"))
    moved = dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, base=elsewhere))
    with pytest.raises(InputError, match="base at hand"):
        export_run(moved, out=tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()
