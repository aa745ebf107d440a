"""Read a sweep file: a question, its arms or its space, and what answers it.

    sweep:
      question: Which optimizer burns later?
      metric: {name: overcook/utility, goal: maximize}
      seeds: [0]
      recipe: {train.max_steps: 300}          # for every arm and every point
      arms:                                   # known recipes
        adamw: {note: the usual, optimizer: adamw}
        prodigy: {optimizer: prodigy}
      total: 20                               # trials in all, arms and repeats included
      space:                                  # see space_read.py
        adapter.dim: tag(log,int(interval(4,64)))

Keys and values are Hydra overrides; nested keys mean the same as dotted ones. On the command line several
values of a key make an axis, and `sweep.total=40` changes the file's own keys. Knows nothing about running
trials.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lorasweep.config import places
from lorasweep.config.bind import bind_record
from lorasweep.config.override import Override, as_overrides, is_override, parse, repeats
from lorasweep.config.space_read import split
from lorasweep.config.suggest import file_advice, folder_advice, unknown
from lorasweep.config.sweep_arms import build_search, compose_arms
from lorasweep.config.sweep_spec import (
    Objective,
    PrunerOptions,
    SamplerOptions,
    SweepSpec,
    mode_problems,
    read_constraints,
    read_options,
)
from lorasweep.config.text_value import settled
from lorasweep.config.tree import without_replaced
from lorasweep.config.yaml_file import read_yaml
from lorasweep.core import once, paths
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.files import matching
from lorasweep.core.printable import command
from lorasweep.core.records import Seeds, digest
from lorasweep.core.run_folder import MANIFEST_FILE, load_yaml

_SEED = re.compile(r"[+~]*seed(=|$)")
_NAME = re.compile(r"[^\W_][\w.-]*")
_LONGEST_NAME = 150  # bytes: folders are named by it, and file systems take 255
UTILITY = Objective(name="overcook/utility")
_OWN = "sweep"  # overrides of this key are the file's own keys
_NOT_BY_OVERRIDE = ("arms", "space", "recipe")


@dataclass(frozen=True, kw_only=True)
class _SweepFile:
    """The keys under `sweep:` and their types; arms, space and recipe are checked as overrides."""

    question: str
    metric: Objective = UTILITY
    arms: dict[str, Any] = field(default_factory=dict)
    seeds: Seeds = (0,)
    recipe: dict[str, Any] = field(default_factory=dict)
    space: dict[str, Any] | None = None
    total: int | None = None
    sampler: str | dict[str, Any] | None = None
    pruner: str | dict[str, Any] = "none"
    constraints: dict[str, Any] = field(default_factory=dict)


@once.shared()
def load_sweep(name_or_file: str, overrides: Sequence[str] = ()) -> SweepSpec:
    """Read a sweep, compose every arm and check every recipe in reach of its space.

    Args:
        name_or_file: a path that ends in .yaml, or a name: of a sweep that comes with lorasweep, else
            `sweeps/<name>.yaml` in the current folder, else one that was cooked here, from whatever file, with the
            overrides that it was given. A recipe's file is a sweep with axes among the overrides.
        overrides: applied to every recipe, after the file's own; see `without_replaced`. `sweep.KEY=VALUE` changes the
            file's own keys; `sweep.name=other` gives the results a folder of their own.

    Raises:
        ConfigError: with all problems at once.
    """
    if is_override(name_or_file):
        return sweep_of_overrides([name_or_file, *overrides])
    try:
        path = find_sweep(name_or_file)
    except ConfigError:
        typed = _cooked_by(name_or_file)
        if not typed or typed[0] == name_or_file:  # a file that is gone
            raise
        return load_sweep(typed[0], _on_top([*typed[1:], f"sweep.name={name_or_file}"], overrides))
    data = read_yaml(path)
    body = data.get(_OWN) if isinstance(data, Mapping) else None
    if not isinstance(body, Mapping) or set(data) != {_OWN}:
        if isinstance(data, Mapping) and set(data) == {"recipe"} and isinstance(data["recipe"], Mapping):
            spec = _sweep_of_recipe(data["recipe"], path, overrides)
            return dataclasses.replace(spec, typed=(name_or_file, *overrides))
        usual = "see sweeps/quickstart.yaml; one recipe is put under `recipe`, for train and plan"
        hint = file_advice(name_or_file, data) or usual
        raise ConfigError(Problem(str(path), "must have one top-level key, `sweep`", hint))
    spec = _build(body, path.stem, overrides, subject=f"sweep `{path.stem}` ({path})")
    return dataclasses.replace(spec, typed=(name_or_file, *overrides))


def _cooked_by(name: str) -> list[str]:
    """Return what asked a sweep of `outputs/`: a name, file or KEY=VALUE, and more KEY=VALUEs; empty: not known."""
    file = paths.outputs() / name / MANIFEST_FILE
    try:
        return [str(word) for word in load_yaml(file.read_text(encoding="utf-8")).get("typed") or ()]
    except (OSError, ValueError, AttributeError, yaml.YAMLError):
        return []


def _on_top(texts: Sequence[str], later: Sequence[str]) -> list[str]:
    keys = {override.key for override in parse(later)[0]} | {swept.key for swept in split(later)[1]}
    kept = {key: text for text in texts if (key := text.partition("=")[0]) not in keys}
    return [*kept.values(), *later]


def sweep_of_overrides(overrides: Sequence[str]) -> SweepSpec:
    """Make a sweep of nothing but `KEY=VALUE`s, named by what it says, so that the same command continues it.

    Raises:
        ConfigError: with all problems at once.
    """
    if not has_axes(overrides):
        hint = "e.g. optimizer.lr=1e-4,1e-3; one recipe is for lorasweep train"
        problem = Problem(" ".join(overrides), "has nothing to compare: a key must have several values", hint)
        raise ConfigError(repeats(overrides) or problem, subject="the command line")
    spec = _sweep_of_axes({}, overrides, name="multirun", subject="the command line")
    return dataclasses.replace(spec, typed=tuple(overrides))


def has_axes(overrides: Sequence[str]) -> bool:
    """Tell whether any of these `KEY=VALUE`s has several values, right ones or wrong."""
    _, swept, wrong = split(overrides)
    return bool(swept or wrong)


def _sweep_of_recipe(recipe: Mapping[str, Any], path: Path, overrides: Sequence[str]) -> SweepSpec:
    """Return one recipe's file with axes on the command line; its seed is the sweep's."""
    if not has_axes(overrides):
        several = command("lorasweep", "sweep", str(path), "optimizer.lr=1e-4,1e-3")
        hint = f"several values make a sweep: {several}; or {command('lorasweep', 'train', str(path))}"
        raise ConfigError(Problem(str(path), "holds one recipe, and nothing to compare it with", hint))
    seeds = {"seeds": [recipe["seed"]]} if "seed" in recipe else {}
    body = {"recipe": {key: value for key, value in recipe.items() if key != "seed"}, **seeds}
    return _sweep_of_axes(body, overrides, name=_as_name(path.stem), subject=f"the recipe {path}")


def _sweep_of_axes(body: Mapping[str, Any], overrides: Sequence[str], *, name: str, subject: str) -> SweepSpec:
    keys = ", ".join(each.key for each in split(overrides)[1])
    body = {"question": f"Which {keys or 'recipe'} is best?", **body}
    return _build(body, f"{name}-{digest(sorted(overrides))[:8]}", overrides, subject=subject)


def find_sweep(name_or_file: str) -> Path:
    """Locate a sweep file; raises ConfigError, with near names, when there is none."""
    if name_or_file.endswith((".yaml", ".yml")):
        path = paths.typed(name_or_file)
        if not path.is_file():
            raise ConfigError(Problem(name_or_file, "no such sweep file", f"looked at {path.absolute()}"))
        return path
    found = [folder / f"{name_or_file}.yaml" for folder in _folders() if _NAME.fullmatch(name_or_file)]
    found = [path for path in found if path.is_file()]
    if len(found) > 1 and not found[0].samefile(found[1]) and _question(found[1]) is not None:
        hint = f"give its path: {found[1]} or {found[0]}"
        raise ConfigError(Problem(name_or_file, "is the name of two sweeps, lorasweep's and yours", hint))
    if found:
        return found[0]
    if advice := folder_advice(name_or_file) or file_advice(name_or_file):
        raise ConfigError(Problem(name_or_file, "is no sweep", advice))
    if Path(f"{name_or_file}.yaml").is_file():
        hint = f"give its file: {name_or_file}.yaml"
        raise ConfigError(Problem(name_or_file, "is not among the sweeps, and is a file here", hint))
    names = list(named_sweeps())
    hint = f"sweeps: {', '.join(names)}; or give a path that ends in .yaml"
    raise ConfigError(Problem(name_or_file, unknown("no such sweep", name_or_file, names), hint))


def named_sweeps() -> dict[str, str]:
    """Return the questions of the sweeps that are known by name: those that ship, and those in `sweeps/` here."""
    files = {path.stem: path for folder in reversed(_folders()) for path in matching(folder, "*.yaml")}
    asked = {name: _question(path) for name, path in sorted(files.items())}
    return {name: question for name, question in asked.items() if question is not None}


def _folders() -> list[Path]:
    return [places.sweeps_dir(), Path("sweeps")]


def _question(path: Path) -> str | None:
    """Return what a sweep asks, "" where it does not say; None of a file that is another program's."""
    try:
        body = read_yaml(path)[_OWN]
    except (ConfigError, KeyError, TypeError):
        return None
    return str(body.get("question", "")) if isinstance(body, Mapping) else ""


