"""Whatever stands in a config of a table's options: a recipe that names every option, or exit code 2 with words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorasweep.cli import main
from lorasweep.config.importing import images
from lorasweep.config.kohya.options import TABLE as KOHYA
from lorasweep.config.trainers import ai_toolkit, diffusers, one_trainer, simple_tuner

ODD = [
    "",
    " ",
    "\x1b[31m",
    "\x00",
    "\u2028x",
    "a" * 300,
    "日本",
    "${oc.env:HOME}",
    "_target_",
    "1,2",
    "~nobody/x",
    "none",
]
WORDS = [
    "PRODIGY",
    "adamw8bit",
    "lycoris",
    "lokr",
    "LOHA",
    "COSINE",
    "sine",
    "area",
    "textfile",
    "FLOAT_8",
    "P2",
    "m.ckpt",
]
NUMBERS = [0, 1, -1, 7, 2**63 - 1, 0.0, 0.5, -0.1, 1e-8, 1e308, float("nan"), float("inf")]
SCALARS = st.sampled_from([*ODD, *WORDS]) | st.sampled_from(NUMBERS) | st.booleans() | st.none()
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.sampled_from(["a", "enable", "type"]), SCALARS)


def options_of(table: Any) -> st.SearchStrategy[dict[str, Any]]:
    names = sorted({*table.translated, *table.unsupported, *table.harmless, "bogus"})
    return st.dictionaries(st.sampled_from(names), VALUES, max_size=5)


def nested(options: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Dotted options as tables in tables, where nothing else is in the way."""
    for option, value in options.items():
        *path, name = option.split(".")
        place: Any = root
        for part in path:
            place = place.setdefault(part, {}) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place[name] = value
    return root


def one_trainers(options: dict[str, Any]) -> Any:
    config = nested(options, {"training_method": "LORA"})
    concept = config.pop("concepts", {})
    return {**config, "concepts": [concept, {"path": "/b", "type": concept.get("type")}]}


def ai_toolkits(options: dict[str, Any]) -> Any:
    process = nested(options, {"type": "sd_trainer", "model": {"arch": "sdxl"}})
    process["datasets"] = [process.get("datasets", {}), {"folder_path": "/b", "is_reg": True}]
    return {"job": "extension", "config": {"process": [process]}}


def simple_tuners(options: dict[str, Any]) -> Any:
    return nested(options, {"model_family": "sdxl", "data_backend_config": "backends.json"})


def scripts(options: dict[str, Any]) -> Any:
    said = {key: value for key, value in options.items() if not isinstance(value, dict)}  # a command line has none
    return {diffusers.MARK: "train_dreambooth_lora_flux", "with_prior_preservation": True, **said}


def kohya_windows(options: dict[str, Any]) -> Any:
    fields = {key: value for key, value in options.items() if "." not in key and not isinstance(value, dict)}
    return {"LoRA_type": "LyCORIS/LoKr", "conv_dim": 4, **fields}


@settings(
    max_examples=30,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@pytest.mark.parametrize(
    ("table", "write"),
    [
        (one_trainer.TABLE, one_trainers),
        (ai_toolkit.TABLE, ai_toolkits),
        (simple_tuner.TABLE, simple_tuners),
        (diffusers.TABLE, scripts),
        (KOHYA, kohya_windows),
    ],
    ids=["OneTrainer", "ai-toolkit", "SimpleTuner", "diffusers", "kohya_ss"],
)
@given(data=st.data())
def test_any_value_of_any_option_is_read_listed_or_refused(
    data: st.DataObject, table: Any, write: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = data.draw(options_of(table))
    config, out = tmp_path / "c.json", tmp_path / "r.yaml"
    datasets = {option.partition(".")[2]: value for option, value in options.items() if option.startswith("datasets.")}
    (tmp_path / "backends.json").write_text(json.dumps([nested(datasets, {"instance_data_dir": "/d"})]))
    config.write_text(json.dumps(write(dict(options))), encoding="utf-8")
    out.unlink(missing_ok=True)
    code = main(["import", str(config), "-o", str(out)])
    said = capsys.readouterr().err
    assert code in (0, 2) and said.strip() and "\x1b" not in said
    assert out.exists() == (code == 0)
    if code == 0:
        written = out.read_text(encoding="utf-8")
        silent = [option for option in said_in(write(dict(options))) if not re.search(rf"\b{option}\b", written)]
        assert silent == []


def said_in(content: Any) -> list[str]:
    """The options that a file says something about, by their dotted names."""
    if "job" in content:
        content = content["config"]["process"][0]
    rest = {key: value for key, value in content.items() if key not in ("concepts", "datasets")}
    return [
        re.escape(option)
        for option, value in images.flatten(rest).items()
        if value not in (None, False, "", [], {}) and not re.match(r"optimizer\.|conv_dim|datasets\.", option)
    ]
