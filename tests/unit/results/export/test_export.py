from __future__ import annotations

import errno
import json
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import lorasweep as ls
from lorasweep.cli import main
from lorasweep.components.adapters.file import unreadable
from lorasweep.core.errors import InputError
from lorasweep.core.protocols import Base
from lorasweep.results.export import export_run, forms
from lorasweep.results.runs import best_of, find_checkpoint

Cook = Callable[..., tuple[Path, Any]]
ADAPTERS = ("lora", "locon", "dylora", "loha", "lokr", "dora", "ia3")
PROMPTS = ["zkw, red hair", "1girl, blue dress"]


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "np") as file:
        return dict(file.metadata())


@torch.no_grad()
def look(unet: Any, text: torch.Tensor) -> torch.Tensor:
    noisy = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    answer: torch.Tensor = unet(noisy, torch.tensor([10, 700]), text).sample
    return answer


@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        ("lora", {"dim": 4, "alpha": 2.0, "targets": "attn-mlp"}),
        ("lora", {"dim": 4, "alpha": 2.0, "targets": "attn"}),
        ("locon", {"dim": 4, "alpha": 2.0, "conv_dim": 2, "conv_alpha": 3.0}),
        ("dylora", {"dim": 8, "alpha": 4.0, "unit": 4, "targets": "full"}),
    ],
)
def test_diffusers_reads_the_exported_file_as_ours_at_every_weight(
    name: str, knobs: dict[str, Any], cook: Cook, base: Base, tiny_sd: Path, tmp_path: Path
) -> None:
    from diffusers import StableDiffusionPipeline

    folder, adapter = cook(name, text_encoder=True, **knobs)
    (made,) = export_run(find_checkpoint(str(folder), subject="export"), out=tmp_path / "x.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd, local_files_only=True)
        pipeline.load_lora_weights(str(tmp_path), weight_name=Path(made.file).name, adapter_name="x")
    adapter.set_weight(0)
    with torch.no_grad():
        plain_text = base.encode_captions(PROMPTS)["embeds"]
    plain = look(base.unet, plain_text)
    for weight in (0.7, 1.0):
        adapter.set_weight(weight)
        pipeline.set_adapters(["x"], [weight])
        with torch.no_grad():
            text = base.encode_captions(PROMPTS)["embeds"]
            their_text, _ = pipeline.encode_prompt(PROMPTS, "cpu", 1, False)
        answer = look(base.unet, text)
        assert (text - plain_text).abs().max() > 0.01 and (answer - plain).abs().max() > 0.01
        assert torch.allclose(their_text, text, atol=1e-5)
        assert torch.allclose(look(pipeline.unet, their_text), answer, atol=1e-5)


def test_names_and_alphas_are_those_that_uis_look_for(cook: Cook, tmp_path: Path) -> None:
    """Alpha is not the rank, differs by module, and the text encoder's names have `text_model`."""
    folder, adapter = cook("locon", dim=4, alpha=2.0, conv_dim=3, conv_alpha=1.5, text_encoder=True)
    (made,) = export_run(find_checkpoint(str(folder), subject="export"), out=tmp_path)
    tensors = load_file(made.file)
    modules = {key.split(".")[0] for key in tensors}
    assert made.modules == len(modules) == len(adapter.layers)
    for module in modules:
        own = {key.split(".", 1)[1] for key in tensors if key.startswith(f"{module}.")}
        assert own == {"lora_down.weight", "lora_up.weight", "alpha"}
        is_wide = tensors[f"{module}.lora_down.weight"].shape[2:] == (3, 3)
        assert tensors[f"{module}.alpha"].item() == (1.5 if is_wide else 2.0)
        assert tensors[f"{module}.lora_down.weight"].shape[0] == (3 if is_wide else 4)
    assert "lora_te_text_model_encoder_layers_0_self_attn_q_proj" in modules
    assert "lora_te_text_model_encoder_layers_0_mlp_fc1" in modules
    assert all(module.startswith(("lora_unet_", "lora_te_text_model_encoder_layers_")) for module in modules)
    assert any(module.endswith("resnets_0_time_emb_proj") for module in modules)
    key = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0.lora_up.weight"
    path = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0.lora_B.weight"
    assert torch.equal(tensors[key], adapter.state_dict()[path])


def test_a_cut_dylora_is_its_first_rows_with_alpha_unchanged(cook: Cook, tmp_path: Path) -> None:
    folder, adapter = cook("dylora", dim=8, alpha=4.0, unit=2)
    made = export_run(find_checkpoint(str(folder), subject="export"), out=tmp_path, ranks="all")
    assert [each.rank for each in made] == [2, 4, 6, 8]
    state = adapter.state_dict()
    module = "mid_block.attentions.0.proj_in"
    name = "lora_unet_" + module.replace(".", "_")
    for each in made:
        tensors, rank = load_file(each.file), each.rank
        assert torch.equal(tensors[f"{name}.lora_down.weight"], state[f"unet.{module}.lora_A.weight"][:rank])
        assert torch.equal(tensors[f"{name}.lora_up.weight"], state[f"unet.{module}.lora_B.weight"][:, :rank])
        assert tensors[f"{name}.alpha"].item() == 4.0
        assert metadata(Path(each.file))["ss_network_dim"] == str(rank)


@pytest.mark.parametrize("name", ["loha", "lokr", "ia3"])
def test_lycoris_kinds_keep_their_tensors(name: str, cook: Cook, tmp_path: Path) -> None:
    """Their own keys are checked against the UIs' formulas where the adapters are tested."""
    folder, _ = cook(name, **({} if name == "ia3" else {"dim": 2, "alpha": 1.0}))
    (made,) = export_run(find_checkpoint(str(folder), subject="export"), out=tmp_path, form="factors")
    ours, theirs = load_file(folder / "adapter.safetensors"), load_file(made.file)
    assert ours.keys() == theirs.keys() and all(torch.equal(t, theirs[key]) for key, t in ours.items())
    told = metadata(Path(made.file))
    assert told["ss_network_module"] == "lycoris.kohya"
    assert json.loads(told["ss_network_args"])["algo"] == name


def test_metadata_tell_the_truth(cook: Cook, tiny_sd: Path, tmp_path: Path) -> None:
    folder, _ = cook("locon", dim=4, alpha=2.0, conv_dim=3, conv_alpha=1.5)
    (made,) = export_run(find_checkpoint(str(folder), subject="export"), out=tmp_path / "zkw.safetensors")
    told = metadata(Path(made.file))
    expected = {
        "ss_output_name": "zkw",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "4",
        "ss_network_alpha": "2.0",
        "ss_learning_rate": "0.01",
        "ss_optimizer": "adamw(betas=[0.9, 0.999],weight_decay=0.01,eps=1e-08)",
        "ss_lr_scheduler": "cosine_with_restarts",
        "ss_lr_warmup_steps": "1",
        "ss_sd_model_name": tiny_sd.name,
        "ss_clip_skip": "1",
        "ss_seed": "0",
        "ss_steps": "8",
        "ss_max_train_steps": "8",
        "ss_epoch": "3",
        "ss_num_train_images": "6",
        "ss_training_finished_at": "9.5",
        "lorasweep.sweep": "sweep",
        "lorasweep.trial": "0000-a-s0",
        "lorasweep.step": "8",
        "lorasweep.overcook/score": "0.25",
        "lorasweep.overcook/utility": "0.5",
    }
    assert {key: told.get(key) for key in expected} == expected
    assert json.loads(told["ss_network_args"]) == {"conv_dim": "3", "conv_alpha": "1.5"}
    (tags,) = json.loads(told["ss_tag_frequency"]).values()
    assert tags["zkw"] == 4 and tags["red hair"] == 4 and tags["smile"] < 4
    buckets = json.loads(told["ss_bucket_info"])["buckets"].values()
    assert sum(bucket["count"] for bucket in buckets) == 6 and len(buckets) == 2
    recipe = json.loads(told["lorasweep.recipe"])
    assert recipe["adapter"]["name"] == "locon" and recipe["base"]["path"] == tiny_sd.name
    assert str(tiny_sd) not in "".join(told.values())
    assert not {"ss_v2", "ss_text_encoder_lr", "ss_new_sd_model_hash"} & told.keys()  # not known, not said


@pytest.mark.parametrize(("width", "family", "is_v2"), [(768, "sd_v1", "False"), (1024, "sd_v2", "True")])
def test_the_family_is_told_by_the_text_width(width: int, family: str, is_v2: str, cook: Cook, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder, _ = cook("lora", dim=2, alpha=1.0, targets="attn")
    path = folder / "adapter.safetensors"
    with safe_open(path, "pt") as file:
        header = file.metadata()
    module = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    tensors = {f"{module}.lora_A.weight": torch.ones(2, width), f"{module}.lora_B.weight": torch.ones(8, 2)}
    save_file(tensors, path, metadata=header)
    (made,) = export_run(find_checkpoint(str(folder), subject="export"), out=tmp_path)
    told = metadata(Path(made.file))
    assert (told["ss_base_model_version"], told["ss_v2"]) == (family, is_v2)


def test_an_earlier_rung_says_so_and_twice_gives_the_same_bytes(cook: Cook, tmp_path: Path) -> None:
    folder, _ = cook("lora", dim=2, alpha=1.0)
    contents = []
    for _ in range(3):
        (made,) = export_run(find_checkpoint("sweep/0000-a-s0", step=4, subject="export"), out=tmp_path)
        contents.append(Path(made.file).read_bytes())
    assert len(set(contents)) == 1 and made.file.endswith("sweep-0000-a-s0-000004.safetensors")
    told = metadata(Path(made.file))
    assert told["ss_steps"] == told["lorasweep.step"] == "4" and told["lorasweep.overcook/score"] == "0.125"
    assert "lorasweep.overcook/utility" not in told
    (half,) = export_run(find_checkpoint(str(folder), subject="export"), precision="fp16")
    assert Path(half.file).parent == folder / "export"
    assert {tensor.dtype for tensor in load_file(half.file).values()} == {torch.float16}


def test_what_cannot_be_exported_is_said_at_once(
    cook: Cook, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = cook("dora", dim=2, alpha=1.0)
    with pytest.raises(InputError, match="only a dylora"):
        export_run(find_checkpoint(str(folder), subject="export"), ranks=[4])
    folder, _ = cook("dylora", trial="0001-b-s0", dim=8, alpha=4.0, unit=4)
    with pytest.raises(InputError, match="multiples of 4 up to 8") as caught:
        export_run(find_checkpoint(str(folder), subject="export"), ranks=[4, 6], out=tmp_path / "x.safetensors")
    assert [problem.where for problem in caught.value.problems] == ["--rank", "--out"]
    assert list(tmp_path.glob("*.safetensors")) == []
    for words, said in (
        (["nowhere"], "outputs: sweep"),
        (["sweep"], "sweep/0000-a-s0, sweep/0001-b-s0"),
        (["sweep", "--best"], "--best  wants a sweep"),
        (["sweep/0000-a-s0", "--step", "5"], "--step 4"),
    ):
        assert main(["export", *words]) == 2
        assert said in capsys.readouterr().err
    for damage in ('{"torn', "[]", "{}"):
        broken = home / "outputs" / "sweep" / "0002-c-s0"
        shutil.copytree(folder, broken, dirs_exist_ok=True)
        (broken / "status.json").write_text(damage)
        with pytest.raises(InputError, match="cannot be read"):
            find_checkpoint(str(broken), subject="export")
    (folder / "adapter.safetensors").write_bytes(b"torn")
    assert main(["export", str(folder)]) == 2
    assert "adapter.safetensors  is not as lorasweep wrote it" in capsys.readouterr().err
    (folder / "adapter.safetensors").unlink()
    with pytest.raises(InputError, match=r"has no adapter.safetensors  \(checkpoints: step 4\)"):
        find_checkpoint(str(folder), subject="export")


def test_a_file_of_another_run_or_of_somebody_else_is_not_replaced(
    cook: Cook, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _ = cook("lora", dim=4, alpha=2.0)
    second = first.with_name("0001-b-s0")
    shutil.copytree(first, second)
    out = tmp_path / "mine.safetensors"
    assert main(["export", str(first), "--out", str(out)]) == 0
    before = out.read_bytes()

    assert main(["export", str(first), "--out", str(out)]) == 0
    assert main(["export", str(second), "--out", str(out)]) == 2
    assert "is not an export of this run" in capsys.readouterr().err
    assert out.read_bytes() == before
    out.write_bytes(b"two nights of training")
    assert main(["export", str(first), "--out", str(out)]) == 2
    assert out.read_bytes() == b"two nights of training"


def test_the_best_of_a_sweep(cook: Cook, home: Path) -> None:
    import yaml

    cook("lora", dim=2, alpha=1.0)
    folder, _ = cook("lora", trial="0001-b-s0", dim=2, alpha=1.0)
    trials = [{"number": 0, "arm": "a", "seed": 0}, {"number": 1, "arm": "b", "seed": 0}]
    arm = {"note": "", "overrides": [], "plan": "", "recipe": {}}
    manifest = {
        "name": "sweep",
        "question": "",
        "metric": "overcook/utility",
        "goal": "maximize",
        "worst": 0.0,
        "arms": [{"name": "a", **arm}, {"name": "b", **arm}],
        "trials": trials,
    }
    (home / "outputs" / "sweep" / "sweep.yaml").write_text(yaml.safe_dump(manifest))
    for number, value in ((0, 0.3), (1, 0.4)):
        file = home / "outputs" / "sweep" / f"000{number}-{'ab'[number]}-s0" / "status.json"
        row = json.loads(file.read_text()) | {"number": number, "arm": "ab"[number], "fingerprint": "f"}
        file.write_text(json.dumps(row | {"value": value}))
    assert best_of(home / "outputs" / "sweep", subject="export") == folder


def test_the_command(cook: Cook, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cook("lora", dim=2, alpha=1.0)
    assert main(["export", "sweep/0000-a-s0", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["adapter"] == "lora" and Path(told["file"]).is_file() and told["rank"] is None
    assert main(["export", "sweep/0000-a-s0", "--all-ranks"]) == 2
    assert "only a dylora" in capsys.readouterr().err
    assert main(["export", "nowhere"]) == 2
    code = "import sys; from lorasweep.cli import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, "export", "sweep/0000-a-s0"], check=True, timeout=60)


@pytest.mark.parametrize(
    ("value", "precision", "hint"), [(1e5, "fp16", "--precision fp32"), (torch.nan, "fp32", "an earlier checkpoint")]
)
def test_weights_that_would_be_no_numbers_are_refused(
    value: float, precision: str, hint: str, cook: Cook, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = cook("lora", dim=2, alpha=1.0)
    file = folder / "adapter.safetensors"
    tensors, told = load_file(file), metadata(file)
    tensors[min(tensors)][0] = value
    save_file(tensors, file, metadata=told)
    out = tmp_path / "x.safetensors"
    assert main(["export", str(folder), "--precision", precision, "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "tensors would not be numbers, e.g. lora_unet" in said and hint in said and not out.exists()
    if precision == "fp16":
        assert main(["export", str(folder), "--out", str(out)]) == 0


def test_a_lokr_of_whole_matrices_is_exported_in_half_precision(cook: Cook, tmp_path: Path) -> None:
    """Its rank, and so its alpha, is beyond fp16, and nobody reads either."""
    folder, _ = cook("lokr", dim=100_000, alpha=1.0)
    out = tmp_path / "x.safetensors"
    assert main(["export", str(folder), "--precision", "fp16", "--out", str(out)]) == 0
    tensors = load_file(out)
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert {tensor.dtype for key, tensor in tensors.items() if tensor.dim()} == {torch.float16}
    assert unreadable(out) == []


def test_the_command_repeats_what_the_judges_said(cook: Cook, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = cook("lora", dim=2, alpha=1.0)
    kept, file = find_checkpoint("sweep/0000-a-s0", subject="export").step, folder / "metrics.json"
    verdict = {"kept": kept, "sentence": "Done at step 8; use it at 0.9 to 1."}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"verdict": verdict}))

    assert main(["export", "sweep/0000-a-s0"]) == 0
    told = capsys.readouterr().out
    assert told.endswith("judged at LoRA weight 0.7. Done at step 8; use it at 0.9 to 1.\n")

    assert main(["export", "sweep/0000-a-s0", "--step", "4"]) == 0
    assert capsys.readouterr().out.endswith("judged at LoRA weight 0.7.\n") == (kept != 4)


def test_the_command_says_who_reads_the_file_and_what_to_type_for_the_others(
    cook: Cook, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = cook("loha", dim=2, alpha=1.0)
    assert main(["export", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "read as judged by ComfyUI, Forge and A1111" in said
    assert "not by kohya's sd-scripts and diffusers, which want --for kohya or --for diffusers" in said
    assert main(["export", str(folder), "--for", "comfyui", "--for", "kohya"]) == 0
    said = capsys.readouterr().out
    assert "-lora.safetensors" in said and "kohya's sd-scripts and diffusers\n" in said and "not by" not in said
    with pytest.raises(SystemExit) as refused:
        main(["export", str(folder), "--for", "invokeai"])
    assert refused.value.code == 2 and "diffusers" in capsys.readouterr().err


def test_an_ia3_is_written_for_everyone_unless_told_otherwise(cook: Cook, tmp_path: Path) -> None:
    folder, _ = cook("ia3", text_encoder=True)
    (made,) = export_run(find_checkpoint(str(folder), subject="export"), out=tmp_path)
    assert made.form == "lora" and made.read_by == tuple(forms.READERS)
    told = metadata(Path(made.file))
    assert told["ss_network_module"] == "networks.lora" and told["ss_network_dim"] == "Dynamic"


def test_a_lora_is_its_own_plain_form(cook: Cook, tmp_path: Path) -> None:
    folder, _ = cook("dylora", dim=8, alpha=4.0, unit=4)
    run = find_checkpoint(str(folder), subject="export")
    (made,) = export_run(run, out=tmp_path, ranks=4, form="lora")
    assert made.form == "factors" and made.rank == 4
    with pytest.raises(InputError, match="ranks  cuts factors, got form diff"):
        export_run(run, out=tmp_path, ranks=[4], form="diff")


def test_the_help_says_who_reads_what_as_the_adapters_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")  # as a table, whose rows are folded where there is less room
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    told = capsys.readouterr().out
    page = (Path(__file__).parents[4] / "docs" / "export.md").read_text(encoding="utf-8")
    for kind in ADAPTERS:
        line = next(line for line in told.splitlines() if re.match(rf" +([a-z0-9]+, )*{kind}[ ,]", line))
        row = next(row for row in page.splitlines() if re.match(rf"\| ([a-z0-9]+, )*{kind}[ ,]", row))
        readers = [forms.READERS[reader] for reader in forms.read_by(kind, "factors")]
        words = "all five" if len(readers) == len(forms.READERS) else ", ".join(readers)
        assert line.split("  ", 2)[2].lstrip().startswith(words), line
        assert row.split(" | ")[1].startswith(words), row


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("file/x.safetensors", "results cannot be written here"),
        ("file/x", "results cannot be written here"),
        ("file", "must end in .safetensors, or be a folder, got"),
        ("x.ckpt", "must end in .safetensors, or be a folder, got"),
        ("x.PT", "must end in .safetensors, or be a folder, got"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_refused(
    cook: Cook, home: Path, capsys: pytest.CaptureFixture[str], out: str, told: str
) -> None:
    cook("lora")
    (home / "file").write_text("not a folder", encoding="utf-8")
    assert main(["export", "sweep/0000-a-s0", f"--out={home / out}"]) == 2
    assert told in capsys.readouterr().err
    assert not (home / out).exists() or (home / out).read_text(encoding="utf-8") == "not a folder"


def test_a_run_folder_of_somebody_else_is_refused(
    cook: Cook, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(**_: object) -> object:
        raise PermissionError(errno.EACCES, "Permission denied")

    cook("lora")
    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    assert main(["export", "sweep/0000-a-s0"]) == 2
    told = capsys.readouterr().err
    assert "results cannot be written here: Permission denied" in told and "choose another place with --out" in told


def test_the_advice_to_take_the_best_is_given_where_it_can_be_taken(
    cook: Cook, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cook("lora")
    assert main(["export", "sweep"]) == 2  # single runs: nothing ranks them
    assert "is a sweep, not a run  (name one of its runs: sweep/0000-a-s0)" in capsys.readouterr().err


def test_readers_may_be_written_as_they_call_themselves(cook: Cook, capsys: pytest.CaptureFixture[str]) -> None:
    cook("lora")
    assert main(["export", "sweep/0000-a-s0", "--for", "ComfyUI", "--for", "A1111"]) == 0
    assert "read as judged by ComfyUI" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"precision": "fp8", "form": "ckpt"}, "2 problems in export"),
        ({"precision": "fp8"}, "must be one of fp32, fp16, got 'fp8'"),
        ({"readers": ["comfy"]}, "not known: comfy"),
    ],
)
def test_words_are_checked_from_python_too(how: dict[str, Any], said: str, cook: Cook) -> None:
    folder, _ = cook("lora", dim=4, alpha=2.0, targets="attn")
    with pytest.raises(InputError, match=said):
        ls.export(folder, **how)
    assert not (folder / "export").exists()