def _build(body: Mapping[str, Any], name: str, texts: Sequence[str], *, subject: str) -> SweepSpec:
    problems: list[Problem] = []
    problems += repeats(texts)
    fixed, swept, found = split(texts)
    problems += found
    problems += _seed_problems(texts)
    swept = [each for each in swept if not _SEED.match(each.text)]
    own = [text for text in fixed if re.match(rf"{_OWN}\.", text)]
    overrides = [text for text in fixed if text not in own and not _SEED.match(text)]
    body, name = _changed(body, unicodedata.normalize("NFC", name), own, problems)  # macOS takes letters apart

    body, second = _parted(body, problems)
    declared = bind_record(_SweepFile, body, at=_OWN, problems=problems)
    problems += _name_problems(name, "a sweep", at="sweep.name")
    if name.lower() in (paths.SINGLE_RUNS, paths.JUDGED_RUNS):
        problems.append(Problem(name, "is where single runs are kept", "sweep.name=another"))
    if not paths.is_portable(name):
        problems.append(Problem(name, "cannot name a folder on Windows", "sweep.name=another"))
    problems += _shape_problems(body, swept=bool(swept))
    recipe = body.get("recipe")
    common = as_overrides(recipe if isinstance(recipe, Mapping) else {}, "sweep.recipe", problems)
    problems += _seed_problems(common, file=True)
    common = without_replaced(common, overrides)
    arms, base = compose_arms(body.get("arms"), common, overrides, problems)
    if declared is None or base is None:
        raise ConfigError(problems, subject=subject)

    objectives = (declared.metric, *second)
    constraints = read_constraints(declared.constraints, problems)
    sampler = read_options(SamplerOptions, declared.sampler or "tpe", at="sweep.sampler", problems=problems)
    pruner = read_options(PrunerOptions, declared.pruner, at="sweep.pruner", problems=problems)
    problems += mode_problems(sampler, pruner, objectives, constraints)
    arms, search = build_search(
        declared.space,
        swept=swept,
        common=common,
        overrides=overrides,
        arms=arms,
        seeds=declared.seeds,
        total=declared.total,
        sampler=sampler if declared.sampler is not None else None,
        problems=problems,
    )
    if problems:
        raise ConfigError(problems, subject=subject)
    return SweepSpec(
        name=name,
        question=declared.question,
        metric=declared.metric.name,
        goal=declared.metric.goal,
        worst=declared.metric.told(),
        seeds=declared.seeds,
        arms=tuple(arms),
        launcher=base.launcher,
        tracking=base.tracking,
        search=search,
        pruner=pruner,
        constraints=constraints,
        further=tuple(dataclasses.replace(each, worst=each.told()) for each in second),
    )


