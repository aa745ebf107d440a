"""Every sweep that ships can be planned, asks one question, and fits a coffee break."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lorasweep import api
from lorasweep.config import load_sweep, sweeps_dir

DOLLS = "the images are the embedded paper dolls: dataset.path=FOLDER trains on yours"
YOURS = {"sdxl", "flux", "z_image", "anima"}  # ask about a base of one's own
NAMES = sorted({path.stem for path in sweeps_dir().glob("*.yaml")} - YOURS)
ISSUED = {"article", "optimizers", "adapters", "bucket_sets", "overlap", "captions", "quickstart"}


def test_those_that_the_readme_speaks_of_are_there() -> None:
    assert set(NAMES) >= ISSUED


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_sweep_is_planned(name: str, home: Path) -> None:
    spec = load_sweep(name)
    data = api.plan(spec).to_json()
    assert (sweeps_dir() / f"{name}.yaml").read_text(encoding="utf-8").startswith(f"# lorasweep sweep {name}\n")
    assert spec.question.endswith("?")
    assert (2 <= len(spec.arms) <= 8 or spec.search) and all(arm.note for arm in spec.arms)
    fingerprints = [arm["fingerprint"] for arm in data["arms"]]
    assert len(set(fingerprints)) == len(fingerprints)
    assert all(arm["estimated_seconds"] < 600 for arm in data["arms"])  # one worker, one thread, our own speed
    for warning in data["warnings"]:
        assert "never seen" not in warning and "undercooked" not in warning and "keep optimizer.lr" not in warning


def test_overlap_trains_the_character_more_than_any_outfit(home: Path) -> None:
    arms = {arm["name"]: arm for arm in api.plan(load_sweep("overlap")).to_json()["arms"]}
    trained = {name: arm["tag_exposures"]["zkw"] for name, arm in arms.items()}
    assert trained["joint"] == trained["scale_norm"] == trained["prodigy"] > 2.5 * 720
    assert trained["decoupled"] == pytest.approx(trained["joint"] / 2, rel=0.05)
    assert len({tuple(arm["exposures"].items()) for arm in arms.values()}) == 1


def test_the_questions_about_sdxl_are_planned_on_any_sdxl(tiny_sdxl: Path, home: Path) -> None:
    size = ["base.resolution=32", "base.bucket_step=8", "buckets=kohya"]
    spec = load_sweep("sdxl", [f"base.path={tiny_sdxl}", *size])
    assert len(spec.arms) == 8 and all(arm.note for arm in spec.arms)
    data = api.plan(spec).to_json()
    assert len({arm["fingerprint"] for arm in data["arms"]}) == 8
    trained = {arm["name"]: arm["trainable"]["tensors"] for arm in data["arms"]}
    assert trained["start"] < trained["full"] and trained["start"] < trained["text_encoders"]
    assert data["warnings"] == [DOLLS]
    assert data["arms"][-1]["learning_rate"].keys() == {"unet", "text_encoder", "text_encoder_2"}


@pytest.mark.parametrize(("name", "base"), [("flux", "flux1_dev"), ("z_image", "z_image"), ("anima", "anima")])
def test_the_questions_about_transformers_are_planned_on_any_of_them(
    name: str, base: str, tiny_flow: Callable[[str], Path], home: Path
) -> None:
    spec = load_sweep(name, [f"base.path={tiny_flow(base)}", "base.resolution=32", "base.bucket_step=8"])
    data = api.plan(spec).to_json()
    assert len({arm["fingerprint"] for arm in data["arms"]}) == len(spec.arms) >= 7 and all(a.note for a in spec.arms)
    assert {tuple(arm["learning_rate"]) for arm in data["arms"]} == {("transformer",)}
    assert data["warnings"] == [DOLLS]
