"""Checkpoints that others' code wrote are judged as the run judged itself: the same numbers, the same `done_at`.

    PYTHONPATH=lycoris pytest -m slow tests/e2e/test_judge_others.py

where `pip download --no-deps lycoris-lora einops toml` and unzipping the wheels into lycoris/ bring LyCORIS; without
it, its half is skipped.
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
from lorasweep.core import registry
from lorasweep.core.run_folder import RunFolder

pytestmark = pytest.mark.slow
SMALL = ("sample.steps=2", "sample.weights=[0.7]", "sample.seeds=[0]", "dataset.dollhouse.images=8", "tracking=none")
STEPS = range(4, 44, 4)
RANK = 4
VERDICT = ("state", "kept", "done_at", "burned_at", "best_at")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORASWEEP_HOME", str(folder))
        yield folder


def unet() -> Any:
    recipe = compose()
    return registry.load("base", "dollhouse").load(recipe.base, device="cpu", precision="fp32").parts["unet"]


def by_diffusers(run: RunFolder, folder: Path) -> list[Path]:
    """As diffusers' train_text_to_image_lora.py saves its checkpoints: PEFT's state dict, alpha = rank."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

    model = unet()
    model.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["to_k", "to_q", "to_v", "to_out.0"]))
    for step in STEPS:
        held = {key.removeprefix("unet."): tensor for key, tensor in load_file(run.weights(step)).items()}
        set_peft_model_state_dict(model, held)
        layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(model))
        StableDiffusionPipeline.save_lora_weights(folder / f"checkpoint-{step}", unet_lora_layers=layers)
    return sorted(folder.glob("checkpoint-*/*.safetensors"))


def by_lycoris(run: RunFolder, folder: Path) -> list[Path]:
    """As LyCORIS' own network saves: its keys under its own prefix, half precision as people choose it."""
    lycoris = pytest.importorskip("lycoris")
    lycoris.LycorisNetwork.apply_preset({"target_module": ["Attention"], "target_name": []})
    network = lycoris.create_lycoris(unet(), 1.0, linear_dim=RANK, linear_alpha=RANK / 2, algo="loha")
    network.apply_to()
    names = {name.removeprefix("lycoris_"): name for name in network.state_dict()}
    folder.mkdir()
    for step in STEPS:
        held = load_file(run.weights(step))
        state = {names[key.removeprefix("lora_unet_")]: tensor for key, tensor in held.items()}
        network.load_state_dict(state, strict=False)
        network.save_weights(str(folder / f"mine-step{step:08d}.safetensors"), torch.float16, {})
    return sorted(folder.glob("*.safetensors"))


def numbers(value: Any, at: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, f"{at}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from numbers(inner, f"{at}[{index}]")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield at, float(value)


@pytest.mark.parametrize(
    ("words", "write", "close"),
    [
        (["adapter.alpha=4", "adapter.targets=attn"], by_diffusers, 1e-4),
        (["adapter=loha", "adapter.alpha=2", "adapter.targets=attn"], by_lycoris, 2e-2),
    ],
    ids=["diffusers", "LyCORIS"],
)
def test_ten_checkpoints_of_others_are_judged_as_the_run_was(
    words: list[str],
    write: Callable[[RunFolder, Path], list[Path]],
    close: float,
    home: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    budget = (f"train.max_steps={STEPS[-1]}", f"train.rungs={len(STEPS)}", "optimizer.lr=3e-3", f"adapter.dim={RANK}")
    run = RunFolder(run_trial(compose(*budget, *words, *SMALL), quiet=True).folder)
    assert run.status["status"] == "COMPLETED"
    files = write(run, home / write.__name__)
    assert len(files) == len(STEPS)
    capsys.readouterr()
    assert main(["judge", *map(str, files), "dataset=dollhouse", "--json", *SMALL]) == 0
    judged = RunFolder(Path(json.loads(capsys.readouterr().out)["run_folder"]))
    own, found = dict(numbers(run.result)), dict(numbers(judged.result))
    assert own.keys() == found.keys()
    for key, value in own.items():
        assert found[key] == pytest.approx(value, rel=close, abs=close), key
    said = [{key: each.result["verdict"].get(key) for key in VERDICT} for each in (run, judged)]
    assert said[0] == said[1] and said[0]["kept"] is not None
