"""A knob that is not given is as `conf/` ships it, whichever way the recipe comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lorasweep.config import compose_recipe, load_recipe, read_recorded
from lorasweep.core.errors import ConfigError
from lorasweep.core.records import to_dict

SHIPPED = {
    "a key taken out": (
        ["adapter=dora", "~adapter.dim", "~adapter.alpha"],
        "adapter",
        {"dim": 16, "alpha": 8.0},
    ),
    "a key taken out of a variant": (["adapter=locon_16", "~adapter.conv_dim"], "adapter", {"conv_dim": 32}),
    "a metric's": (["~metrics.norms.decompose"], "metrics", {"norms": {"decompose": 12}}),
}


@pytest.mark.parametrize("case", SHIPPED)
def test_what_is_not_given_is_as_shipped(case: str) -> None:
    words, group, wanted = SHIPPED[case]
    part = to_dict(compose_recipe(words))[group]
    found = part.get("options", part)
    assert {key: found[key] for key in wanted} == wanted


def test_a_recipe_file_that_takes_a_key_out_gets_the_shipped_value(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("recipe: {scheduler: cosine_with_restarts, ~scheduler.num_cycles: null}\n", encoding="utf-8")
    assert load_recipe(str(file)).scheduler.options["num_cycles"] == 3


@pytest.mark.parametrize("to_cook", [True, False])
def test_a_recipe_recorded_before_a_knob_existed_is_whole_when_read(tmp_path: Path, to_cook: bool) -> None:
    recipe = compose_recipe(["adapter=dora", "adapter.dim=4", "scheduler.warmup=7", "tracking=none"])
    old: dict[str, Any] = to_dict(recipe)
    del old["adapter"]["options"]["dropout"], old["adapter"]["options"]["targets"]
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(old), encoding="utf-8")
    assert read_recorded(file, to_cook=to_cook) == recipe

    del old["optimizer"]["options"]["eps"], old["metrics"]["identity"]["also"]
    file.write_text(yaml.safe_dump(old), encoding="utf-8")
    assert read_recorded(file) == recipe


def test_ranges_are_told_beside_a_wrong_type() -> None:
    words = ["adapter=lokr", "adapter.alpha=x", "adapter.factor=0", "metrics.norms.decompose=-1"]
    with pytest.raises(ConfigError) as caught:
        compose_recipe([*words, "buckets=kohya", "buckets.min_side=-8", "buckets.max_side=x"])
    assert {problem.where for problem in caught.value.problems} == {
        "adapter.alpha",
        "adapter.factor",
        "metrics.norms.decompose",
        "buckets.min_side",
        "buckets.max_side",
    }


def test_keys_that_moved_are_read_where_they_were_recorded(tmp_path: Path) -> None:
    recorded = to_dict(compose_recipe(["noise.min_snr_gamma=5", "noise.offset=0.05"]))
    del recorded["noise"]
    recorded["train"] |= {"min_snr_gamma": 5.0, "noise_offset": 0.05}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recorded), encoding="utf-8")

    noise = read_recorded(file).noise

    assert (noise.min_snr_gamma, noise.offset) == (5.0, 0.05)


def test_a_key_that_moved_may_still_be_typed() -> None:
    assert compose_recipe(["train.noise_offset=0.05"]) == compose_recipe(["noise.offset=0.05"])
