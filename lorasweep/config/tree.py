"""Compose the option groups into one plain tree, as Hydra does, and twenty times as fast.

The files of conf/ are plain data: none has defaults of its own or interpolates, so that a file per group is all there
is to it; a test compares with Hydra. Takes parsed overrides, gives back nested dicts and the file behind each group.
Knows nothing about types or ranges.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasweep.components import bases
from lorasweep.config import places
from lorasweep.config.bind import TO_BE_GIVEN, find_module
from lorasweep.config.override import Override, parse
from lorasweep.config.suggest import did_you_mean, unknown
from lorasweep.core.errors import Problem
from lorasweep.core.records import SampleOptions

SAMPLING = SampleOptions.sampler, SampleOptions.steps  # of a base whose module names none of its own


@dataclass(frozen=True)
class Tree:
    """A composed recipe before it is checked."""

    values: dict[str, Any]  # nested plain dicts, one per group, and `seed`
    files: dict[str, str]  # group -> file its values come from (`adapter` -> `conf/adapter/lora.yaml`)

    def file_of(self, key: str) -> str:
        """Return the YAML file where a person would look a dotted key up."""
        group, _, rest = key.partition(".")
        if group in places.LIST_GROUPS and rest:
            return places.named(group, rest.split(".")[0])
        return self.files.get(group, "conf/recipe.yaml")


def look_up(values: Any, key: str) -> Any:
    """Return the value of a dotted key in nested dicts; None where there is none."""
    for part in key.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def compose_tree(overrides: Sequence[Override]) -> tuple[Tree, list[Problem]]:
    """Pick a file per group, then set single keys in the order given.

    Args:
        overrides: `optimizer=prodigy` picks a file, `optimizer.lr=1` sets a key; keys that do not exist are
            set all the same, and found later when the tree is bound to its records.

    Returns:
        The tree (with the default file for each group whose choice was wrong, and the base's own sampler and steps
        where null asks for them), and the problems.
    """
    problems: list[Problem] = []
    picks: dict[str, str | list[str]] = {}
    settings: list[Override] = []
    unknown_parts: set[str] = set()
    for override in overrides:
        if override.key not in places.groups():
            settings.append(override)
        elif problem := _choice_problem(override):
            problems.append(problem)
            unknown_parts.add(override.key)
        elif isinstance(override.value, list):
            picks[override.key] = [str(name) for name in override.value]
        else:
            picks[override.key] = str(override.value)
    if picks.get("base") == "auto":
        # The file of conf/base/ for what lies there; of nothing known, the one that says what it is.
        folders = [Path(str(each.value)).expanduser() for each in settings if each.key == "base.path"]
        picks["base"] = (bases.detect(folders[-1]) if folders else None) or "stable_diffusion"
    usual, own = places.read_map()
    chosen = {**usual, **picks}
    values = copy.deepcopy({group: _chosen(group, choice) for group, choice in chosen.items()} | own)
    for override in settings:
        # Keys of a part that does not exist cannot be judged: what is wrong with them is its name.
        if override.key.split(".")[0] in unknown_parts:
            continue
        problem = _unpicked(values, override) or _picked_by_name(values, override) or _set(values, override)
        if problem:
            problems.append(problem)
    draw_as_the_base_does(values)
    files = {key: places.named(key, name) for key, name in chosen.items() if key not in places.LIST_GROUPS}
    return Tree(values=values, files=files), problems


def draw_as_the_base_does(values: Mapping[str, Any]) -> None:
    """Put the base's own sampler and steps where null asks for them, in place."""
    sample, name = values.get("sample"), look_up(values, "base.name")
    module = find_module("base", name, at="base.name", problems=[]) if isinstance(name, str) else None
    if module is None or not isinstance(sample, dict):
        return
    sampler, steps = getattr(module, "SAMPLING", SAMPLING)
    if sample.get("sampler", "") is None:
        sample["sampler"] = sampler
    if sample.get("steps", "") is None:
        sample["steps"] = steps if sample.get("sampler") == sampler else SAMPLING[1]


