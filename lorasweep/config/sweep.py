"""Read a sweep file: a question, its arms, and what answers it.

    sweep:
      question: Which optimizer burns later?
      metric: {name: overcook/utility, goal: maximize}
      seeds: [0]
      recipe: {train.max_steps: 300}          # for every arm
      arms:
        adamw: {note: the usual, optimizer: adamw}
        prodigy: {optimizer: prodigy}

Keys and values are Hydra overrides; nested keys mean the same as dotted ones. Knows nothing about running
trials.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lorasweep.config import places
from lorasweep.config.bind import bind_record
from lorasweep.config.override import as_overrides, parse
from lorasweep.config.recipe import check_recipe
from lorasweep.config.suggest import unknown
from lorasweep.config.yaml_file import read_yaml
from lorasweep.errors import ConfigError, Problem
from lorasweep.records import LauncherOptions, Recipe, TrackingOptions

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A named recipe, compared side by side with the others.

    Attributes:
        name: short, a part of folder names.
        note: what it is there for.
        overrides: what makes it differ from the sweep's common recipe, as `KEY=VALUE`s.
        recipe: fully resolved, with the recipe's own seed; a trial replaces it by one of the sweep's.
    """

    name: str
    note: str
    overrides: tuple[str, ...]
    recipe: Recipe


@dataclass(frozen=True, kw_only=True)
class SweepSpec:
    """A question, checked.

    Attributes:
        name: the file's stem; names the output folder.
        question: one sentence.
        metric: what ranks the arms.
        goal: which way is better.
        worst: what Optuna is told for a trial that diverged.
        seeds: every arm is cooked once with each.
        arms: at least one.
        launcher, tracking: the sweep's, not an arm's.
    """

    name: str
    question: str
    metric: str
    goal: Literal["maximize", "minimize"]
    worst: float
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    launcher: LauncherOptions
    tracking: TrackingOptions

    @property
    def total(self) -> int:
        """Declared number of trials."""
        return len(self.arms) * len(self.seeds)


@dataclass(frozen=True, kw_only=True)
class _MetricOptions:
    name: str
    goal: Literal["maximize", "minimize"] = "maximize"
    worst: float = 0.0


@dataclass(frozen=True, kw_only=True)
class _SweepFile:
    """The keys under `sweep:` and their types; arms and recipe are checked as overrides."""

    question: str
    metric: _MetricOptions
    arms: dict[str, Any]
    seeds: tuple[int, ...] = (0,)
    recipe: dict[str, Any] = dataclasses.field(default_factory=dict)


def load_sweep(name_or_file: str, overrides: Sequence[str] = ()) -> SweepSpec:
    """Read a sweep and compose every arm.

    Args:
        name_or_file: a path that ends in .yaml, or a name: `sweeps/<name>.yaml` in the current folder, else
            among those that come with lorasweep.
        overrides: applied to every arm, after the file's own.

    Raises:
        ConfigError: with the problems of the file and of all arms at once.
    """
    path = find_sweep(name_or_file)
    problems: list[Problem] = []
    data = read_yaml(path)
    body = data.get("sweep") if isinstance(data, Mapping) else None
    if not isinstance(body, Mapping) or set(data) != {"sweep"}:
        raise ConfigError(
            Problem(str(path), "must have one top-level key, `sweep`", "see sweeps/quickstart.yaml")
        )
    declared = bind_record(_SweepFile, body, at="sweep", problems=problems)
    if not _NAME.fullmatch(path.stem):
        problems.append(Problem(str(path), "a sweep's name must be letters, digits, `-`, `_` and `.`"))
    problems += _shape_problems(body)
    arms = _compose_arms(body, overrides, problems)
    if problems or declared is None:
        raise ConfigError(problems, subject=f"sweep `{path.stem}` ({path})")
    first = arms[0].recipe
    if unknown_metric := _metric_problem(declared.metric.name, first):
        raise ConfigError(unknown_metric, subject=f"sweep `{path.stem}` ({path})")
    return SweepSpec(
        name=path.stem,
        question=declared.question,
        metric=declared.metric.name,
        goal=declared.metric.goal,
        worst=declared.metric.worst,
        seeds=declared.seeds,
        arms=tuple(arms),
        launcher=first.launcher,
        tracking=first.tracking,
    )


