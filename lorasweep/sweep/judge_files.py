"""What `judge` is given, as a question: files become the rungs of arms, arms a sweep. No torch.

    my-*.safetensors base=... captions.trigger=zkw    one arm, its files by step
    mine=a.safetensors theirs=b.safetensors base=...  two arms, one file each

A word is a file where it names one, by its ending or because it is there; any other is `KEY=VALUE` of the recipe.
"""

from __future__ import annotations

import dataclasses
import glob
import os.path
import re
from collections.abc import Sequence
from pathlib import Path

from lorasweep.components.adapters import file
from lorasweep.config import Arm, SweepSpec, compose_recipe, texts
from lorasweep.config.sweep_spec import Constraint, Objective, read_constraint
from lorasweep.core import paths
from lorasweep.core.errors import ConfigError, InputError, Problem
from lorasweep.core.files import matching
from lorasweep.core.records import Component, Plan, Recipe, digest
from lorasweep.plan import lora_files
from lorasweep.sweep import beforehand, comparable
from lorasweep.trial.judge.score import IDENTITY, SCORE, UTILITY

SUBJECT = "what is to be judged"
_SHORT = {"overcook": SCORE, "utility": UTILITY, "identity": IDENTITY}
_ARM = re.compile(r"([A-Za-z0-9][\w-]*)=(.+)")
_REQUIRED = re.compile(r"\s*([\w/.]+)\s*([<>].*)")
_KEYS = frozenset(field.name for field in dataclasses.fields(Recipe))


def question(words: Sequence[str], *, steps: Sequence[int] | None = None) -> SweepSpec:
    """Read files, `ARM=FILE`s and `KEY=VALUE`s, and compose a recipe for every arm.

    Without `dataset` there are no images; with `dataset.path` all of them were trained on, unless a `dataset.holdout`
    is given. `steps` are those of a single arm's files, in their order.

    Raises:
        ConfigError: with every problem of the files, their order and the recipe.
    """
    arms, overrides = _parted(words)
    problems: list[Problem] = []
    if not arms:
        problems.append(Problem("FILE", "no file is named", "lorasweep judge my_lora-*.safetensors KEY=VALUE ..."))
    if steps is not None and len(arms) > 1:
        problems.append(Problem("--steps", "is for the files of one arm", "name files by step: my-step00000500"))
        steps = None
    problems += [problem for files in arms.values() for path in files for problem in lora_files.unreadable(path)]
    ordered = {}
    for name, files in arms.items() if not problems else ():
        found = lora_files.order(files, steps=steps)
        if isinstance(found, Problem):
            problems.append(found)
        else:
            ordered[name] = found
    recipe = None
    try:
        recipe = compose_recipe([*_defaults(overrides), "adapter=files"], overrides)
    except InputError as error:
        problems += error.problems
    if problems or recipe is None:
        raise ConfigError(problems, subject=SUBJECT)
    names = "-".join(ordered)[:80]
    return SweepSpec(
        name=f"judge-{names}-{digest(sorted(words))[:8]}",
        question="Which file is done?" if len(ordered) == 1 else f"Which is done: {', '.join(ordered)}?",
        metric=UTILITY,
        goal="maximize",
        worst=Objective(name=UTILITY).told(),
        seeds=(recipe.seed,),
        arms=tuple(_arm(name, recipe, found) for name, found in ordered.items()),
        launcher=recipe.launcher,
        tracking=recipe.tracking,
    )


def planned(asked: SweepSpec, required: Sequence[Constraint] = ()) -> tuple[SweepSpec, dict[str, Plan]]:
    """Plan every arm; where nothing tells whether the subject is learned, arms are ranked by how little is overcooked.

    Raises:
        ConfigError, DatasetError: with every problem of all arms, and what is required and will not be measured.
    """
    plans = beforehand.plan_arms(asked.arms, subject=SUBJECT)
    offers = comparable.offers(asked, plans)
    wanted = [("--require", bound.metric, False) for bound in required]
    if problems := list(beforehand.unmeasured(wanted, offers)):
        raise ConfigError(problems, subject=SUBJECT)
    if any(offer.at_rungs.get(UTILITY) for offer in offers.values()):
        worst = Objective(name=SCORE, goal="minimize").told()
        asked = dataclasses.replace(asked, metric=SCORE, goal="minimize", worst=worst)
    return asked, plans


