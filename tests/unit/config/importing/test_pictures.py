"""What a trainer draws on the way: `lorasweep import` brings what ours are drawn by, and says the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorasweep.cli import main

LINES = """# two of them

zkw, beach, hat --n blurry, low quality --w 512 --h 768 --d 7 --s 28 --l 6.5 --g 3.5
1girl, forest --w 512 --h 512 --D 7 --fs 3.0
"""
TOML = """[prompt]
width = 512
height = 768
negative_prompt = "blurry, low quality"
[[prompt.subset]]
prompt = "zkw, beach, hat"
seed = 7
sample_steps = 28
scale = 6.5
guidance_scale = 3.5
[[prompt.subset]]
prompt = "1girl, forest"
height = 512
seed = 7
"""
LISTED = [
    {"prompt": "zkw, beach, hat", "negative_prompt": "blurry, low quality", "width": 512, "height": 768, "seed": 7}
    | {"sample_steps": 28, "scale": 6.5, "guidance_scale": 3.5},
    "1girl, forest --w 512 --h 512 --d 7",
]
PROMPTS = ["zkw, beach, hat", "1girl, forest"]
Answer = Callable[..., dict[str, Any]]


@pytest.fixture
def answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Answer:
    """Import a config of kohya's with some options, or any other content, as JSON."""

    def run(content: dict[str, Any] | None = None, /, **options: Any) -> dict[str, Any]:
        given = {"network_module": "networks.lora", "network_dim": 8, "resolution": "512", **options}
        text = json.dumps(content) if content else "".join(f"{key} = {json.dumps(it)}\n" for key, it in given.items())
        (tmp_path / "config").write_text(text, encoding="utf-8")
        assert main(["import", str(tmp_path / "config"), "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return run


def told(found: dict[str, Any], kind: str, option: str) -> str:
    return "\n".join(f"{note['value']}: {note['reason']}" for note in found[kind] if note["option"] == option)


@pytest.mark.parametrize(("name", "text"), [("p.txt", LINES), ("p.toml", TOML), ("p.json", json.dumps(LISTED))])
def test_kohyas_prompts_are_brought(name: str, text: str, answer: Answer, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = answer(sample_prompts=name, sample_sampler="euler")
    wanted = {"sample.width": 512, "sample.height": 768, "sample.steps": 28, "sample.guidance": 6.5}
    wanted |= {"sample.rung_seeds": [7], "sample.seeds": [7, 8], "sample.sampler": "euler"}
    wanted |= {"base.negative_prompt": "blurry, low quality", "dataset.prompts.any": PROMPTS}
    assert {key: found["recipe"].get(key) for key in wanted} == wanted
    differs = told(found, "differs", "sample_prompts")
    said = ["[768, 512]: sample.height is one for all", "scale of 7.5", "hides burn"]
    assert [each for each in said if each not in differs] == []
    assert ("--fs" in told(found, "untranslated", "sample_prompts")) == (name == "p.txt")


def test_what_only_a_later_picture_says_is_told(answer: Answer, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("hat --w 512 --h 512\ncoat --w 512 --h 512 --n blurry\n", encoding="utf-8")
    differs = told(answer(sample_prompts="p.txt"), "differs", "sample_prompts")
    assert "['blurry']: base.negative_prompt is one for all pictures" in differs
    assert "sample.width is one for all" not in differs


def test_a_window_holds_the_lines_themselves(answer: Answer) -> None:
    found = answer({"LoRA_type": "Standard", "max_resolution": "512,512", "network_dim": 8, "sample_prompts": LINES})
    assert found["recipe"]["dataset.prompts.any"] == PROMPTS and found["recipe"]["sample.seeds"] == [7, 8]


def test_flux_is_told_its_guidance_and_has_no_scale(answer: Answer, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text(LINES, encoding="utf-8")
    found = answer(network_module="networks.lora_flux", sample_prompts="p.txt", sample_sampler="ddim")
    assert found["recipe"]["sample.guidance"] == 3.5 and "sample.sampler" not in found["recipe"]


def test_what_cannot_be_drawn_so_is_told(answer: Answer, tmp_path: Path) -> None:
    more = ["a ${prompt} --d 1", "null --d 2", "a: b # [c] --d 3"]
    listed = [{"prompt": "(hat:1.2)", "width": "wide", "height": 100}, *more]
    (tmp_path / "p.json").write_text(json.dumps(listed), encoding="utf-8")
    found = answer(sample_prompts="p.json", sample_sampler="euler_a")
    assert "sample.width" not in found["recipe"] and "sample.height" not in found["recipe"]
    assert found["recipe"]["dataset.prompts.any"] == ["(hat:1.2)", "null", "a: b # [c]"]
    untranslated = told(found, "untranslated", "sample_prompts")
    assert "a ${prompt}: prompt of a picture cannot be read" in untranslated
    assert found["recipe"]["sample.seeds"] == [1, 2]
    assert "the first two are taken" in told(found, "differs", "sample_prompts")
    assert "wide: width of a picture cannot be read" in untranslated and "sample.height=100 is refused" in untranslated
    assert "not as a weight" in told(found, "differs", "sample_prompts")
    assert "no sampler of ours" in told(found, "differs", "sample_sampler")
    (tmp_path / "p.txt").write_text("hat --ss euler\ncoat --ss ddim\n", encoding="utf-8")
    assert answer(sample_prompts="p.txt", sample_sampler="euler_a")["recipe"]["sample.sampler"] == "euler"
    found = answer(sample_prompts="elsewhere.txt")
    assert "is not here" in told(found, "left_out", "sample_prompts") and "dataset.prompts.any" not in found["recipe"]


def test_other_trainers_prompts_are_brought(answer: Answer, tmp_path: Path) -> None:
    drawn = {"width": 512, "height": 768, "seed": 7, "prompt": "zkw, beach, hat"}
    one_trainer = {
        "training_method": "LORA",
        "samples": [
            {**drawn, "negative_prompt": "blurry", "diffusion_steps": 28, "cfg_scale": 6.5},
            {**drawn, "prompt": "1girl, forest", "seed": 9, "random_seed": True},
            {**drawn, "prompt": "off", "enabled": False},
            {**drawn, "prompt": "", "width": ""},
        ],
    }
    sample = {**drawn, "neg": "blurry", "sample_steps": 28, "guidance_scale": 6.5, "sample_every": 250}
    del sample["prompt"]
    process: dict[str, Any] = {"type": "sd_trainer", "trigger_word": "zkw", "model": {"name_or_path": "/m"}}
    process["sample"] = {**sample, "prompts": ["[trigger], beach, hat", "1girl, forest"]}
    ai_toolkit = {"job": "extension", "config": {"process": [process]}}
    (tmp_path / "library.json").write_text(json.dumps({"forest": "1girl, forest"}))
    simple_tuner = {
        **{"model_family": "sdxl", "validation_prompt": "zkw, beach, hat", "validation_resolution": "512x768"},
        **{"validation_negative_prompt": "blurry", "validation_guidance": 6.5, "validation_num_inference_steps": 28},
        **{"validation_seed": 7, "user_prompt_library": "library.json"},
    }
    for content in (one_trainer, ai_toolkit, simple_tuner):
        recipe = answer(content)["recipe"]
        wanted = {"sample.width": 512, "sample.height": 768, "sample.steps": 28, "sample.guidance": 6.5}
        wanted |= {"sample.seeds": [7, 8], "base.negative_prompt": "blurry", "dataset.prompts.any": PROMPTS}
        assert {key: recipe.get(key) for key in wanted} == wanted
