"""A space in Optuna's words: its distributions, who samples them, and one point asked for.

The samplers are Optuna's own. What is added: the axes without a condition are sampled together even when
known recipes from outside the space are in the study, and every point has a seed of its own, so that a sweep
that was interrupted asks for the same points as one that was not (with several workers, as far as trials end
in the same order). Knows nothing about recipes or files.
"""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial

from lorasweep.config.space import Axis, Choice, Point, Space
from lorasweep.config.sweep_spec import SamplerOptions
from lorasweep.core import seeds

SEED_RANGE = 2**32  # what numpy's generators take


def distribution(axis: Axis) -> BaseDistribution:
    """Return an axis as Optuna's distribution."""
    domain = axis.domain
    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.labels)
    if domain.integer:
        return IntDistribution(int(domain.low), int(domain.high), log=domain.log, step=int(domain.step or 1))
    return FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step)


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """List all axes by name, those under conditions included."""
    return {axis.name: distribution(axis) for axis in space.axes}


def suggest(trial: Trial, space: Space) -> Point:
    """Ask Optuna for a value of every axis whose conditions hold."""
    return space.walk(lambda axis: _suggested(trial, axis))


def make_sampler(options: SamplerOptions, space: Space, *, index: int) -> BaseSampler:
    """Return the sampler for the `index`-th point."""
    seed = seeds.derive(options.seed, "sampler", index) % SEED_RANGE
    if options.name not in ("tpe", "pareto"):
        return RandomSampler(seed=seed)
    sampler: _Together
    if options.name == "tpe":
        sampler = _TPE(n_startup_trials=options.startup, seed=seed)
    else:
        sampler = _NSGA2(population_size=max(2, options.startup), seed=seed)
    sampler.always = {axis.name: distribution(axis) for axis in space.axes if not axis.when}
    return sampler


class _Together(BaseSampler):
    """Samples, or crosses, the unconditional axes together, whatever else the study holds."""

    always: dict[str, BaseDistribution]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return dict(self.always)


class _TPE(_Together, TPESampler):
    pass


class _NSGA2(_Together, NSGAIISampler):
    pass


def _suggested(trial: Trial, axis: Axis) -> Any:
    domain = axis.domain
    if isinstance(domain, Choice):
        return domain.take(trial.suggest_categorical(axis.name, domain.labels))
    if domain.integer:
        low, high = int(domain.low), int(domain.high)
        return trial.suggest_int(axis.name, low, high, log=domain.log, step=int(domain.step or 1))
    value = trial.suggest_float(axis.name, domain.low, domain.high, log=domain.log, step=domain.step)
    return value if domain.step is None else domain.take(value)  # 0.8, not 0.7999999999999999
