"""What an exported file says of brakes and regularization images: kohya's keys, and nobody's folders."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from tiny_training import make_plan, make_recipe

from lorasweep.core.records import Component, DatasetOptions, EncoderOptions, Status
from lorasweep.core.run_folder import TrialRecord
from lorasweep.results.export import metadata
from lorasweep.results.runs import Checkpoint


def described(tmp_path: Path, *, reg: bool, **places: Any) -> dict[str, str]:
    brakes = {"scale_norm": {"max_norm": 2.0}, "reg_images": {"path": "/home/me/girls", "share": 1.0}}
    folders = DatasetOptions(masks="/home/me/masks", holdout_path="/home/me/kept")
    recipe = make_recipe(Path("base"), regularization=brakes if reg else {}, dataset=folders)
    plan = make_plan(recipe, tmp_path / "images")
    recipe = dataclasses.replace(recipe, **places)
    images = [
        dataclasses.replace(image, split="regularization", concept="reg_images", repeats=3, loss_weight=0.5)
        for image in plan.train_images()
    ]
    run = Checkpoint(
        folder=tmp_path,
        file=tmp_path / "adapter.safetensors",
        step=8,
        recipe=recipe,
        plan=dataclasses.replace(plan, reg_images=tuple(images) if reg else ()),
        record=TrialRecord(number=0, arm="a", seed=0, status=Status.COMPLETED, fingerprint=""),
        metrics={},
    )
    return metadata.describe(run, output_name="zkw", text_width=None, form="factors", rank=None)


def test_kohyas_keys(tmp_path: Path) -> None:
    told = described(tmp_path, reg=True)
    assert told["ss_num_reg_images"] == "12" and told["ss_prior_loss_weight"] == "0.5"
    assert json.loads(told["ss_reg_dataset_dirs"]) == {"reg_images": {"n_repeats": 3, "img_count": 4}}
    assert told["ss_scale_weight_norms"] == "2.0" and told["ss_num_train_images"] == "6"
    assert "/home/me" not in "".join(told.values()) and "girls" in told["lorasweep.recipe"]

    plain = described(tmp_path, reg=False)
    assert plain["ss_num_reg_images"] == "0" and json.loads(plain["ss_reg_dataset_dirs"]) == {}
    assert not {"ss_prior_loss_weight", "ss_scale_weight_norms"} & plain.keys()


def test_every_file_and_folder_of_a_recipe_is_told_by_its_name_only(tmp_path: Path) -> None:
    """Whatever can be a place, of a record's optional texts: a knob of tomorrow counts as well."""
    recipe = make_recipe(Path("base"))
    places: dict[str, Any] = {"calibration": "/home/me/calibration", "encoders": EncoderOptions()}
    asked = 0
    for part in ("base", "dataset", "sample", "encoders"):
        record = places.get(part, getattr(recipe, part))
        paths = [field.name for field in dataclasses.fields(record) if field.type == "Text | None"]
        places[part] = dataclasses.replace(record, **{name: f"/home/me/{name}" for name in paths})
        asked += len(paths)
    places["adapter"] = Component(name="lora", options={**recipe.adapter.options, "init": "/home/me/init"})
    told = described(tmp_path, reg=True, **places)
    assert asked >= 10 and "/home/me" not in "".join(told.values())
