"""What `lorasweep plan` shows: JSON for scripts, tables for people, and no torch."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from lorasweep import api
from lorasweep.cli.plan_view.tables import print_plan
from lorasweep.config import load_sweep
from lorasweep.core import paths
from lorasweep.core.errors import InputError
from lorasweep.core.records import Recipe
from lorasweep.plan import cost, make_plan
from lorasweep.plan.cost import ASSUMED

MakeRecipe = Callable[..., Recipe]


def test_a_recipes_json_is_its_plan(recipe_of: MakeRecipe, photos: Path) -> None:
    recipe = recipe_of(f"dataset.path={photos}", "buckets=four")
    plan = make_plan(recipe)

    data = json.loads(json.dumps(api.plan(recipe).to_json(), allow_nan=False))

    assert (data["trials"], data["steps_per_trial"], data["exposures"]) == (1, plan.steps, plan.exposures)
    assert data["rungs"] == list(plan.rungs) and data["warnings"] == list(plan.warnings)
    assert sum(bucket["batches_per_epoch"] for bucket in data["buckets"]) == plan.batches_per_epoch
    assert sum(bucket["images"] for bucket in data["buckets"]) == len(plan.train_images())
    assert len(data["images"]) == len(plan.images)
    image = data["images"][0]
    assert image["crop"][2] - image["crop"][0] == image["bucket"][0]
    assert image["crop"][3] - image["crop"][1] == image["bucket"][1]
    assert set(image) == {
        "file", "split", "size", "bucket", "resize", "crop", "repeats", "caption", "concept"
    }  # fmt: skip
    assert data["estimated_seconds"] > 0
    assert [arm["name"] for arm in data["arms"]] == ["recipe"]


def test_a_sweeps_json_has_every_arm_and_the_first_one_on_top(home: Path, tiny_sd: Path) -> None:
    spec = load_sweep("quickstart", [f"base.path={tiny_sd}"])

    data = api.plan(spec).to_json()

    assert (data["name"], data["trials"]) == ("quickstart", spec.total)
    assert [arm["name"] for arm in data["arms"]] == [arm.name for arm in spec.arms]
    assert data["exposures"] == data["arms"][0]["exposures"]
    assert data["arms"][0]["differs"] == []
    four = next(arm for arm in data["arms"] if "buckets=four" in arm["overrides"])
    assert len(four["buckets"]) == 4
    assert any("4 bucket(s) instead of 1" in difference for difference in four["differs"])


def test_time_follows_steps_and_the_measured_speed(recipe_of: MakeRecipe) -> None:
    def seconds(*overrides: str) -> float:
        return float(api.plan(recipe_of("launcher.workers=1", *overrides)).to_json()["estimated_seconds"])

    short, long = seconds("train.max_steps=100"), seconds("train.max_steps=1100")
    training_s = 1000 * 4 * 64 * 64 / ASSUMED["train"]
    assert long - short == pytest.approx(training_s, abs=0.2)
    cost.remember(recipe_of("launcher.workers=1").base, 2 * ASSUMED["train"])
    assert seconds("train.max_steps=1100") - seconds("train.max_steps=100") == pytest.approx(training_s / 2, abs=0.2)
    (paths.cache() / "speed.json").write_text("torn")
    assert seconds("train.max_steps=1100") == long


def test_tables_show_arms_buckets_exposures_and_warnings(recipe_of: MakeRecipe, photos: Path) -> None:
    stream = io.StringIO()

    recipe = recipe_of(f"dataset.path={photos}", "train.epochs=500")
    print_plan(api.plan(recipe), Console(file=stream, width=120))

    text = stream.getvalue()
    for words in ("64x64", "concept 3_zkw outfit1", "tag zkw", "expect overcooking", "1 trial, about"):
        assert words in text


def test_a_plans_table_counts_buckets_and_not_sizes_of_files(recipe_of: MakeRecipe) -> None:
    planned = api.plan(recipe_of("buckets=single", "dataset.dollhouse.shapes=photos"))
    (plan,) = planned.plans.values()
    assert len({(image.width_px, image.height_px) for image in plan.train_images()}) > 1
    assert list(planned.table["buckets"]) == [1]


def test_warnings_are_announced_first_and_stand_last(recipe_of: MakeRecipe, photos: Path) -> None:
    recipe = recipe_of(f"dataset.path={photos}", "train.epochs=500")
    warnings = make_plan(recipe).warnings
    stream = io.StringIO()

    print_plan(api.plan(recipe), Console(file=stream, width=80))

    lines = stream.getvalue().splitlines()
    words = f"{len(warnings)} warning"
    assert lines[0].startswith(words) and lines[0].endswith("at the end of this plan")
    (heading,) = [number for number, line in enumerate(lines) if number and line.startswith(words)]
    rest = " ".join(" ".join(lines[heading:]).split())
    for number, warning in enumerate(warnings, 1):
        assert f"{number}. {warning}" in rest
    assert not any(mark in rest for mark in "┃│") and "1 trial, about" in lines[-1]


def test_without_warnings_nothing_is_announced(recipe_of: MakeRecipe) -> None:
    calm = recipe_of("train.max_steps=120", "optimizer.lr=5e-3")
    assert not make_plan(calm).warnings
    stream = io.StringIO()
    print_plan(api.plan(calm), Console(file=stream, width=120))
    assert "warning" not in stream.getvalue()


def test_schedules_are_drawn_per_part_with_their_own_peaks(recipe_of: MakeRecipe, photos: Path) -> None:
    recipe = recipe_of(
        f"dataset.path={photos}",
        "train.max_steps=96",
        "adapter.text_encoder=true",
        "optimizer.lr=1e-3",
        "optimizer.text_encoder_lr=2e-4",
        "scheduler=linear",
    )
    found = api.plan(recipe).to_json()["learning_rate"]
    assert list(found) == ["unet", "text_encoder"]
    assert (found["unet"]["peak"], found["text_encoder"]["peak"]) == (1e-3, 2e-4)
    assert found["unet"]["last"] == pytest.approx(1e-3 / 96)
    # 32 columns of three steps each: the means of a straight line.
    wanted = [1e-3 * (96 - 3 * column - 1) / 96 for column in range(32)]
    assert found["unet"]["shape"] == pytest.approx(wanted)
    few = api.plan(recipe_of("train.max_steps=3", "scheduler=constant")).to_json()["learning_rate"]["unet"]
    assert len(few["shape"]) == 3 and len(set(few["shape"])) == 1


@pytest.mark.parametrize(("encoding", "ends"), [("utf-8", ("█▇", "▁▁")), ("ascii", ("#*", "__"))])
def test_a_falling_schedule_is_drawn_falling(
    recipe_of: MakeRecipe, photos: Path, encoding: str, ends: tuple[str, str]
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    recipe = recipe_of(f"dataset.path={photos}", "train.max_steps=96", "scheduler=rex", "scheduler.bend=0.0")
    print_plan(api.plan(recipe), Console(file=stream, width=80))
    text = stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    line = next(line for line in text.splitlines() if "unet" in line)
    curve = max(line.split(), key=len)
    assert len(curve) == 32 and curve[0] == ends[0][0] and ends[0][1] in curve and curve.endswith(ends[1])
    assert sorted(curve, key=("▁▂▃▄▅▆▇█" if encoding == "utf-8" else "_.:-=+*#").index)[::-1] == list(curve)


def test_problems_of_all_arms_are_raised_together(home: Path, tiny_sd: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "two.yaml"
    sweep.write_text(
        "sweep:\n  question: why?\n  metric: {name: overcook/utility}\n  arms:\n"
        "    one: {dataset.dollhouse.subject: nobody}\n    two: {dataset.dollhouse.images: 2, "
        "dataset.dollhouse.outfits: 3}\n"
    )

    with pytest.raises(InputError) as caught:
        api.plan(load_sweep(str(sweep), [f"base.path={tiny_sd}"])).to_json()

    assert [problem.where for problem in caught.value.problems] == [
        "dataset.dollhouse.subject",
        "dataset.dollhouse.images",
    ]


def test_planning_from_the_command_line_needs_no_torch(home: Path, tiny_sd: Path) -> None:
    code = (
        "import sys; from lorasweep.cli import main; "
        f"code = main(['plan', 'quickstart', 'base.path={tiny_sd}', '--json']); "
        "sys.exit(code or ('torch' in sys.modules and 9))"
    )
    environment = {**os.environ, "LORASWEEP_HOME": str(home)}

    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)

    assert json.loads(result.stdout)["name"] == "quickstart"
