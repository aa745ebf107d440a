"""Checkpoints that others' code wrote are judged as the run judged itself: the same numbers, the same `done_at`.

    pip install --no-deps --target .venv/reference lycoris-lora==4.1.3 einops toml
    PYTHONPATH=.venv/reference pytest -m slow tests/e2e/test_judge_others.py    (three minutes)

What acts at weight 1 is what the others' own code computes from the same file in float64.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lorasweep.api import compose, run_trial
from lorasweep.cli import main
from lorasweep.components.adapters import file as file_adapter
from lorasweep.core import registry
from lorasweep.core.run_folder import RunFolder

pytestmark = pytest.mark.slow
SMALL = ("sample.steps=2", "sample.weights=[0.7]", "sample.seeds=[0]", "dataset.dollhouse.images=8", "tracking=none")
STEPS = range(8, 88, 8)
RANK = 4
VERDICT = ("state", "kept", "done_at", "burned_at", "best_at")
Weights = dict[str, torch.Tensor]  # by module of the UNet; what a file adds to its weight, float64


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORASWEEP_HOME", str(folder))
        yield folder


def dollhouse() -> Any:
    return registry.load("base", "dollhouse").load(compose().base, device="cpu", precision="fp32")


def by_diffusers(run: RunFolder, folder: Path) -> tuple[list[Path], Weights]:
    """As diffusers' train_text_to_image_lora.py saves its checkpoints: PEFT's state dict, alpha = rank."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

    unet = dollhouse().parts["unet"]
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["to_k", "to_q", "to_v", "to_out.0"]))
    for step in STEPS:
        held = {key.removeprefix("unet."): tensor for key, tensor in load_file(run.weights(step)).items()}
        set_peft_model_state_dict(unet, held)
        layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
        StableDiffusionPipeline.save_lora_weights(folder / f"checkpoint-{step:02}", unet_lora_layers=layers)
    files = sorted(folder.glob("checkpoint-*/*.safetensors"))
    read = dollhouse().parts["unet"]
    read.load_lora_adapter(load_file(files[-1]), prefix="unet")
    read.double()
    layers = {path: module for path, module in read.named_modules() if isinstance(module, BaseTunerLayer)}
    return files, {path: layer.get_delta_weight(*layer.active_adapters) for path, layer in layers.items()}


def by_lycoris(run: RunFolder, folder: Path) -> tuple[list[Path], Weights]:
    """As LyCORIS' own network saves: its keys under its own prefix."""
    lycoris = pytest.importorskip("lycoris", reason="LyCORIS is not installed: the command is above")
    lycoris.LycorisNetwork.apply_preset({"target_module": ["Attention"], "target_name": []})
    unet = dollhouse().parts["unet"]
    network = lycoris.create_lycoris(unet, 1.0, linear_dim=RANK, linear_alpha=RANK / 2, algo="loha")
    network.apply_to()
    names = {name.removeprefix("lycoris_"): name for name in network.state_dict()}
    folder.mkdir()
    for step in STEPS:
        held = load_file(run.weights(step))
        state = {names[key.removeprefix("lora_unet_")]: tensor for key, tensor in held.items()}
        network.load_state_dict(state, strict=False)
        network.save_weights(str(folder / f"mine-step{step:08d}.safetensors"), torch.float32, {})
    files = sorted(folder.glob("*.safetensors"))
    network.double().load_state_dict({key: tensor.double() for key, tensor in load_file(files[-1]).items()})
    paths = {f"lycoris_{path.replace('.', '_')}": path for path, _ in unet.named_modules()}
    return files, {paths[each.lora_name]: each.get_weight(None).detach() for each in network.loras}


def numbers(value: Any, at: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, f"{at}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from numbers(inner, f"{at}[{index}]")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield at, float(value)


# Files in fp32 hold the very weights that the run judged, and only the order of additions differs. Half precision
# would move single pixels to the edge of what is clipped, and a count moves in jumps.
@pytest.mark.parametrize(
    ("words", "write"),
    [
        (["adapter.alpha=4", "adapter.targets=attn"], by_diffusers),
        (["adapter=loha", "adapter.alpha=2", "adapter.targets=attn"], by_lycoris),
    ],
    ids=["diffusers", "LyCORIS"],
)
def test_ten_checkpoints_of_others_are_judged_as_the_run_was(
    words: list[str],
    write: Callable[[RunFolder, Path], tuple[list[Path], Weights]],
    home: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if write is by_lycoris:
        pytest.importorskip("lycoris", reason="LyCORIS is not installed: the command is above")
    budget = (f"train.max_steps={STEPS[-1]}", f"train.rungs={len(STEPS)}", "optimizer.lr=1e-2", f"adapter.dim={RANK}")
    run = RunFolder(run_trial(compose(*budget, *words, *SMALL), quiet=True).folder)
    assert run.status["status"] == "COMPLETED"
    files, weights = write(run, home / write.__name__)
    assert len(files) == len(STEPS)
    adapter = file_adapter.build(dollhouse(), seed=0, path=str(files[-1]))
    assert {path.removeprefix("unet.") for path in adapter.layers} == weights.keys()
    for path, layer in adapter.layers.items():
        theirs = weights[path.removeprefix("unet.")]
        # A dozen roundings of fp32, each by 2^-24 of what is added up.
        assert (adapter.delta(layer) - theirs).abs().max() <= 2**-20 * theirs.abs().max(), path
    capsys.readouterr()
    assert main(["judge", *map(str, files), "dataset=dollhouse", "--json", *SMALL]) == 0
    judged = RunFolder(Path(json.loads(capsys.readouterr().out)["run_folder"]))
    own, found = dict(numbers(run.result)), dict(numbers(judged.result))
    assert own.keys() == found.keys()
    apart = {key: (value, found[key]) for key, value in own.items() if found[key] != pytest.approx(value, 1e-5, 1e-5)}
    assert not apart
    said = [{key: each.result["verdict"].get(key) for key in VERDICT} for each in (run, judged)]
    assert said[0] == said[1] and said[0]["best_at"] is not None, said