def requirements(bounds: str | Sequence[str]) -> tuple[Constraint, ...]:
    """Read `overcook<0.5`: a metric, or its short name, and a bound; `<` means `<=`.

    Raises:
        ConfigError: with every text that is no such bound.
    """
    found, problems = [], []
    for text in texts([bounds], "METRIC<BOUND"):
        match = _REQUIRED.fullmatch(text)
        if match and (bound := read_constraint(_SHORT.get(match[1], match[1]), match[2])):
            found.append(bound)
        else:
            problems.append(Problem("--require", f"must be a metric and a bound, got {text!r}", "'overcook<0.5'"))
    if problems:
        raise ConfigError(problems, subject=SUBJECT)
    return tuple(found)


def _parted(words: Sequence[str]) -> tuple[dict[str, list[Path]], list[str]]:
    """Return the files of every arm, and the overrides."""
    bare: list[Path] = []
    named: dict[str, list[Path]] = {}
    overrides = []
    for word in words:
        match = _ARM.fullmatch(word)
        if "=" not in word or os.path.isfile(word) or (match is None and os.path.isdir(word)):
            bare += _files(word)
        elif (
            match
            and match[1] not in _KEYS
            and (match[2].lower().endswith(lora_files.SUFFIX) or os.path.exists(os.path.expanduser(match[2])))
        ):
            named.setdefault(match[1], []).extend(_files(match[2]))
        else:
            overrides.append(word)
    if bare:
        named = {_common_name(bare): bare, **named}
    return named, overrides


def _files(word: str) -> list[Path]:
    """Return the files that a word names: itself, those that match it where no shell has expanded it, or a folder's."""
    path = paths.typed(word)
    if path.is_dir():
        return matching(path, f"*{lora_files.SUFFIX}") or [path]
    folder = glob.escape(str(path.parent)) if path.parent.is_dir() else str(path.parent)
    if not path.exists() and (found := sorted(glob.glob(os.path.join(folder, path.name)))):
        return [Path(each) for each in found]
    return [path]


def _common_name(files: Sequence[Path]) -> str:
    """Return the file's name, or what the names of several begin with; their folder's, where that is nothing."""
    common = files[0].stem
    if len(files) > 1:
        common = os.path.commonprefix([path.stem for path in files]).rstrip("0123456789")
    names = (re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-_.") for name in (common, files[0].absolute().parent.name))
    return next(filter(None, names), "files")


def _defaults(overrides: Sequence[str]) -> list[str]:
    """Return what is judged by, where the person does not say: no images; or all of them were trained on."""
    keys = {text.split("=")[0].lstrip("+~") for text in overrides}
    if "dataset" not in keys and not keys & {"dataset.path", "dataset.dollhouse.images"}:
        return ["dataset=none"]
    return ["dataset.holdout=0"] if "dataset.path" in keys and "dataset.holdout" not in keys else []


def _arm(name: str, recipe: Recipe, found: lora_files.Ordered) -> Arm:
    files = {
        "paths": [str(path.absolute()) for path in found.paths],
        "steps": list(found.steps),
        "text_encoder": any(file.describe(path).text_encoder for path in found.paths),
    }
    last = found.steps[-1]
    length = {"max_steps": last} if found.unit == "steps" else {"max_steps": None, "epochs": last}
    judged = dataclasses.replace(
        recipe,
        adapter=Component(name="files", options=files),
        train=dataclasses.replace(recipe.train, **length),  # by which exposures are counted
    )
    return Arm(name=name, note=", ".join(path.name for path in found.paths), overrides=(), recipe=judged)
