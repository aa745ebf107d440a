"""sweep.yaml and asked.jsonl: what a sweep folder was declared to hold, and may today's declaration continue it?

Takes a `SweepSpec` and its plans, returns a `Manifest`: what is declared, and what came since, a line of asked.jsonl
for each recipe: points of a space, and further seeds of an arm. Lines are only added, so that asking costs the same
for the first and the thousandth; one that a kill tore was never asked. The rule: what was cooked must still mean the
same. Knows nothing about processes, Optuna or MLflow.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.files import append_jsonl, read_jsonl, write_text
from lorasweep.core.printable import command
from lorasweep.core.records import NOT_THE_RECIPE, Plan, Recipe, flatten, from_dict, to_dict
from lorasweep.core.run_folder import ASKED_FILE, MANIFEST_FILE, load_yaml
from lorasweep.sweep import comparable

if TYPE_CHECKING:
    from lorasweep.config import Search, SweepSpec


ABSENT = "(absent)"
_RENAME = "give the sweep another name (sweep.name=another), or delete its folder"


@dataclass(frozen=True, kw_only=True)
class DeclaredArm:
    """One arm as it was declared, or one point of the space as it was asked for."""

    name: str
    note: str
    overrides: tuple[str, ...]
    plan: str  # fingerprint of the plan: recipe, images, captions and base
    recipe: dict[str, Any]  # without the seed, tracking and launcher, which do not decide what an arm is
    params: dict[str, Any] | None = None  # where it lies in the space; None: outside, or there is none
    asked: bool = False  # it is a point, and in asked.jsonl


@dataclass(frozen=True, kw_only=True)
class DeclaredTrial:
    """One (arm, seed) and the number by which people know it."""

    number: int
    arm: str
    seed: int
    asked: bool = False  # since the declaration
    extra: bool = False  # a repeat beyond the declared seeds, which the declared total does not count


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of sweep.yaml and asked.jsonl."""

    name: str
    question: str
    metric: str
    goal: str  # "maximize" or "minimize"
    worst: float
    arms: tuple[DeclaredArm, ...]
    trials: tuple[DeclaredTrial, ...]  # ascending numbers
    total: int = 0  # trials that there will be; 0: as many as there are
    space: dict[str, str] = field(default_factory=dict)  # axis -> its domain in Hydra's grammar
    search: dict[str, Any] = field(default_factory=dict)  # pruner, bounds, further metrics; how the space is searched
    common: tuple[str, ...] = ()  # overrides of every point
    left_out: dict[str, str] = field(default_factory=dict)  # symptom -> why trials are compared without it
    typed: tuple[str, ...] = ()  # what `lorasweep sweep` was asked by, so that the folder's name asks for the same


def command_of(name: str, typed: Sequence[str]) -> str:
    """Write what continues a sweep: by its folder's name, which alone may ask for less than was `typed`."""
    words = typed if len(typed) > 1 and "=" not in typed[0] else (name,)
    return command("lorasweep", "sweep", *words)


def declare(
    spec: SweepSpec,
    plans: Mapping[str, Plan],
    *,
    previous: Manifest | None = None,
    cooked: Set[tuple[str, int]] = frozenset(),
    extend: bool = False,
    changed: Callable[[str], str] = lambda arm: "",
) -> Manifest:
    """Turn a spec and its arms' plans into a manifest that keeps the numbers of `previous`, the folder's own.

    Only the (arm, seed) pairs in `cooked`, which have a run folder, bind us to it; `extend` allows arms and seeds that
    it did not have; `changed` names what of an arm's images is not what it was cooked from.

    Raises:
        ConfigError: with every difference, when today's sweep is not a continuation of the cooked one.
    """
    arms = tuple(
        DeclaredArm(
            name=arm.name,
            note=arm.note,
            overrides=tuple(arm.overrides),
            plan=plans[arm.name].fingerprint,
            recipe=_comparable(arm.recipe),
            params=None if arm.params is None else dict(arm.params),
        )
        for arm in spec.arms
    )
    # Seeds outermost: every arm is seen once before any arm is seen twice.
    pairs = [(arm.name, seed) for seed in spec.seeds for arm in spec.arms]
    numbers: dict[tuple[str, int], int] = {}
    since: tuple[DeclaredTrial, ...] = ()
    if previous is not None and cooked:
        since = tuple(each for each in previous.trials if each.asked and (each.arm, each.seed) not in pairs)
        numbers = {(trial.arm, trial.seed): trial.number for trial in previous.trials}
    following = max(numbers.values(), default=-1) + 1
    for pair in pairs:
        if pair not in numbers:
            numbers[pair] = following
            following += 1
    trials = [DeclaredTrial(number=numbers[arm, seed], arm=arm, seed=seed) for arm, seed in pairs]
    asked_arms = {each.arm for each in since}
    points = previous.arms if previous is not None else ()
    search = spec.search
    now = Manifest(
        name=spec.name,
        question=spec.question,
        metric=spec.metric,
        goal=spec.goal,
        worst=spec.worst,
        arms=(*arms, *(arm for arm in points if arm.asked and arm.name in asked_arms)),
        trials=tuple(sorted([*trials, *since], key=lambda trial: trial.number)),
        total=spec.total,
        space={} if search is None else search.space.describe(),
        search=_search(spec),
        common=() if search is None else (*search.common, *search.overrides),
        left_out=comparable.left_out(spec, plans),
        typed=spec.typed,
    )
    problems = []
    if previous is not None and cooked:
        problems = list(_differences(previous, now, cooked, extend=extend, changed=changed))
    if search is not None and search.sampler.name == "grid":
        problems += _lost_points(now, search)
    if problems:
        raise ConfigError(problems, subject=f"sweep `{spec.name}`, which has already been cooked in part")
    return now


