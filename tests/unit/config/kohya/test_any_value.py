"""Whatever stands in a kohya file: a recipe that composes and names everything, or exit code 2 with words."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorasweep.cli import main
from lorasweep.config import load_recipe
from lorasweep.config.kohya.options import TABLE


class Raw(str):
    """TOML as it is: a date."""


ODD = ["", " ", "zkw, 1girl", "a" * 300, "\x1b[31m", "\x00", "\u2028x", "'\"", "²", "D:\\img\\10_zkw"]
PLAIN = """
    x True none nan 0 -1 1e-4 1e999 512,512 % ~nobody/x ${oc.env:HOME} _target_ 日本 # fp16 .txt a/b m.ckpt
    AdamW Prodigy Adafactor pkg.DAdaptLion cosine polynomial cosine_with_min_lr lycoris.kohya networks.dylora
    x.CosineAnnealingWarmupRestarts x.RexLR
"""
WORDS = st.sampled_from([*ODD, *PLAIN.split()])
NUMBERS = st.sampled_from([0, 1, -1, 7, 10**9, 2**63 - 1, 0.0, 0.5, 1.0, 2.5, -0.1, 1e-8, 1e30, 1e308]) | st.floats()
SCALARS = WORDS | NUMBERS | st.booleans() | st.just("2024-01-01T00:00:00Z").map(Raw)
NAMES = ["conv_dim", "conv_alpha", "algo", "preset", "dora_wd", "factor", "unit", "dropout", "block_size"]
NAMES += ["betas", "weight_decay", "eps", "d_coef", "relative_step", "gamma", "min_lr", "warmup_steps"]
NAMES += ["first_cycle_steps", "cycle_mult", "rank_dropout", "decompose_both", "bogus"]
ARGUMENTS = st.lists(
    st.builds(
        lambda name, value, mark: f"{name}={value}{mark}",
        st.sampled_from(NAMES),
        SCALARS
        | st.sampled_from(["loha", "lokr", "ia3", "locon", "(0.9, 0.99)", "0.9,0.99", "true", "[1,2", "{[]:1}"]),
        st.sampled_from(["", ",", ", ", "'"]),
    ),
    max_size=3,
)
VALUES = SCALARS | ARGUMENTS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.sampled_from(NAMES), SCALARS)
OWN = {name for name in {*TABLE.translated, *TABLE.unsupported, *TABLE.harmless} if "." not in name}
OPTIONS = st.sampled_from(sorted(OWN | {"no such"}))
LISTS = [option for option, row in TABLE.translated.items() if row.kind is list]
FILES = st.dictionaries(OPTIONS, VALUES, max_size=4) | st.builds(
    lambda some, name, arguments: {**some, name: arguments},
    st.dictionaries(OPTIONS, VALUES, max_size=3),
    st.sampled_from(LISTS),
    ARGUMENTS,
)


def toml(value: Any) -> str:
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(str(key))} = {toml(inner)}" for key, inner in value.items()) + "}"
    return repr(value)


@settings(
    max_examples=120,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(options=FILES, subsets=st.lists(st.dictionaries(OPTIONS, VALUES, max_size=2), max_size=2))
def test_any_value_of_any_option_is_read_listed_or_refused(
    options: dict[str, Any], subsets: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = tmp_path / "c.toml", tmp_path / "r.yaml"
    lines = [f"{toml(option)} = {toml(value)}" for option, value in options.items()]
    lines += ["[[datasets]]"] if subsets else []
    for subset in subsets:
        lines += ["[[datasets.subsets]]", 'image_dir = "/d"']
        lines += [f"{toml(option)} = {toml(value)}" for option, value in subset.items() if option != "image_dir"]
    text = "\n".join(["seed_of_the_file = 1", *lines])
    tomllib.loads(text)
    config.write_text(text, encoding="utf-8")
    out.unlink(missing_ok=True)
    code = main(["import", str(config), "-o", str(out)])
    said = capsys.readouterr().err
    assert code in (0, 2) and said.strip() and "\x1b" not in said
    if code == 2:
        assert "problem" in said and not out.exists()
        return
    written = out.read_text(encoding="utf-8")
    for option, value in options.items():
        if not isinstance(value, dict):  # a table is a headline: its keys are options
            key, note = rf"  # {option}(\.\w+)?$", rf"^#   {option}(\.\w+)?( =|:|$)"
            assert re.search(f"{key}|{note}", written, re.MULTILINE), (option, value)
        for argument in value if option in LISTS and isinstance(value, list) else ():
            inner = re.escape(f"{option}.{argument.partition('=')[0]}")
            assert re.search(rf"(  # |^#   ){inner}( =|:|$)", written, re.MULTILINE), argument
    places = ("base.path", "dataset.path", "regularization.reg_images.path")
    swaps = [f"{key}={tmp_path}" for key in places if f"  {key}: " in written]
    swaps += ["optimizer=adamw"] if '"adamw8bit"' in written else []
    load_recipe(str(out), swaps)
