"""The embedded base takes another folder of its own kind, and no Stable Diffusion by mistake."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from lorasweep.components.bases import dollhouse, stable_diffusion
from lorasweep.core.records import BaseOptions


def options(path: Path | str | None) -> BaseOptions:
    return BaseOptions(name="dollhouse", path=path and str(path), resolution=64, bucket_step=8)


def test_a_folder_of_its_size_is_taken(tiny_sd: Path) -> None:
    assert dollhouse.problems(options(None)) == []
    assert dollhouse.problems(options(tiny_sd)) == []


def test_a_stable_diffusion_is_answered_with_the_base_that_was_meant(tiny_sd: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_sd, tmp_path / "sd15"))
    file = folder / "unet" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "sample_size": 128}))

    ((key, message, hint),) = dollhouse.problems(options(folder))

    assert key == "path" and "a base of 512 x 512 px" in message
    assert f"base=stable_diffusion base.path={folder}" in hint
    meant = BaseOptions(name="stable_diffusion", path=str(folder), resolution=512, bucket_step=64)
    assert stable_diffusion.problems(meant) == []


def test_an_empty_path_is_a_path_that_was_not_given() -> None:
    nothing = BaseOptions(name="stable_diffusion", path="", resolution=512, bucket_step=64)
    ((_, message, _),) = stable_diffusion.problems(nothing)
    assert "must be given" in message
