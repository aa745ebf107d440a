"""What is said about adapters' files, for each file of conf/adapter/, in the programs' own terms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import shipped
import torch
from lora_readers import READERS as RULES
from lora_readers import in_diffusers
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_training import make_recipe

from lorasweep.core import registry
from lorasweep.core.kohya_names import kohya_name
from lorasweep.core.protocols import Base
from lorasweep.core.records import Component
from lorasweep.results.export import export_run, forms
from lorasweep.results.runs import find_checkpoint

WRITTEN = ("factors", "diff", "lora")
WEIGHT = 0.7


@pytest.fixture
def kind(adapter_choice: tuple[str, dict[str, Any]]) -> str:
    return adapter_choice[0]


@pytest.fixture
def adapter(adapter_choice: tuple[str, dict[str, Any]], base: Base) -> Iterator[Any]:
    """Shaken, so that every tensor says something, text encoder and convolutions included."""
    name, knobs = adapter_choice
    made = registry.load("adapter", name).build(base, seed=0, **knobs_of(knobs))
    shipped.shake(made)
    yield made
    made.remove()


def knobs_of(knobs: dict[str, Any]) -> dict[str, Any]:
    """The YAML's, small, everywhere."""
    small = {"dim": 4, "alpha": 2.0, "conv_dim": 2, "conv_alpha": 3.0, "unit": 2, "targets": "full"}
    return {**knobs, **{key: value for key, value in small.items() if key in knobs}, "text_encoder": True}


@pytest.fixture
def run(adapter_choice: tuple[str, dict[str, Any]], adapter: Any, tiny_sd: Path, home: Path) -> Any:
    """A finished trial's folder with this adapter in it, as `export` finds it."""
    from run_folders import write_run

    name, knobs = adapter_choice
    recipe = make_recipe(tiny_sd, adapter=Component(name=name, options=knobs_of(knobs)))
    folder = home / "outputs" / "sweep" / "0000-a-s0"
    write_run(folder, recipe, home / "images", adapter)
    return find_checkpoint(str(folder), subject="export")


def changes(adapter: Any) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Module -> (the base's weight, what the adapter adds to it at weight 1), float64."""
    found = {}
    for path, layer in adapter.layers.items():
        plain = layer.get_base_layer().weight.detach().double()
        found[path] = (plain, adapter.delta(layer).detach().double())
    return found


def largest_error(
    patched: dict[str, torch.Tensor], wanted: dict[str, tuple[torch.Tensor, torch.Tensor]], weight: float
) -> float:
    """Over all modules that the adapter changes; one that was not patched has the base's weight."""
    errors = [
        (patched.get(path, plain) - (plain + weight * delta)).abs().max().item()
        for path, (plain, delta) in wanted.items()
    ]
    return max(errors)


def test_the_kept_file_is_read_right_by_diffusers_or_refused(
    kind: str, adapter: Any, tiny_sd: Path, tmp_path: Path
) -> None:
    """At weight 1: between 0 and 1 diffusers weighs a DoRA in another way."""
    adapter.save(tmp_path / "adapter.safetensors")
    wanted = changes(adapter)
    assert min(delta.abs().max().item() for _, delta in wanted.values()) > 1e-3
    if kind in ("loha", "lokr", "ia3"):
        with pytest.raises(ValueError, match="(?i)lora"):
            in_diffusers(tmp_path / "adapter.safetensors", tiny_sd, 1.0)
    else:
        patched = in_diffusers(tmp_path / "adapter.safetensors", tiny_sd, 1.0)
        assert largest_error(patched, wanted, 1.0) < 1e-5


def test_the_kept_file_comes_back_bit_for_bit(adapter: Any, tmp_path: Path) -> None:
    adapter.save(tmp_path / "adapter.safetensors")
    before = adapter.state_dict()
    for parameter in [each for part in adapter.parameters().values() for each in part]:
        parameter.data.zero_()
    adapter.load(tmp_path / "adapter.safetensors")
    after = adapter.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("form", WRITTEN)
def test_a_program_reads_what_was_judged_where_we_say_so_and_not_elsewhere(
    kind: str, form: Any, run: Any, adapter: Any, tiny_sd: Path, tmp_path: Path
) -> None:
    wanted = changes(adapter)
    (made,) = export_run(run, out=tmp_path / "x.safetensors", form=form)
    tensors = load_file(made.file)
    assert made.modules >= len(wanted)
    for reader, rule in RULES.items():
        patched = {
            path: rule(plain, tensors, kohya_name(path, parts=()), WEIGHT) for path, (plain, _) in wanted.items()
        }
        error = largest_error(patched, wanted, WEIGHT)
        assert (error < 1e-5) is (reader in made.read_by), (reader, error)
    try:
        error = largest_error(in_diffusers(Path(made.file), tiny_sd, WEIGHT), wanted, WEIGHT)
    except (ValueError, KeyError):
        error = float("inf")  # refused
    assert (error < 1e-5) is ("diffusers" in made.read_by), error
    with safe_open(made.file, "np") as file:
        assert file.metadata()["lorasweep.read_by"] == ", ".join(made.read_by)


def test_left_alone_comfyui_and_forge_read_it(kind: str) -> None:
    assert {"comfyui", "forge"} <= set(forms.read_by(kind, forms.smallest_form(kind)))
    for reader in forms.READERS:
        assert reader in forms.read_by(kind, forms.smallest_form(kind, [reader]))