def _seed_problems(texts: Sequence[str], *, file: bool = False) -> list[Problem]:
    """Refuse a recipe's own seed, in whose place the sweep puts each of its seeds."""
    found = []
    for text in texts:
        if match := _SEED.match(text):
            seeds = f"[{text[match.end() :].removeprefix('choice(').strip('[]()') or 0}]"
            where, hint = ("sweep.recipe.seed", f"seeds: {seeds}") if file else (text, f"sweep.seeds={seeds}")
            found.append(Problem(where, "a sweep has seeds of its own, for every recipe", hint))
    return found


def _changed(
    body: Mapping[str, Any], name: str, texts: Sequence[str], problems: list[Problem]
) -> tuple[dict[str, Any], str]:
    changed = {k: value if k in _NOT_BY_OVERRIDE else settled(f"{_OWN}.{k}", value) for k, value in body.items()}
    parsed, found = parse(texts)
    problems += found
    for override in parsed:
        _, key, *deeper = override.key.split(".")
        if key == "name" and not deeper:
            name = str(override.value)
        elif key in _NOT_BY_OVERRIDE:
            hint = "e.g. optimizer.lr=1e-4, or 'optimizer.lr=choice(1e-4,1e-3)' for an axis"
            problems.append(Problem(override.text, "is changed by the recipe's own keys", hint))
        else:
            changed[key] = _set(changed.get(key), deeper, override)
    return changed, name