def read_manifest(sweep_folder: Path) -> Manifest | None:
    """Read sweep.yaml; None when there is none; raises ConfigError when it is there but is not a manifest."""
    path = sweep_folder / MANIFEST_FILE
    if not path.exists():
        return None
    try:
        declared = from_dict(Manifest, load_yaml(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValueError) as error:
        hint = "put back a copy, or give the sweep another name, which reuses its results: sweep.name=another"
        problem = Problem(str(path), f"is not a sweep's manifest: {error}", hint)
        raise ConfigError(problem, subject="sweep folder") from error
    return _with_asked(declared, read(sweep_folder))


def write_manifest(sweep_folder: Path, manifest: Manifest) -> None:
    """Write sweep.yaml atomically; what was asked for since stays in asked.jsonl, or is forgotten with it."""
    if not any(trial.asked for trial in manifest.trials):
        (sweep_folder / ASKED_FILE).unlink(missing_ok=True)
    declared = dataclasses.replace(
        manifest,
        arms=tuple(arm for arm in manifest.arms if not arm.asked),
        trials=tuple(trial for trial in manifest.trials if not trial.asked),
    )
    from lorasweep.config import to_yaml  # who reads a manifest needs no Hydra

    write_text(sweep_folder / MANIFEST_FILE, to_yaml(declared))


def _with_asked(declared: Manifest, rows: Sequence[AddedTrials]) -> Manifest:
    """Add what was asked for since."""
    arms = {arm.name: arm for arm in declared.arms}
    trials = {(trial.arm, trial.seed): trial for trial in declared.trials}
    for row in rows:
        if row.arm not in arms:
            arms[row.arm] = DeclaredArm(
                name=row.arm, note="", overrides=row.overrides, plan=row.plan, recipe={}, params=row.params, asked=True
            )
        for offset, seed in enumerate(row.seeds):
            number, extra = row.number + offset, row.params is None
            new = DeclaredTrial(number=number, arm=row.arm, seed=seed, asked=True, extra=extra)
            trials.setdefault((row.arm, seed), new)
    ordered = tuple(sorted(trials.values(), key=lambda trial: trial.number))
    return dataclasses.replace(declared, arms=tuple(arms.values()), trials=ordered)


def _search(spec: SweepSpec) -> dict[str, Any]:
    """Return how what comes out is used, and how the space, if there is one, is searched, as plain data."""
    how = {"pruner": spec.pruner, "further": spec.further, "constraints": spec.constraints}
    described: dict[str, Any] = to_dict(how if spec.search is None else {"sampler": spec.search.sampler, **how})
    return described


def _comparable(recipe: Recipe) -> dict[str, Any]:
    data = to_dict(recipe)
    return {key: value for key, value in data.items() if key not in ("seed", *NOT_THE_RECIPE)}


def _differences(
    previous: Manifest, now: Manifest, cooked: Set[tuple[str, int]], *, extend: bool, changed: Callable[[str], str]
) -> Iterator[Problem]:
    pairs = [(trial.arm, trial.seed) for trial in now.trials if not trial.asked]
    for key in ("metric", "goal"):
        old, new = getattr(previous, key), getattr(now, key)
        if old != new:
            yield Problem(f"metric ({key})", f"was `{old}` when trials were cooked, is now `{new}`", _RENAME)
    if previous.left_out.keys() != now.left_out.keys() and now.metric in comparable.SCORES:
        old, new = (", ".join(each.left_out) or "nothing" for each in (previous, now))
        message = f"trials were compared without {old} when cooked, are now without {new}"
        yield Problem("metric (symptoms)", message, _RENAME)
    arms = {arm.name: arm for arm in now.arms}
    cooked_arms = {arm for arm, _ in cooked}
    for before in previous.arms:
        if before.name in cooked_arms and before.name in arms:
            yield from _arm_differences(before, arms[before.name], changed)
    since = {(trial.arm, trial.seed) for trial in previous.trials if trial.asked}
    for arm, seed in sorted(cooked - set(pairs) - since):
        yield Problem(f"arms.{arm}", f"seed {seed} was cooked but is no longer declared", f"put it back, or {_RENAME}")
    if previous.space or now.space:
        yield from _search_differences(previous, now, declared=len(pairs), extend=extend)
    if not extend:
        declared = {(trial.arm, trial.seed) for trial in previous.trials}
        for arm, seed in pairs:
            if (arm, seed) not in declared:
                hint = "--extend adds it to what is there; or give the sweep another name: sweep.name=another"
                yield Problem(f"arms.{arm}", f"seed {seed} is new", hint)


def _search_differences(previous: Manifest, now: Manifest, *, declared: int, extend: bool) -> Iterator[Problem]:
    """Let a space that was searched in part grow, with `--extend`; the recipe around it may not change."""
    points = sum(trial.asked and not trial.extra for trial in previous.trials) + declared
    if now.space and now.total < points:
        yield Problem("total", f"is {now.total}, but {points} trials were asked for already", f"at least {points}")
    if previous.space and previous.common != now.common:
        old, new = (" ".join(each.common) or "nothing" for each in (previous, now))
        yield Problem("recipe", f"of every point was {old} when cooked, is now {new}", _RENAME)
    if extend:
        return
    hint = "--extend goes on with what is declared now; or give the sweep another name: sweep.name=another"
    before_and_now: list[tuple[str, Any, Any]] = [
        *((f"space.{key}", previous.space.get(key), now.space.get(key)) for key in {**previous.space, **now.space}),
        *((key, previous.search.get(key), now.search.get(key)) for key in {**previous.search, **now.search}),
        ("total", previous.total, max(previous.total, now.total)),
    ]
    for key, was, is_now in before_and_now:
        if was != is_now:
            was, is_now = (ABSENT if each is None else each for each in (was, is_now))  # noqa: PLW2901
            yield Problem(key, f"was {was}, is now {is_now}", hint)


def _lost_points(now: Manifest, search: Search) -> Iterator[Problem]:
    """Refuse what a grid lost: a point that was cooked and is no part of it any more would count as one that is."""
    for arm in now.arms:
        if arm.asked and arm.params is not None and search.space.point(arm.params) is None:
            message = f"the grid has no point {' '.join(arm.overrides)} any more, which was asked for as {arm.name}"
            yield Problem("space", message, f"put it back, or {_RENAME}")


def _arm_differences(before: DeclaredArm, now: DeclaredArm, images: Callable[[str], str]) -> Iterator[Problem]:
    # Through JSON, so that tuples and lists, 1 and 1.0 of the two sides read alike.
    old = flatten(json.loads(json.dumps(before.recipe)))
    new = flatten(json.loads(json.dumps(now.recipe)))
    changed = [key for key in {**old, **new} if old.get(key, ABSENT) != new.get(key, ABSENT)]
    for key in changed:
        message = f"was {old.get(key, ABSENT)!r} when cooked, is now {new.get(key, ABSENT)!r}"
        yield Problem(f"arms.{before.name}.{key.replace('.options.', '.')}", message, _RENAME)
    if not changed and before.plan != now.plan:
        told = images(before.name)
        message = f"the images, captions or base model changed since it was cooked{told and f': {told}'}"
        yield Problem(f"arms.{before.name}", message, f"put back what was there, or {_RENAME}")


@dataclass(frozen=True, kw_only=True)
class AddedTrials:
    """One recipe and the trials that it gets, numbered from `number` in the order of `seeds`."""

    number: int
    arm: str
    seeds: tuple[int, ...]
    overrides: tuple[str, ...] = ()  # of a new point; empty for an arm that is known already
    params: dict[str, Any] | None = None  # where it lies in the space
    plan: str = ""  # fingerprint of its plan


def append(sweep_folder: Path, row: AddedTrials) -> None:
    """Add a line, flushed to disk before returning."""
    append_jsonl(sweep_folder / ASKED_FILE, to_dict(row), durable=True)


def read(sweep_folder: Path) -> list[AddedTrials]:
    """Read all lines that are whole, in the order in which they were asked."""
    return [from_dict(AddedTrials, data) for data in read_jsonl(sweep_folder / ASKED_FILE, fits=_is_added)]


def _is_added(data: dict[str, Any]) -> bool:
    try:
        from_dict(AddedTrials, data)
    except ValueError:
        return False
    return True
