"""`lorasweep judge`: files of a run are judged as the run judged itself; several arms; what is asked and refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_training import FEW_PICTURES

from lorasweep.api import compose, run_trial
from lorasweep.cli import main
from lorasweep.core import files as files_io
from lorasweep.core.run_folder import RunFolder
from lorasweep.core.safetensors_header import read_metadata

pytestmark = pytest.mark.usefixtures("quick_trials")
IMAGES = "dataset.dollhouse.images=8"
STEPS = (4, 8)


@pytest.fixture(scope="module")
def small(on_tiny_sd: list[str]) -> list[str]:
    """Little of everything, on a tiny random base."""
    return [*on_tiny_sd, *FEW_PICTURES, "sample.steps=2", "sample.weights=[0.4,0.7]", "tracking=none"]


@pytest.fixture(scope="module")
def trained(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunFolder, list[str]]]:
    """A run of two rungs, and both as files of kohya's form; the home stays while they are judged."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORASWEEP_HOME", str(home))
        recipe = compose("train.max_steps=8", "train.rungs=2", "optimizer.lr=1e-2", IMAGES, *small)
        run = RunFolder(run_trial(recipe, quiet=True).folder)
        files = [str(home / f"my-{step:06d}.safetensors") for step in STEPS]
        for step, file in zip(STEPS, files, strict=True):
            assert main(["export", str(run.path), "--step", str(step), "--out", file]) == 0
        yield run, files