def _set(node: Any, path: Sequence[str], override: Override) -> Any:
    if not path:
        return override.value
    # `sampler: tpe` and then `sweep.sampler.seed=3`
    inner = {"name": node} if isinstance(node, str) else dict(node or {})
    return {**inner, path[0]: _set(inner.get(path[0]), path[1:], override)}


def _parted(body: Mapping[str, Any], problems: list[Problem]) -> tuple[dict[str, Any], tuple[Objective, ...]]:
    """Part a list of `metric:`: the first ranks, the second is optimised as well."""
    metric = body.get("metric")
    if not isinstance(metric, list):
        return dict(body), ()
    if len(metric) not in (1, 2):
        message = f"must be one metric or a list of two, got {len(metric)}"
        problems.append(Problem("sweep.metric", message, "further ones are `constraints:`"))
        metric = metric[:2] or [None]
    bound = [bind_record(Objective, each, at="sweep.metric", problems=problems) for each in metric[1:]]
    return {**body, "metric": metric[0]}, tuple(each for each in bound if each is not None)


def _shape_problems(body: Mapping[str, Any], *, swept: bool) -> Iterator[Problem]:
    """Find what types cannot say about the keys under `sweep:`."""
    arms = body.get("arms")
    if not arms and not body.get("space") and not swept and (arms is None or isinstance(arms, Mapping)):
        hint = "e.g. arms: {prodigy: {optimizer: prodigy}}, or space: {adapter.dim: choice(8,16)}"
        yield Problem("sweep.arms", "must have at least one arm, or a space", hint)
    for name in arms if isinstance(arms, Mapping) else ():
        yield from _name_problems(str(name), "an arm", at=f"sweep.arms.{name}")
    question = body.get("question")
    if isinstance(question, str) and not question.strip():
        yield Problem("sweep.question", "must not be empty", "one sentence: what should be known afterwards?")


def _as_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text).strip("_.-") or "mine"


def _name_problems(name: str, whose: str, *, at: str) -> Iterator[Problem]:
    if not _NAME.fullmatch(name):
        hint = f"{'sweep.name=' if at == 'sweep.name' else 'e.g. '}{_as_name(name)}"
        yield Problem(at, f"{whose}'s name must be letters, digits, `-`, `_` and `.`, got {name!r}", hint)
    elif len(name.encode(errors="replace")) > _LONGEST_NAME:
        yield Problem(at, f"{whose}'s name must have at most {_LONGEST_NAME} bytes")
