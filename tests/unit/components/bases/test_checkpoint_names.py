"""Which tensors a whole checkpoint holds, by diffusers' own readers; one that is missing is known to `plan`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_checkpoint import all_names, headed
from tiny_sdxl import change_json

from lorasweep.cli import main
from lorasweep.components.bases import _files, stable_diffusion
from lorasweep.components.bases._checkpoint_names import expected
from lorasweep.components.bases._families import SDXL, STABLE_DIFFUSION, Family
from lorasweep.core.records import BaseOptions

FAMILIES = pytest.mark.parametrize("family", [STABLE_DIFFUSION, SDXL], ids=lambda family: family.name)


@FAMILIES
def test_diffusers_makes_every_weight_of_these_tensors_and_needs_them_all(family: Family) -> None:
    import diffusers
    import transformers
    from diffusers.loaders import single_file_utils as readers

    held = {name: torch.empty(4, 4, device="meta") for name in all_names(family)}
    config = diffusers.UNet2DConditionModel.load_config(family.shipped / "unet")
    vae = diffusers.AutoencoderKL.load_config(family.shipped / "vae")
    made = {
        "unet": readers.convert_ldm_unet_checkpoint(held, config),
        "vae": readers.convert_ldm_vae_checkpoint(held, vae),
        "text_encoder": readers.convert_ldm_clip_checkpoint(held),
    }
    in_one = 0  # OpenCLIP has queries, keys and values in one tensor
    if "text_encoder_2" in family.classes:
        prefix = "conditioner.embedders.1.model."
        made["text_encoder_2"] = readers.convert_open_clip_checkpoint(None, held, prefix=prefix)
        in_one = 32 * (6 - 2)
    for part, kind in family.classes.items():
        source: Any = getattr(diffusers, kind, None) or getattr(transformers, kind)
        with torch.device("meta"):
            if part.startswith("text"):
                model = source(transformers.CLIPTextConfig.from_pretrained(family.shipped / part))
            else:
                model = source.from_config(source.load_config(family.shipped / part))
        wanted = {name.removeprefix("text_model.") for name in model.state_dict()}
        assert {name.removeprefix("text_model.") for name in made[part]} == wanted
    assert len(held) == sum(map(len, made.values())) - in_one


@FAMILIES
@pytest.mark.parametrize(
    "part", ["diffusion_model.middle_block.1.norm.bias", "decoder.up.1.upsample.conv.weight", "layers.3.mlp.fc2.bias"]
)
def test_a_checkpoint_without_a_tensor_is_refused_by_plan(
    family: Family, part: str, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = all_names(family)
    (gone,) = [name for name in names if name.endswith(part)]
    del names[gone]
    file = headed(tmp_path / "torn.safetensors", names)
    assert main(["plan", f"base={family.name}", f"base.path={file}"]) == 2
    assert f"must be whole, got torn.safetensors without {gone} (take another copy" in " ".join(
        capsys.readouterr().err.split()
    )


def problems(path: Path) -> str:
    options = BaseOptions(name="stable_diffusion", path=str(path), resolution=512, bucket_step=64)
    return " ".join(message for _, message, _ in stable_diffusion.problems(options))


def test_a_second_stable_diffusion_is_a_first_that_reads_wider_text(tmp_path: Path) -> None:
    configs = Path(shutil.copytree(STABLE_DIFFUSION.shipped, tmp_path / "second"))
    change_json(configs / "unet" / "config.json", cross_attention_dim=1024)
    change_json(configs / "text_encoder" / "config.json", hidden_size=1024, num_hidden_layers=23)
    known = _files.known_shapes(configs, STABLE_DIFFUSION)
    whole = {names[0]: list(shape or [1]) for names, shape in expected(known, STABLE_DIFFUSION)}
    whole["cond_stage_model.model.ln_final.weight"] = [1024]
    file, key = (
        tmp_path / "second.safetensors",
        "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_v.weight",
    )
    assert whole[key] == [1280, 1024] and problems(headed(file, whole)) == ""
    assert f"with others: {key}" in problems(headed(file, {**whole, key: [1280, 768]}))
    del whole[key]
    assert f"must be whole, got second.safetensors without {key}" in problems(headed(file, whole))


@pytest.mark.parametrize(
    ("shape", "said"), [(None, "without conv_in.weight"), ([320, 4, 1, 1], "others: conv_in.weight")]
)
def test_a_folder_is_held_against_the_shapes_of_its_size(tmp_path: Path, shape: list[int] | None, said: str) -> None:
    folder = Path(shutil.copytree(STABLE_DIFFUSION.shipped, tmp_path / "folder"))
    for part, modules in _files.known_shapes(folder, STABLE_DIFFUSION).items():
        held = {f"{module}.weight": list(found) for module, found in modules.items()}
        stem = "diffusion_pytorch_model" if part == "unet" else "model"
        headed(folder / part / f"{stem}.safetensors", held)
    headed(folder / "vae" / "diffusion_pytorch_model.safetensors", {"encoder.conv_in.weight": [128, 3, 3, 3]})
    assert problems(folder) == ""
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    held = {f"{m}.weight": list(s) for m, s in _files.known_shapes(folder, STABLE_DIFFUSION)["unet"].items()}
    held.pop("conv_in.weight")
    headed(weights, held | ({"conv_in.weight": shape} if shape else {}))
    assert said in problems(folder)
