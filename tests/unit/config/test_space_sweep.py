"""Sweep files with a space, and axes on the command line: what they mean and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorasweep.config import SweepSpec, load_sweep, sweep_of_overrides
from lorasweep.config.sweep_spec import Constraint, Objective
from lorasweep.core.errors import ConfigError

GOOD = """
sweep:
  question: Does Prodigy cook less than AdamW at the same identity?
  metric: {name: overcook/utility, goal: maximize}
  total: 60
  seeds: [0, 1, 2]
  recipe: {train.max_steps: 100}
  arms:
    known: {optimizer: adamw, optimizer.lr: 2e-4, adapter.dim: 16}
    elsewhere: {optimizer: lion}
    too_large: {adapter.dim: 128}
    other_schedule: {scheduler: constant, optimizer.lr: 2e-4}
  space:
    optimizer: choice(adamw,prodigy)
    adapter: choice(lora,locon)
    adapter.dim: tag(log,int(interval(4,64)))
    when:
      optimizer=adamw:   {optimizer.lr: "tag(log,interval(1e-5,5e-4))"}
      optimizer=prodigy: {optimizer.d_coef: "interval(0.5,2)"}
      adapter=locon:     {adapter.conv_dim: "choice(8,16,32)"}
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweeps") / "mine.yaml"
    path.write_text(GOOD, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def good(file: Path) -> SweepSpec:
    return load_sweep(str(file))


def problems_of(file: Path, *overrides: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load_sweep(str(file), overrides)
    return {problem.where: f"{problem.message} ({problem.hint})" for problem in caught.value.problems}


def write(folder: Path, before: str, after: str) -> Path:
    assert before in GOOD
    path = folder / "bad.yaml"
    path.write_text(GOOD.replace(before, after), encoding="utf-8")
    return path


def test_the_issues_example(good: SweepSpec) -> None:
    assert good.search is not None
    assert (good.total, good.seeds, good.search.sampler.name) == (60, (0, 1, 2), "tpe")
    assert good.search.common == ("train.max_steps=100",)
    assert list(good.search.space.describe()) == [
        "optimizer",
        "adapter",
        "adapter.dim",
        "optimizer.lr[adamw]",
        "optimizer.d_coef[prodigy]",
        "adapter.conv_dim[locon]",
    ]


def test_arms_know_where_they_lie_in_the_space(good: SweepSpec) -> None:
    params = {arm.name: arm.params for arm in good.arms}

    assert params == {
        "known": {"optimizer": "adamw", "adapter": "lora", "adapter.dim": 16, "optimizer.lr[adamw]": 2e-4},
        "elsewhere": None,
        "too_large": None,
        "other_schedule": None,
    }


def test_corners_reach_every_combination_and_every_end(good: SweepSpec) -> None:
    assert good.search is not None
    corners = [dict(arm.params or {}) for arm in good.search.corners]

    assert {(corner["optimizer"], corner["adapter"]) for corner in corners} == {
        (optimizer, adapter) for optimizer in ("adamw", "prodigy") for adapter in ("lora", "locon")
    }
    for name, values in {
        "adapter.dim": {4, 64},
        "optimizer.lr[adamw]": {1e-5, 5e-4},
        "optimizer.d_coef[prodigy]": {0.5, 2.0},
        "adapter.conv_dim[locon]": {8, 16, 32},
    }.items():
        assert {corner[name] for corner in corners if name in corner} == values
    assert len(good.known) == 4 + len(corners)
    assert {arm.recipe.train.max_steps for arm in good.known} == {100}


def test_every_mistake_at_once(tmp_path: Path) -> None:
    bad = GOOD.replace("  recipe: {train.max_steps: 100}", "  recipe: {adapter.dim: 8}")
    bad = bad.replace(
        "    adapter.dim: tag",
        "    train.epochs: choice(4,8)\n    sample.weight: choice(0.5,0.7)\n    seed: range(0,3)\n"
        "    optimizer.lrr: choice(1,2)\n    adapter.conv_alpha: choice(1,2)\n    adapter.dim: tag",
    )
    bad = bad.replace("adapter=locon: ", "adapter=lokon: ").replace("interval(0.5,2)", "interval(-1,2)")
    (tmp_path / "bad.yaml").write_text(bad, encoding="utf-8")

    found = problems_of(tmp_path / "bad.yaml", "sweep.sampler=grid")

    assert "did you mean `locon`?" in found["sweep.space.when.adapter=lokon"]
    assert "its rungs are judged" in found["sweep.space.train.epochs"]
    assert "drawn at every weight" in found["sweep.space.sample.weight"]
    assert "seeds are repeats" in found["sweep.space.seed"]
    assert "under `recipe:` and searched" in found["sweep.space.adapter.dim"]
    assert "a grid has no end of values" in found["sweep.space.optimizer.lr[adamw]"]
    assert "unknown key for optimizer" in found["space: optimizer.lrr"]
    assert "put it under `when: adapter=locon:`" in found["space: adapter.conv_alpha"]
    assert "got -1" in found["space: optimizer.d_coef"] and "optimizer=prodigy" in found["space: optimizer.d_coef"]


@pytest.mark.parametrize(
    ("before", "after", "where", "message"),
    [
        ("  total: 60\n", "", "sweep.total", "sampler tpe has no end (e.g. total: 20"),
        ("  total: 60\n", "  total: 3\n", "sweep.total", "at least 12 (arms x seeds)"),
        ("  total: 60\n", "  total: 60\n  sampler: tpee\n", "sweep.sampler.name", "did you mean `tpe`?"),
        ("  total: 60\n", "  total: 60\n  sampler: pareto\n", "sweep.sampler", "two metrics or a constraint"),
        ("  total: 60\n", "  total: 60\n  pruner: {exempt: 2}\n", "sweep.pruner.exempt", "in [0, 1]"),
        (
            "  total: 60\n",
            "  total: 60\n  constraints: {burn/score: 1}\n",
            "sweep.constraints.burn/score",
            "<=",
        ),
        (
            "  total: 60\n",
            "  total: 60\n  pruner: {name: median, metric: burn/score}\n",
            "sweep.pruner.goal",
            "which way burn/score is better",
        ),
    ],
)
def test_how_it_is_searched_is_checked(tmp_path: Path, before: str, after: str, where: str, message: str) -> None:
    found = problems_of(write(tmp_path, before, after))

    assert message in found[where], found


def test_the_command_line_changes_the_files_own_keys_and_axes(file: Path) -> None:
    spec = load_sweep(
        str(file),
        [
            "sweep.name=other",
            "sweep.total=9",
            "sweep.seeds=[5]",
            "sweep.sampler.name=random",
            "sweep.sampler.seed=3",
            "sweep.pruner=hyperband",
            "sweep.constraints={overcook/score:'<= 0.3'}",
            "optimizer=prodigy",
            "adapter.dim=choice(8,16)",
            "train.max_steps=50",
        ],
    )

    assert spec.search is not None
    assert (spec.name, spec.total, spec.seeds, spec.pruner.name) == ("other", 9, (5,), "hyperband")
    assert (spec.search.sampler.name, spec.search.sampler.seed) == ("random", 3)
    assert spec.constraints == (Constraint(metric="overcook/score", sign="<=", bound=0.3),)
    assert spec.search.space.describe() == {
        "adapter": "choice(lora,locon)",
        "optimizer.d_coef": "interval(0.5,2.0)",
        "adapter.dim": "choice(8,16)",
        "adapter.conv_dim[locon]": "choice(8,16,32)",
    }
    assert {arm.recipe.train.max_steps for arm in spec.known} == {50}
    assert {arm.recipe.optimizer.name for arm in spec.search.corners} == {"prodigy"}


def test_two_metrics(tmp_path: Path) -> None:
    two = "[{name: identity/score}, {name: overcook/score, goal: minimize}]"
    file = write(tmp_path, "{name: overcook/utility, goal: maximize}", two)

    spec = load_sweep(str(file), ["sweep.sampler=pareto", "optimizer=prodigy"])

    assert spec.objectives == (
        Objective(name="identity/score", worst=0.0),
        Objective(name="overcook/score", goal="minimize", worst=1.0),
    )
    assert "nothing says which" in problems_of(file, "sweep.pruner=median")["sweep.pruner"]


def test_an_axis_on_the_command_line_makes_any_sweep_a_search() -> None:
    spec = load_sweep("quickstart", ["adapter.dim=8,16", "sweep.seeds=[0,1]"])

    assert spec.search is not None
    assert spec.search.sampler.name == "grid"
    assert spec.total == (4 + 2) * 2
    with pytest.raises(ConfigError, match="nothing is searched"):
        load_sweep("quickstart", ["sweep.total=3"])


def test_overrides_alone_are_a_sweep_that_the_same_command_continues() -> None:
    words = ["optimizer=adamw,prodigy", "train.max_steps=10"]
    first, second = sweep_of_overrides(words), sweep_of_overrides(list(reversed(words)))

    assert first.name == second.name and first.name.startswith("multirun-")
    assert (first.total, first.arms) == (2, ())
    assert sweep_of_overrides([*words, "sweep.seeds=[3]"]).name != first.name
    with pytest.raises(ConfigError, match="the command line"):
        sweep_of_overrides(["train.max_steps=10"])


def test_more_values_than_anybody_counts_are_not_counted(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        "sweep:\n  question: which?\n  total: 4\n  space: {dataset.dollhouse.seed: 'int(interval(1,1000000000))'}\n",
        encoding="utf-8",
    )
    spec = load_sweep(str(tmp_path / "s.yaml"))
    assert spec.search is not None and spec.search.sampler.name == "tpe"