def find_sweep(name_or_file: str) -> Path:
    """Locate a sweep file.

    Raises:
        ConfigError: there is none; near names are suggested.
    """
    if name_or_file.endswith((".yaml", ".yml")):
        path = Path(name_or_file).expanduser()
        if not path.is_file():
            raise ConfigError(Problem(name_or_file, "no such sweep file", f"looked at {path.absolute()}"))
        return path
    folders = [Path("sweeps"), places.sweeps_dir()]
    for folder in folders:
        if _NAME.fullmatch(name_or_file) and (folder / f"{name_or_file}.yaml").is_file():
            return folder / f"{name_or_file}.yaml"
    names = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    hint = f"sweeps: {', '.join(names)}; or give a path that ends in .yaml"
    raise ConfigError(Problem(name_or_file, unknown("no such sweep", name_or_file, names), hint))


def _shape_problems(body: Mapping[str, Any]) -> Iterator[Problem]:
    """Find what types cannot say about the keys under `sweep:`."""
    seeds, arms = body.get("seeds"), body.get("arms")
    if seeds == []:
        yield Problem("sweep.seeds", "must have at least one seed", "e.g. seeds: [0]")
    elif isinstance(seeds, list) and len({str(seed) for seed in seeds}) < len(seeds):
        yield Problem("sweep.seeds", f"must not repeat a seed, got {seeds}")
    if isinstance(arms, Mapping) and not arms:
        yield Problem(
            "sweep.arms", "must have at least one arm", "e.g. arms: {prodigy: {optimizer: prodigy}}"
        )
    for name in arms if isinstance(arms, Mapping) else ():
        if not _NAME.fullmatch(str(name)):
            yield Problem(f"sweep.arms.{name}", "an arm's name must be letters, digits, `-`, `_` and `.`")
    question = body.get("question")
    if isinstance(question, str) and not question.strip():
        yield Problem("sweep.question", "must not be empty", "one sentence: what should be known afterwards?")


def _metric_problem(name: str, recipe: Recipe) -> Problem | None:
    """Find a metric whose family nothing measures."""
    families = ["overcook", "train", *recipe.metrics]
    family, slash, rest = name.partition("/")
    if slash and rest and family in families:
        return None
    message = unknown(f"must be family/name, of a family that is measured, got {name!r}", family, families)
    return Problem("sweep.metric.name", message, f"families: {', '.join(families)}; e.g. overcook/utility")


def _compose_arms(body: Mapping[str, Any], overrides: Sequence[str], problems: list[Problem]) -> list[Arm]:
    """Compose every arm; problems of the common recipe are reported once, those of an arm under its name."""
    common_found: list[Problem] = []
    common = as_overrides(body.get("recipe") or {}, "sweep.recipe", common_found)
    check_recipe(*_parsed([*common, *overrides], common_found))
    problems += [_placed(problem, "sweep.recipe") for problem in common_found]
    seen = {(problem.where, problem.message) for problem in common_found}
    arms: list[Arm] = []
    declared = body.get("arms")
    for name, keys in declared.items() if isinstance(declared, Mapping) else ():
        found: list[Problem] = []
        keys = {} if keys is None else keys
        if not isinstance(keys, Mapping):
            problems.append(
                Problem(f"sweep.arms.{name}", f"must have keys, got {keys!r}", "e.g. {optimizer: prodigy}")
            )
            continue
        note = keys.get("note", "")
        if not isinstance(note, str):
            found.append(Problem("note", f"must be text, got {note!r}"))
        own = as_overrides({k: v for k, v in keys.items() if k != "note"}, f"sweep.arms.{name}", found)
        found += [
            Problem(
                text,
                "belongs to the whole sweep, not to an arm",
                "put it under `recipe:` or on the command line",
            )
            for text in own
            if re.match(r"(launcher|tracking|seed)\b", text)
        ]
        recipe = check_recipe(*_parsed([*common, *own, *overrides], found))
        problems += [_placed(p, f"arm `{name}`") for p in found if (p.where, p.message) not in seen]
        if recipe is not None:
            arms.append(Arm(name=str(name), note=str(note), overrides=tuple(own), recipe=recipe))
    return arms


def _parsed(texts: Sequence[str], problems: list[Problem]) -> tuple[list[Any], list[Problem]]:
    parsed, found = parse(texts)
    problems += found
    return parsed, problems


def _placed(problem: Problem, owner: str) -> Problem:
    if problem.where.startswith("sweep."):
        return problem
    return dataclasses.replace(problem, where=f"{owner}: {problem.where}")