def test_files_are_judged_as_the_run_judged_itself(
    trained: tuple[RunFolder, list[str]], small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run, files = trained
    words = ["judge", *reversed(files), "dataset=dollhouse", "--json", IMAGES, *small]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    judged = RunFolder(Path(told["run_folder"]))
    assert judged.path.parent.name == "judge"
    assert judged.result == run.result
    assert (judged.path / "contact_sheet.png").exists()

    before = (judged.path / "metrics.json").stat().st_mtime_ns
    assert main([*words, "--require", "overcook<1"]) == 0
    assert main([*words, "--require", "overcook<1", "--require", "identity>2"]) == 3
    assert "identity/score >= 2" in capsys.readouterr().err
    assert (judged.path / "metrics.json").stat().st_mtime_ns == before, "it was judged again"

    verdict = judged.result["verdict"] | {"burned_at": STEPS[1], "burned_doubt": "though unsure"}
    files_io.write_json(judged.path / "metrics.json", {**judged.result, "verdict": verdict})
    assert main([word for word in words if word != "--json"]) == 0
    said = capsys.readouterr().out
    assert f"burned file {files[1]}, though unsure" in said
    assert "next        lorasweep report judge" in said and "lorasweep export" not in said, "it is a file already"

    # What will not be measured is refused before any work.
    for bound, why in (("overcok<1", "did you mean"), ("clip_text/score>0", "no metric gives"), ("x", "--require")):
        assert main([*words, "--require", bound]) == 2
        assert why in capsys.readouterr().err


def test_files_that_change_nothing_or_overflow_are_told(
    trained: tuple[RunFolder, list[str]], small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = load_file(trained[1][0])
    untrained = {key: tensor * ("lora_up" not in key) for key, tensor in tensors.items()}
    huge = {key: tensor if "alpha" in key else torch.full_like(tensor, 1e20) for key, tensor in tensors.items()}
    lengths = {key.replace("lora_up.weight", "dora_scale"): torch.ones(len(tensor), *[1] * (tensor.dim() - 1))
               for key, tensor in tensors.items() if "lora_up" in key}  # fmt: skip
    for name, weights in {"untrained": untrained, "untrained_dora": untrained | lengths, "huge": huge}.items():
        save_file(weights, tmp_path / f"{name}.safetensors")
        words = ["judge", str(tmp_path / f"{name}.safetensors"), "captions.trigger=zkw", *small]
        assert main([*words, "metrics=[norms,burn]"]) == 0
        said = capsys.readouterr()
        assert (f"{name}.safetensors changes nothing" in said.err + said.out) == (name != "huge")
    (folder,) = (trained[0].path.parents[1] / "judge").glob("huge-*")
    missing = json.loads((folder / "metrics.json").read_text())["rungs"][0]["missing"]
    assert missing["norms/spectral_max"] == "was inf at step 1"


def test_a_judged_file_keeps_what_it_says_of_its_own_training(
    trained: tuple[RunFolder, list[str]], small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, (file, _) = trained
    own = dict(read_metadata(Path(file)))
    assert main(["judge", file, "captions.trigger=zkw", "metrics=[norms]", "--json", *small]) == 0
    judged = json.loads(capsys.readouterr().out)["run_folder"]
    assert main(["export", judged, "--out", str(tmp_path / "again.safetensors")]) == 0
    told = dict(read_metadata(tmp_path / "again.safetensors"))
    assert told["ss_output_name"] == "again" and told["lorasweep.sweep"] == "judge"
    changed = {key for key in {**told, **own} if told.get(key) != own.get(key)}
    assert changed <= {"ss_output_name", *(key for key in changed if key.startswith("lorasweep."))}
    assert told["lorasweep.recipe"] == own["lorasweep.recipe"] and told["ss_network_module"] == "networks.lora"


@pytest.mark.usefixtures("training_workers")
def test_arms_without_images_are_a_sweep(
    trained: tuple[RunFolder, list[str]], small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _, (early, late) = trained
    words = ["judge", f"mine={early}", f"theirs={late}", "captions.trigger=zkw", "launcher.workers=1", *small]
    for bound, why in (
        ("identity<1", "two training images"),
        ("generalisation/train<1", "no training images"),
        ("trigger_selectivity/score>0", "no training images"),
        ("prompt_control/score>0", "second recombined prompt"),
    ):
        asked = ["metrics=[identity,generalisation,trigger_selectivity,prompt_control]", "--require", bound]
        others = [word for word in words if not word.startswith("dataset.prompts")]
        assert main([*others, "dataset.prompts={in_distribution:[zkw],recombined:[zkw]}", *asked]) == 2
        assert why in capsys.readouterr().err
    assert main([*words, "metrics=[burn,diversity,identity]", "--json"]) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert {trial["arm"] for trial in told["trials"]} == {"mine", "theirs"}
    assert told["metric"] == "overcook/score" and all(trial["value"] is not None for trial in told["trials"])
    assert "no images" in said.err

    # Another seed would say the same: nobody is sent to cook one.
    folder = Path(json.loads(said.out)["folder"])
    assert main(["status", str(folder)]) == 0 and main(["report", str(folder)]) == 0
    told = capsys.readouterr().out + (folder / "report.md").read_text(encoding="utf-8")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert (
        "lorasweep export" not in page
        and "lorasweep fork" not in page
        and "lorasweep sweep" not in page
        and "What mattered" not in page
    )
    assert "until-decided" not in told and "one seed each" not in told.lower()


def test_everything_wrong_is_said_before_any_work(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "torn.safetensors").write_bytes(b"torn")
    module = "lora_unet_mid_block_attentions_0_proj_in"
    good = {f"{module}.lora_down.weight": torch.ones(1, 8), f"{module}.lora_up.weight": torch.ones(8, 1)}
    save_file({key: tensor / 0 for key, tensor in good.items()}, home / "burnt.safetensors")
    save_file(good, home / "long.safetensors")
    with (home / "long.safetensors").open("ab") as stream:
        stream.write(b"more")
    names = ("torn", "gone", "burnt", "long")
    torn, gone, burnt, long = (str(home / f"{name}.safetensors") for name in names)
    assert main(["judge", torn, gone, burnt, long, "sample.wieght=1"]) == 2
    said = capsys.readouterr().err
    assert "5 problems" in said
    assert all(each in said for each in (torn, gone, burnt, long, "sample.wieght"))
    assert "2 tensors hold NaN or infinity" in said and "overlap or leave gaps" in said
    assert not (home / "outputs").exists()


def test_hidden_copies_of_macos_are_no_files_to_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("my.safetensors", "._my.safetensors"):
        (tmp_path / name).write_bytes(b"\0\x05\x16\x07Mac OS X")
    assert main(["judge", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "my.safetensors" in told and "._my" not in told