def without_replaced(texts: Sequence[str], later: Sequence[str]) -> list[str]:
    """Drop the keys of groups that later overrides pick a file for: it takes their place.

    All of them where it is another part (the learning rate of AdamW means nothing to Prodigy) or the default
    itself; else those of which it says something of its own, so that `train=debug` leaves `train.precision`, and
    `captions=absorbed` the trigger. Of a group with several files, those that are still picked keep their keys.
    """
    picked = {each.key: each.value for each in parse(later)[0] if each.key in places.groups()}
    usual, _ = places.read_map()

    def is_replaced(text: str) -> bool:
        group, _, knob = text.lstrip("+~").partition("=")[0].partition(".")
        if group not in picked or not knob:
            return group in picked
        choice = picked[group]
        if group in places.LIST_GROUPS:
            return knob.split(".")[0] not in (choice if isinstance(choice, list) else [choice])
        said, before = (places.read_choice(group, str(name)) for name in (choice, usual[group]))
        is_another = said == before or said.get("name") != before.get("name")
        return is_another or look_up(said, knob) not in (look_up(before, knob), TO_BE_GIVEN)

    return [text for text in texts if not is_replaced(text)]


def _chosen(group: str, choice: str | Sequence[str]) -> Mapping[str, Any]:
    """Return the values of a group: of a file, or of several by name."""
    if group not in places.LIST_GROUPS:
        return places.read_choice(group, str(choice))
    names = [choice] if isinstance(choice, str) else choice
    return {name: places.read_choice(group, name) for name in names if name != "none"}


def _choice_problem(override: Override) -> Problem | None:
    """Check that a group's choice names files that exist."""
    group, known = override.key, places.choices(override.key)
    listed = f"choices: {', '.join(known)}"
    if override.delete:
        return Problem(override.text, f"a recipe needs its {group}", listed)
    if group in places.LIST_GROUPS and isinstance(override.value, list):
        names = [str(name) for name in override.value]
    elif group == "metrics":
        return Problem(override.text, "must be a list", f"e.g. metrics=[{','.join(known[:2])}]; {listed}")
    elif isinstance(override.value, list | dict) or override.value is None:
        return Problem(override.text, f"must name one file of conf/{group}/", listed)
    else:
        names = [str(override.value)]
    for name in names:
        if name not in known:
            no_such = Problem(f"{group}={name}", unknown(f"no such {group}", name, known), listed)
            return places.without_file(group, name) or no_such
        if problem := places.clash(group, name):
            return problem
    return None


def _unpicked(values: dict[str, Any], override: Override) -> Problem | None:
    """Refuse a knob of a regularizer that was not picked: setting it would otherwise switch it on."""
    group, _, rest = override.key.partition(".")
    picked = values.get(group) or {}
    name = rest.split(".")[0]
    if group != "regularization" or name in picked:
        return None
    if name in places.choices(group):
        all_of_them = ",".join([*picked, name])
        return Problem(override.text, f"{name} is not picked", f"override: {group}=[{all_of_them}]")
    keys = ", ".join(f"{group}.{one}.{knob}" for one, knobs in picked.items() for knob in knobs or {})
    message = unknown(f"no {group} is called {name!r}", name, places.choices(group))
    return Problem(override.text, message, keys)


def _picked_by_name(values: dict[str, Any], override: Override) -> Problem | None:
    """Refuse `optimizer.name=prodigy`, which would leave it the knobs of the file that was picked."""
    group, _, knob = override.key.partition(".")
    if group not in places.groups() or group in places.LIST_GROUPS or knob != "name":
        return None
    before, name = values[group].get("name"), str(override.value)
    if name == before or name not in places.choices(group):
        return None
    return Problem(override.text, f"would leave it the knobs of {before}", f"override: {group}={name}")


def _set(values: dict[str, Any], override: Override) -> Problem | None:
    """Set or delete one dotted key in place; a scalar on the way is a problem, an absent level is made."""
    *path, last = override.key.split(".")
    node: Any = values
    for depth, part in enumerate(path):
        inner = node.get(part)
        if inner is None and not override.delete:
            inner = node[part] = {}
        if not isinstance(inner, dict):
            where = ".".join(path[: depth + 1])
            return Problem(override.text, f"`{where}` has no keys of its own", f"override: {where}=VALUE")
        node = inner
    if override.delete:
        if last not in node:
            return Problem(override.text, "cannot be taken out: it is not there", did_you_mean(last, list(node)))
        del node[last]
    elif isinstance(override.value, dict) and isinstance(node.get(last), dict):
        node[last] = {**node[last], **copy.deepcopy(override.value)}
    else:
        node[last] = copy.deepcopy(override.value)  # a later key may be set in it
    return None
