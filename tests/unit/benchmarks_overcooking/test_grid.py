from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.overcooking import grid
from benchmarks.overcooking.__main__ import duration
from lorasweep import config

RUNS = grid.runs(setting=grid.Setting())


def test_every_recipe_meets_every_identity_and_seed_once() -> None:
    seen = Counter((run.recipe.name, run.identity, run.seed) for run in RUNS)
    assert set(seen.values()) == {1}
    assert len(seen) == len(grid.recipes()) * len(grid.IDENTITIES["by_hand"]) * len(grid.SEEDS)
    assert len(grid.IDENTITIES["by_hand"]) >= 3
    assert len(grid.SEEDS) >= 3


@pytest.mark.parametrize("part", [12, 24, 50, 100])
def test_any_beginning_is_balanced(part: int) -> None:
    begun = RUNS[:part]
    for counts in (Counter(run.identity for run in begun), Counter(run.seed for run in begun)):
        assert max(counts.values()) - min(counts.values()) <= 0.15 * part + 1


def test_every_dial_has_three_values() -> None:
    for dial, centre in grid.CENTRE.items():
        turned = [recipe for recipe in grid.recipes() if recipe.name.startswith(f"{dial}-")]
        assert len({str(recipe.dials[dial]) for recipe in turned} | {str(centre)}) >= 3


def test_every_recipe_composes() -> None:
    told = {run.recipe.dials["adapter"]: run for run in RUNS[: len(grid.recipes())]}
    assert len(told) >= 4
    for run in told.values():
        recipe = config.compose_recipe(run.overrides)
        assert recipe.seed == run.seed
        assert recipe.dataset.dollhouse.subject == run.identity
        assert recipe.optimizer.options["lr"] == pytest.approx(run.recipe.dials["lr"], rel=1e-4)


def test_durations() -> None:
    assert [duration(text) for text in ("90s", "60m", "2h", "5")] == [90, 3600, 7200, 300]


def test_the_runs_that_had_a_say_are_the_first_of_the_first_setting() -> None:
    short = grid.Setting(steps=4, rungs=1)
    assert [run.name for run in grid.runs(setting=short)[: grid.SETTLED_ON]] == sorted(
        grid.had_a_say(short), key=[run.name for run in RUNS].index
    )
    for other in (grid.Setting(base="dollhouse_flow"), grid.Setting(identities=grid.IDENTITIES["drawn"])):
        assert not grid.had_a_say(other)


def test_another_setting_is_another_base_other_identities_and_other_rates() -> None:
    setting = grid.Setting(base="dollhouse_flow", lr_times=0.5, identities=grid.IDENTITIES["all"])
    runs = grid.runs(setting=setting)
    assert {run.identity for run in runs[:60]} == set(grid.IDENTITIES["all"])
    words = set(runs[0].overrides)
    assert {"base=dollhouse_flow", f"optimizer.lr={grid.CENTRE['lr'] / 2:g}", "sample.sampler=euler"} <= words
