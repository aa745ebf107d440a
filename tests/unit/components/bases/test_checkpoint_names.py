"""Which tensors a whole checkpoint holds, by diffusers' own readers; one that is missing is known to `plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_checkpoint import all_names, headed

from lorasweep.cli import main
from lorasweep.components.bases._families import SDXL, STABLE_DIFFUSION, Family

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
