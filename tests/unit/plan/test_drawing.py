from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lorasweep.core.records import Recipe
from lorasweep.plan import make_plan, sample_requests
from lorasweep.plan.cost import pictures
from lorasweep.plan.sample_requests import PER_TIER, STRANGERS

MakeRecipe = Callable[..., Recipe]


def test_requests_follow_weights_then_tiers_then_seeds(recipe_of: MakeRecipe) -> None:
    recipe = recipe_of("base.negative_prompt='green hat'", "sample.height=48", "sample.class_seeds=2")
    found = sample_requests.requests(recipe, make_plan(recipe), weights=(0.4, 0.7), seeds=(0, 1))
    assert [(r.weight, r.tier, r.seed) for r in found] == [
        (weight, tier, seed)
        for weight in (0.4, 0.7)
        for tier, prompts in (
            ("in_distribution", PER_TIER),
            ("recombined", PER_TIER),
            ("class", STRANGERS),
            ("unrelated", PER_TIER),
        )
        for _ in range(prompts)
        for seed in (0, 1)
    ]
    assert {(r.width_px, r.height_px) for r in found} == {(recipe.base.resolution, 48)}
    assert {r.negative_prompt for r in found} == {"green hat"}
    assert len(set(found)) == len(found)


def test_strangers_are_drawn_from_the_first_seeds_only(recipe_of: MakeRecipe) -> None:
    recipe = recipe_of("sample.seeds=[5,6,7]", "sample.class_seeds=2")
    found = [r for r in sample_requests.in_full(recipe, make_plan(recipe)) if r.weight == recipe.sample.weight]
    assert {r.seed for r in found if r.tier == "class"} == {5, 6}
    assert {r.seed for r in found if r.tier != "class"} == {5, 6, 7}


def test_the_other_weights_are_drawn_as_the_rungs_are(recipe_of: MakeRecipe) -> None:
    recipe = recipe_of("sample.rung_seeds=[3]", "sample.seeds=[0,1]", "sample.weights=[0.4,0.7,1.0]")
    plan = make_plan(recipe)
    found = sample_requests.in_full(recipe, plan)
    for weight in (0.4, 1.0):
        ladder = [replace(r, weight=0.7) for r in found if r.weight == weight]
        assert ladder == sample_requests.at_rung(recipe, plan)


def test_the_base_draws_whatever_is_compared_with_it(recipe_of: MakeRecipe) -> None:
    """Rungs and the end may start from other noises; strangers then take the first of each."""
    recipe = recipe_of("sample.rung_seeds=[3]", "sample.seeds=[0,1]")
    plan = make_plan(recipe)
    by_base = {(r.prompt, r.seed) for r in sample_requests.by_base(recipe, plan)}
    drawn = [*sample_requests.at_rung(recipe, plan), *sample_requests.in_full(recipe, plan)]
    assert {(r.prompt, r.seed) for r in drawn} == by_base
    assert len(sample_requests.by_base(recipe, plan)) == len(by_base)


def test_the_rung_that_is_kept_is_not_drawn_twice(recipe_of: MakeRecipe) -> None:
    recipe = recipe_of("train.rungs=3", "sample.rung_seeds=[0]", "sample.seeds=[0]", "sample.weights=[0.7]")
    plan = make_plan(recipe)
    assert pictures(plan, recipe) == 3 * len(sample_requests.at_rung(recipe, plan))
