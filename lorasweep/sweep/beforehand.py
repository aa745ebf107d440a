"""What of a sweep's question cannot be answered, known from its plans before anything is trained. No torch.

    SweepSpec + Plans  ->  Problems: a metric or bound that an arm cannot be measured by, an idle pruner

A sweep that asks for what nobody measures otherwise runs to its end and then says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from lorasweep.config import Arm, SweepSpec
from lorasweep.config.suggest import did_you_mean
from lorasweep.config.sweep_spec import PrunerOptions
from lorasweep.core.errors import ConfigError, InputError, Problem
from lorasweep.core.records import Plan
from lorasweep.plan import make_plan
from lorasweep.sweep import comparable
from lorasweep.sweep.queue import in_exposures
from lorasweep.trial.judge import offered

Offers = Mapping[str, offered.Offer]  # by arm


def plan_arms(arms: Iterable[Arm], *, subject: str) -> dict[str, Plan]:
    """Plan every arm, by name; raises ConfigError with the problems of all arms."""
    plans: dict[str, Plan] = {}
    found: list[Problem] = []
    for arm in arms:
        try:
            plans[arm.name] = make_plan(arm.recipe)
        except InputError as error:
            found += [problem for problem in error.problems if problem not in found]
    if found:
        raise ConfigError(found, subject=subject)
    return plans


def problems(spec: SweepSpec, plans: Mapping[str, Plan]) -> list[Problem]:
    """Find what cannot be answered; `plans` are those of the arms and corners, by name."""
    return [
        *unmeasured(_asked(spec), comparable.offers(spec, plans)),
        *comparable.problems(spec),
        *_wrong_way(spec),
        *_idle_pruner(spec, plans),
    ]


def duplicates(spec: SweepSpec, plans: Mapping[str, Plan]) -> list[str]:
    """Find arms that are one recipe under several names, of which one is cooked: sentences."""
    names: dict[str, list[str]] = {}
    for arm in spec.arms:
        names.setdefault(plans[arm.name].fingerprint, []).append(arm.name)
    return [
        f"{', '.join(same)} are the same recipe: it is cooked once, and they cannot differ"
        for same in names.values()
        if len(same) > 1
    ]


# ------------------------------------------------------------------------------------------- metrics


def _asked(spec: SweepSpec) -> Iterator[tuple[str, str, bool]]:
    """Return where a number is asked for, its name, and whether it must be known at the rungs."""
    yield from (("sweep.metric.name", each.name, False) for each in spec.objectives)
    yield from ((f"sweep.constraints.{each.metric}", each.metric, False) for each in spec.constraints)
    if spec.pruner.active:
        yield "sweep.pruner.metric", spec.pruner.metric or spec.metric, True


def unmeasured(asked: Iterable[tuple[str, str, bool]], offers: Offers) -> Iterator[Problem]:
    """Find the numbers asked for (where, name, whether rungs must know it) that an arm cannot be measured by."""
    for where, name, early in dict.fromkeys(asked):
        for arm, offer in offers.items():
            known = offer.at_rungs if early else {**offer.in_the_end, **offer.at_rungs}
            if why := _why_not(name, known, offer, early=early):
                message, hint = why
                among = f" (arm {arm})" if len(offers) > 1 else ""
                yield Problem(where, f"{message}{among}", hint)
                break


def _why_not(name: str, known: Mapping[str, str], offer: offered.Offer, *, early: bool) -> tuple[str, str] | None:
    """Tell why a number cannot be had, and the next step; None when it can."""
    if name in known:
        return (f"{name} cannot be measured: {known[name]}", "") if known[name] else None
    if early and name in offer.in_the_end:
        return f"{name} is known in the end only, not at the rungs where trials are stopped", ""
    family = name.partition("/")[0]
    if name.startswith("train/"):
        return f"{name} is logged while training and judges nothing", "e.g. overcook/utility"
    siblings = [each for each in known if each.startswith(f"{family}/")]
    families = list(dict.fromkeys(each.partition("/")[0] for each in known))
    near = did_you_mean(name, siblings) if siblings else did_you_mean(family, families)
    listed = f"{family} has {', '.join(siblings)}" if siblings else f"families: {', '.join(families)}"
    return f"no metric gives {name}" + (f"; {near}" if near else ""), listed


def _wrong_way(spec: SweepSpec) -> Iterator[Problem]:
    """Name a goal that would choose the worst recipe; `maximize` is what is taken when none is given."""
    ways = [(each.name, each.goal, "sweep.metric.goal") for each in spec.objectives]
    if spec.pruner.metric is not None and spec.pruner.goal is not None:
        ways.append((spec.pruner.metric, spec.pruner.goal, "sweep.pruner.goal"))
    for name, goal, where in ways:
        if offered.better(name) not in (None, goal):
            message = f"{goal} looks for the worst recipe: {name} is better the other way"
            yield Problem(where, message, f"goal: {offered.better(name)}")


# -------------------------------------------------------------------------------------------- pruner


def _idle_pruner(spec: SweepSpec, plans: Mapping[str, Plan]) -> Iterator[Problem]:
    """Name a pruner that can stop nothing, whatever the trials do."""
    pruner = spec.pruner
    if not pruner.active:
        return
    off = "or sweep.pruner=none"
    if pruner.exempt >= 1:
        yield Problem("sweep.pruner.exempt", "every trial is exempt, so none is ever stopped, got 1", off)
    least = 1 + (pruner.startup if pruner.name in ("median", "patient") else 1)
    if spec.total < least:
        knob = "startup" if least > 2 else "name"
        message = f"compares nothing before {least - 1} trials have ended, and there are {spec.total} in all"
        yield Problem(f"sweep.pruner.{knob}", message, f"more trials, {off}")
    if not any(_stops(pruner, plan) for plan in plans.values()):
        rungs = max((len(plan.rungs) for plan in plans.values()), default=0)
        if rungs < 2:
            message = "stops trials at rungs before the last, and there is only the last"
            yield Problem("sweep.pruner.name", message, f"override: train.rungs=4, {off}")
        elif pruner.name == "patient" and rungs - 1 < pruner.patience + 2:
            message = f"lets {pruner.patience} rungs pass, so of {rungs} rungs none is left to stop at"
            yield Problem("sweep.pruner.patience", message, f"override: train.rungs={pruner.patience + 3}, {off}")
        else:
            last = max(_exposures(plan, plan.rungs[-2]) for plan in plans.values() if len(plan.rungs) > 1)
            message = f"must be at most {last}, the exposures per image at the last rung that can stop a trial"
            got = f", got {pruner.min_exposures}" if pruner.min_exposures else ""
            yield Problem("sweep.pruner.min_exposures", message + got, off)


def _stops(pruner: PrunerOptions, plan: Plan) -> Sequence[int]:
    """Return the rungs at which a trial of this plan can be stopped."""
    before = plan.rungs[:-1]
    if pruner.name == "patient":
        before = before[pruner.patience + 1 :]
    least = pruner.min_exposures or 0
    return [rung for rung in before if _exposures(plan, rung) >= least]


def _exposures(plan: Plan, step: int) -> int:
    """Return exposures per image by a step, as pruners count them."""
    return in_exposures(plan.exposures_per_image * step / plan.steps)
