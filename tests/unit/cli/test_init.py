"""adapter.init: training starts from the weights of a LoRA file, or is refused before it begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lorasweep.cli import main
from lorasweep.config import compose_recipe
from lorasweep.core import registry

TINY = [
    "train.rungs=1",
    "train.batch_size=2",
    "dataset.dollhouse.images=8",
    "sample.steps=2",
    "sample.seeds=[0]",
    "sample.weights=[0.7]",
    "metrics=[burn]",
    "tracking=none",
    "adapter.text_encoder=true",
]
SMALL = ["adapter.dim=4", "adapter.alpha=2"]


def run(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main([*words, "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


@pytest.fixture(scope="module")
def tiny(on_tiny_sd: list[str]) -> list[str]:
    return [*TINY, *on_tiny_sd]


def train(words: list[str], capsys: pytest.CaptureFixture[str]) -> Path:
    return Path(run(["train", *words], capsys)["run_folder"]) / "adapter.safetensors"


@pytest.fixture(scope="module")
def base(on_tiny_sd: list[str]) -> Any:
    recipe = compose_recipe(on_tiny_sd)
    return registry.load("base", recipe.base.name).load(recipe.base, device="cpu", precision="fp32")


@pytest.mark.parametrize("name", ["lora", "locon", "loha", "lokr", "ia3", "dora", "dylora"])
def test_every_kind_goes_on_from_its_own_files(base: Any, tmp_path: Path, name: str) -> None:
    words = [f"adapter={name}", "adapter.text_encoder=true", *([] if name == "ia3" else SMALL)]
    if name == "lokr":
        words += ["adapter.decompose_both=true", "adapter.targets=full"]
    options = compose_recipe(words).adapter.options
    module, file = registry.load("adapter", name), tmp_path / "trained.safetensors"
    trained = module.build(base, seed=0, **options)
    generator = torch.Generator().manual_seed(1)
    trained.load_state_dict(
        {key: tensor + torch.rand(tensor.shape, generator=generator) for key, tensor in trained.state_dict().items()}
    )
    wanted = trained.state_dict()
    trained.save(file)
    trained.remove()

    begun = module.build(base, seed=2, **{**options, "init": str(file)})
    found = begun.state_dict()
    begun.remove()
    assert found.keys() == wanted.keys()
    for key, tensor in wanted.items():
        torch.testing.assert_close(found[key], tensor, rtol=0, atol=0, msg=key)


def test_training_goes_on_from_an_exported_file(
    home: Path, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A DoRA, whose magnitudes mean something else in kohya's files."""
    words = ["adapter=dora", *SMALL, *tiny]
    trained = train([*words, "train.max_steps=2", "optimizer.lr=1e-2"], capsys)
    exported = home / "exported.safetensors"
    assert main(["export", f"train/{trained.parent.name}", "--out", str(exported)]) == 0
    capsys.readouterr()

    # One step of next to no length: what is written is what training started from.
    still = [*words, "train.max_steps=1", "optimizer.lr=1e-12", "optimizer.weight_decay=0"]
    begun, wanted = load_file(train([*still, f"adapter.init={exported}"], capsys)), load_file(trained)
    assert begun.keys() == wanted.keys()
    for key, tensor in wanted.items():
        torch.testing.assert_close(begun[key], tensor, rtol=2e-3, atol=1e-4, msg=key)


@pytest.fixture(scope="module")
def made(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA of dim 4 and alpha 2 on the UNet and the text encoder."""
    home = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORASWEEP_HOME", str(home))
        assert main(["train", *SMALL, *tiny, "train.max_steps=1"]) == 0
    (file,) = home.glob("outputs/train/*/adapter.safetensors")
    return file


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["adapter.dim=8", "adapter.alpha=4"], "are of another size in the file (dim 4)"),
        (["adapter.dim=4", "adapter.alpha=4"], "have another alpha / dim in the file (0.5)"),
        (["adapter=loha", *SMALL], "are of another kind in the file (lora)"),
        (["adapter=dora", *SMALL], "are of another kind in the file (lora)"),
        ([*SMALL, "adapter.targets=attn"], "are in the file and not trained"),
        ([*SMALL, "adapter.targets=full"], "are trained and not in the file"),
        ([*SMALL, "adapter.text_encoder=false"], "are in the file and not trained"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_the_plan(
    home: Path, made: Path, tiny: list[str], capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    typed = [word for word in tiny if word.split("=")[0] not in {each.split("=")[0] for each in words}]
    assert main(["plan", *typed, *words, f"adapter.init={made}"]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_a_file_of_a_training_that_diverged_is_refused_by_the_plan(
    home: Path, made: Path, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = load_file(made)
    next(iter(tensors.values()))[0] = torch.nan
    save_file(tensors, home / "diverged.safetensors")  # without metadata, alpha is dim
    assert (
        main(["plan", "adapter.dim=4", "adapter.alpha=4", *tiny, f"adapter.init={home / 'diverged.safetensors'}"]) == 2
    )
    assert "1 tensors hold NaN or infinity" in " ".join(capsys.readouterr().err.split())


def test_what_is_no_lora_of_this_base_is_refused(
    home: Path, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    stranger, base, torn = (home / f"{name}.safetensors" for name in ("stranger", "base", "torn"))
    pair = {f"lora_unet_nowhere.lora_{side}.weight": torch.ones(4, 4) for side in ("up", "down")}
    save_file(pair, stranger)
    save_file({"model.weight": torch.ones(4, 4)}, base)
    torn.write_bytes(stranger.read_bytes()[:-1])
    cases = {stranger: "are not in this base", base: "are no LoRA's", torn: "torn", home / "none": "no such file"}
    for file, told in cases.items():
        assert main(["train", *SMALL, *tiny, f"adapter.init={file}"]) == 2
        assert told in " ".join(capsys.readouterr().err.split())


def test_kohyas_network_weights_are_where_training_starts(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = home / "kohya.toml"
    config.write_text('network_module = "networks.lora"\nnetwork_weights = "my, last.safetensors"\n')
    assert main(["import", str(config)]) == 0
    assert 'adapter.init: "my, last.safetensors"' in capsys.readouterr().out


def test_the_files_content_is_part_of_the_fingerprint(
    home: Path, made: Path, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = home / "start.safetensors"
    tensors = load_file(made)
    found = []
    for factor in (1.0, 2.0):
        # Without metadata, alpha is dim.
        save_file({key: tensor * factor for key, tensor in tensors.items()}, file)
        typed = ["plan", "adapter.dim=4", "adapter.alpha=4", *tiny, f"adapter.init={file}"]
        found.append(run(typed, capsys)["fingerprint"])
    assert found[0] != found[1]
