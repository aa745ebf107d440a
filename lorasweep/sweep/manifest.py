"""sweep.yaml: what a sweep folder was declared to hold, and whether today's declaration may continue it.

Takes a `SweepSpec` and its plans, returns a `Manifest`. The rule: what was cooked must still mean the same.
Knows nothing about processes, Optuna or MLflow.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lorasweep.errors import ConfigError, Problem
from lorasweep.files import write_text
from lorasweep.records import Plan, Recipe, from_dict, to_dict

if TYPE_CHECKING:
    from lorasweep.config import SweepSpec

MANIFEST_FILE = "sweep.yaml"
ABSENT = "(absent)"


@dataclass(frozen=True, kw_only=True)
class DeclaredArm:
    """One arm as it was declared."""

    name: str
    note: str
    overrides: tuple[str, ...]
    plan: str  # fingerprint of the plan: recipe, images, captions and base
    recipe: dict[str, Any]  # without the seed, tracking and launcher, which do not decide what an arm is


@dataclass(frozen=True, kw_only=True)
class DeclaredTrial:
    """One (arm, seed) and the number by which people know it."""

    number: int
    arm: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of sweep.yaml."""

    name: str
    question: str
    metric: str
    goal: str  # "maximize" or "minimize"
    worst: float
    arms: tuple[DeclaredArm, ...]
    trials: tuple[DeclaredTrial, ...]  # ascending numbers


def declare(
    spec: SweepSpec,
    plans: Mapping[str, Plan],
    *,
    previous: Manifest | None = None,
    cooked: Set[tuple[str, int]] = frozenset(),
    extend: bool = False,
) -> Manifest:
    """Turn a spec into a manifest that keeps the numbers of `previous`.

    Args:
        spec: the sweep as declared now.
        plans: one plan per arm.
        previous: the manifest in the folder, if any.
        cooked: the (arm, seed) pairs that have a run folder; only those bind us to `previous`.
        extend: allow arms and seeds that `previous` did not have.

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
        )
        for arm in spec.arms
    )
    # Seeds outermost: every arm is seen once before any arm is seen twice.
    pairs = [(arm.name, seed) for seed in spec.seeds for arm in spec.arms]
    numbers: dict[tuple[str, int], int] = {}
    if previous is not None and cooked:
        problems = list(_differences(previous, spec, arms, pairs, cooked, extend=extend))
        if problems:
            raise ConfigError(problems, subject=f"sweep `{spec.name}`, which has already been cooked in part")
        numbers = {(trial.arm, trial.seed): trial.number for trial in previous.trials}
    following = max(numbers.values(), default=-1) + 1
    for pair in pairs:
        if pair not in numbers:
            numbers[pair] = following
            following += 1
    trials = (DeclaredTrial(number=numbers[arm, seed], arm=arm, seed=seed) for arm, seed in pairs)
    return Manifest(
        name=spec.name,
        question=spec.question,
        metric=spec.metric,
        goal=spec.goal,
        worst=spec.worst,
        arms=arms,
        trials=tuple(sorted(trials, key=lambda trial: trial.number)),
    )


def read_manifest(sweep_folder: Path) -> Manifest | None:
    """Read sweep.yaml; None when there is none.

    Raises:
        ConfigError: it is there but is not a manifest.
    """
    path = sweep_folder / MANIFEST_FILE
    if not path.exists():
        return None
    try:
        # The C loader is ten times faster, which `status` on a big sweep notices.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        return from_dict(Manifest, yaml.load(path.read_text(encoding="utf-8"), loader))  # noqa: S506 - safe
    except (yaml.YAMLError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise ConfigError(
            Problem(str(path), f"is not a sweep's manifest: {error}", "give the sweep another name"),
            subject="sweep folder",
        ) from error


def write_manifest(sweep_folder: Path, manifest: Manifest) -> None:
    """Write sweep.yaml atomically."""
    text = yaml.safe_dump(to_dict(manifest), sort_keys=False, allow_unicode=True)
    write_text(sweep_folder / MANIFEST_FILE, text)


def _comparable(recipe: Recipe) -> dict[str, Any]:
    data = to_dict(recipe)
    return {key: value for key, value in data.items() if key not in ("seed", "tracking", "launcher")}


def _differences(
    previous: Manifest,
    spec: SweepSpec,
    arms: tuple[DeclaredArm, ...],
    pairs: list[tuple[str, int]],
    cooked: Set[tuple[str, int]],
    *,
    extend: bool,
) -> Iterator[Problem]:
    rename = "give the sweep another name, or delete its folder"
    for key in ("metric", "goal"):
        before, now = getattr(previous, key), getattr(spec, key)
        if before != now:
            yield Problem(
                f"metric ({key})", f"was `{before}` when trials were cooked, is now `{now}`", rename
            )
    now_by_name = {arm.name: arm for arm in arms}
    cooked_arms = {arm for arm, _ in cooked}
    for before_arm in previous.arms:
        if before_arm.name in cooked_arms and before_arm.name in now_by_name:
            yield from _arm_differences(before_arm, now_by_name[before_arm.name], rename)
    for arm, seed in sorted(cooked - set(pairs)):
        yield Problem(
            f"arms.{arm}", f"seed {seed} was cooked but is no longer declared", f"put it back, or {rename}"
        )
    if not extend:
        declared = {(trial.arm, trial.seed) for trial in previous.trials}
        for arm, seed in pairs:
            if (arm, seed) not in declared:
                hint = "--extend adds it to what is there; or give the sweep another name"
                yield Problem(f"arms.{arm}", f"seed {seed} is new", hint)


def _arm_differences(before: DeclaredArm, now: DeclaredArm, hint: str) -> Iterator[Problem]:
    # Through JSON, so that tuples and lists, 1 and 1.0 of the two sides read alike.
    old = _flat(json.loads(json.dumps(before.recipe)))
    new = _flat(json.loads(json.dumps(now.recipe)))
    changed = [key for key in {**old, **new} if old.get(key, ABSENT) != new.get(key, ABSENT)]
    for key in changed:
        message = f"was {old.get(key, ABSENT)!r} when cooked, is now {new.get(key, ABSENT)!r}"
        yield Problem(f"arms.{before.name}.{key}", message, hint)
    if not changed and before.plan != now.plan:
        message = "the images, captions or base model changed since it was cooked"
        yield Problem(f"arms.{before.name}", message, hint)


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(data, dict):
        return {prefix: data}
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
