"""Which keys become params."""

from __future__ import annotations

from typing import Any

from lorasweep.core.records import to_dict
from lorasweep.results.params import flatten, run_params, telling_keys


def test_flatten_gives_the_keys_people_type(fakes: Any) -> None:
    flat = flatten(to_dict(fakes.recipe(fakes.ARMS[0], 0, 20)))
    assert flat["adapter.dim"] == 16 and flat["adapter.name"] == "lora"
    assert flat["train.max_steps"] == 20
    assert flat["sample.weights"] == [0.4, 0.7, 1.0]
    assert not any(key.startswith(("tracking", "launcher")) for key in flat)
    assert flat["regularization.name"] == "none"
    several = flatten({"regularization": {"scale_norm": {"max_norm": 1.0}, "reg_images": {"share": 2.0}}})
    assert several["regularization.name"] == "scale_norm+reg_images"
    assert several["regularization.scale_norm.max_norm"] == 1.0


def _arm(*overrides: str, **recipe: Any) -> dict[str, Any]:
    return {"overrides": list(overrides), "recipe": recipe}


def test_what_all_have_and_differs_tells_arms_apart() -> None:
    scheduler = {"name": "constant", "options": {}}
    annealed = {"name": "annealed", "options": {"gamma": 0.5}}
    arms = [_arm(seed=0, train={"lr": 1, "steps": 5}, scheduler=scheduler),
            _arm(seed=0, train={"lr": 2, "steps": 5}, scheduler=annealed)]  # fmt: skip
    assert telling_keys(arms) == ["scheduler.name", "train.lr"], "gamma follows from the schedule's name"


def test_what_was_typed_tells_too() -> None:
    arms = [_arm("adapter.conv_dim=4", "buckets=four", seed=0), _arm("+train.x=1", seed=0)]
    assert telling_keys(arms) == ["adapter.conv_dim", "train.x"], "a whole group is told by its name"


def test_a_point_of_a_search_is_told_by_what_it_sets() -> None:
    declared = _arm("optimizer.lr=1", seed=0, train={"lr": 1})
    point = {"name": "p000", "overrides": ["adapter=locon", "adapter.conv_dim=8"], "recipe": {}}
    assert telling_keys([declared, point]) == ["adapter.conv_dim", "optimizer.lr"]


def test_no_arms() -> None:
    assert telling_keys([]) == []


def test_buckets_are_called_as_they_were_chosen() -> None:
    recipe = {"seed": 3, "buckets": {"name": "chosen", "options": {"sizes": [[512, 512]]}}}
    assert run_params(recipe, {"overrides": ["buckets=four"]}, ["buckets.sizes"]) == {
        "seed": "3",
        "buckets": "four",
    }
    assert run_params(recipe, {}, [])["buckets"] == "chosen"
