"""Points asked from Optuna: branches, seeds, and whether searching is better than luck."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from lorasweep.config.space import Axis, Choice, Condition, Interval, Point, Space
from lorasweep.config.space_read import Swept, read_override
from lorasweep.config.sweep_spec import SamplerOptions
from lorasweep.sweep.search.sampling import distributions, make_sampler, suggest

ADAMW, PRODIGY = (Condition("optimizer", (name,)) for name in ("adamw", "prodigy"))
SPACE = Space(
    axes=(
        Axis("optimizer", Choice(("adamw", "prodigy"))),
        Axis("adapter", Choice(("lora", "locon"))),
        Axis("adapter.dim", Interval(4, 64, log=True, integer=True)),
        Axis("optimizer.lr", Interval(1e-6, 1e-2, log=True), (ADAMW,)),
        Axis("optimizer.lr", Interval(1e-2, 1e1, log=True), (PRODIGY,)),
        Axis("adapter.conv_dim", Choice((4, 8, 16, 32)), (Condition("adapter", ("locon",)),)),
    )
)


def burn(point: Point) -> float:
    """Lower is better: every optimizer has a learning rate of its own, LoCon needs few convolution ranks."""
    right = 1e-4 if point.values["optimizer"] == "adamw" else 1.0
    off = math.log10(point.values["optimizer.lr"] / right)
    dim = math.log2(point.values["adapter.dim"] / 16)
    conv = math.log2(point.values.get("adapter.conv_dim", 16) / 8)
    prodigy = 0.1 * (point.values["optimizer"] == "adamw")
    return off**2 + 0.05 * dim**2 + 0.05 * conv**2 + prodigy


def search(options: SamplerOptions, *, trials: int, value: Callable[[Point], Any] = burn) -> list[Point]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["minimize"] * (2 if options.name == "pareto" else 1))
    points = []
    for index in range(trials):
        study.sampler = make_sampler(options, SPACE, index=index)
        trial = study.ask()
        points.append(suggest(trial, SPACE))
        study.tell(trial, value(points[-1]))
    return points


def test_axes_in_optunas_words() -> None:
    assert distributions(SPACE) == {
        "optimizer": CategoricalDistribution(("adamw", "prodigy")),
        "adapter": CategoricalDistribution(("lora", "locon")),
        "adapter.dim": IntDistribution(4, 64, log=True),
        "optimizer.lr[adamw]": FloatDistribution(1e-6, 1e-2, log=True),
        "optimizer.lr[prodigy]": FloatDistribution(1e-2, 1e1, log=True),
        "adapter.conv_dim[locon]": CategoricalDistribution((4, 8, 16, 32)),
    }
    stepped = Space(axes=(Axis("a", Interval(1, 7, integer=True, step=3)), Axis("b", Interval(0.0, 1.0, step=0.5))))
    assert distributions(stepped) == {
        "a": IntDistribution(1, 7, step=3),
        "b": FloatDistribution(0.0, 1.0, step=0.5),
    }


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("text", "values"),
    [("noise.offset=range(0.7,1.0,0.1)", [0.7, 0.8, 0.9]), ("adapter.dim=range(4,17,4)", [4, 8, 12, 16])],
)
def test_every_number_of_a_range_is_searched_as_it_is_written(text: str, values: list[float]) -> None:
    swept = read_override(text)
    assert isinstance(swept, Swept)
    space, study = Space(axes=(Axis(swept.key, swept.domain),)), optuna.create_study()
    study.sampler = make_sampler(SamplerOptions(name="random"), space, index=0)
    found = {suggest(study.ask(), space).overrides for _ in range(40)}
    assert found == {(f"{swept.key}={value}",) for value in values}


@pytest.mark.parametrize("name", ["random", "tpe", "pareto"])
def test_every_point_is_one_of_the_space(name: Any) -> None:
    value = (lambda point: (burn(point), point.values["adapter.dim"])) if name == "pareto" else burn

    points = search(SamplerOptions(name=name, startup=5), trials=25, value=value)

    assert all(SPACE.point(point.params) == point for point in points)
    assert {len(point.params) for point in points} == {4, 5}  # with and without LoCon's own axis
    for point in points:
        asked = {key for key in point.params if key.startswith("optimizer.lr")}
        assert asked == {f"optimizer.lr[{point.values['optimizer']}]"}


def test_searching_branches_is_better_than_luck() -> None:
    def mean_best(name: Any) -> float:
        seeds = range(10)
        best = [min(map(burn, search(SamplerOptions(name=name, seed=seed), trials=40))) for seed in seeds]
        return sum(best) / len(best)

    tpe, luck = mean_best("tpe"), mean_best("random")

    assert tpe < 0.7 * luck, (tpe, luck)


def test_a_points_seed_is_its_own() -> None:
    options = SamplerOptions(name="random", seed=3)

    assert search(options, trials=6) == search(options, trials=6)
    assert search(options, trials=6) == search(options, trials=9)[:6]
    assert search(options, trials=6) != search(SamplerOptions(name="random", seed=4), trials=6)
    # Luck does not look back: the values told so far change nothing.
    assert search(options, trials=6, value=lambda point: -burn(point)) == search(options, trials=6)


def test_tpe_continues_as_if_it_had_not_been_interrupted() -> None:
    options = SamplerOptions(name="tpe", startup=4)
    whole = search(options, trials=12)

    study = optuna.create_study()
    for point in whole[:8]:
        told = {name: distributions(SPACE)[name] for name in point.params}
        params = dict(point.params)
        study.add_trial(create_trial(value=burn(point), params=params, distributions=told))
    study.sampler = make_sampler(options, SPACE, index=8)

    assert suggest(study.ask(), SPACE) == whole[8]


@pytest.mark.parametrize("name", ["tpe", "pareto"])
def test_known_recipes_from_outside_do_not_part_what_is_sampled_together(name: Any) -> None:
    study = optuna.create_study()
    study.add_trial(create_trial(value=0.5, params={}, distributions={}))
    study.add_trial(create_trial(state=TrialState.RUNNING, params={}, distributions={}))
    sampler = make_sampler(SamplerOptions(name=name), SPACE, index=0)
    trial = study.trials[0]

    together = sampler.infer_relative_search_space(study, trial)

    assert set(together) == {"optimizer", "adapter", "adapter.dim"}
    # Optuna's own would have nothing left to sample together.
    own = optuna.samplers.TPESampler() if name == "tpe" else optuna.samplers.NSGAIISampler()
    assert own.infer_relative_search_space(study, trial) == {}
