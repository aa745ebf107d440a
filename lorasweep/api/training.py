"""Recipes and sweeps: compose, plan, train, judge."""

from __future__ import annotations

import dataclasses
import os.path
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasweep import config
from lorasweep.core import files, once, paths, progress
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.records import Plan, Recipe, Status
from lorasweep.plan import make_plan
from lorasweep.plan.make import for_seed
from lorasweep.results.handles import EndedRun, EndedSweep, Planned
from lorasweep.sweep import beforehand
from lorasweep.sweep.ranking.state import SweepState

if TYPE_CHECKING:
    from lorasweep.config.importing.finish import Imported, Link

OnEvent = Callable[[dict[str, Any]], object]
OnChange = Callable[[SweepState], None]


def compose(*words: Recipe | str | Path | Sequence[str]) -> Recipe:
    """Make a recipe from what one types after `lorasweep train`: KEY=VALUE or lists of it, first perhaps a recipe file.

    A recipe that comes first is the one to change.

    Raises:
        ConfigError: with every problem found.
    """
    first, *others = words or ((),)
    if isinstance(first, Recipe):
        typed = _texts(others)
        return config.compose_recipe(config.with_overrides(first, typed)) if typed else first
    typed = _texts(words)
    if typed and typed[0].endswith((".yaml", ".yml")) and "=" not in typed[0]:
        return config.load_recipe(typed[0], typed[1:])
    return config.compose_recipe(typed)


def _texts(words: Iterable[Any]) -> list[str]:
    return [text for word in words for text in ([str(word)] if isinstance(word, str | Path) else word)]


def import_config(
    file: str | Path,
    dataset: str | Path | None = None,
    *,
    out: str | Path | None = None,
    link: str | Path | None = None,
) -> Imported:
    """Translate another trainer's config into a recipe, perhaps written to `out`; what could not come along is listed.

    `dataset` is the file that says where the images are, when apart; several folders of images become links in `link`.

    Raises:
        ConfigError: a file cannot be read, is none of those, or has values that make no sense, or a link cannot be
            made: all at once.
        InputError: something else lies at `out`.
    """
    from lorasweep.config import trainers

    images, target, place = (None if path is None else paths.typed(path) for path in (dataset, out, link))
    place = place and place.absolute()
    imported = trainers.import_config(paths.typed(file), images, link_into=place)
    text = imported.text()
    paths.require_replaceable(target, lambda there: there.read_bytes() == text.encode(), option="--out")
    if place is not None:
        _make_links(place, imported.links)
    if target is not None:
        files.write_text(target, text)
    return imported


@once.shared()
def plan(what: Recipe | config.SweepSpec | str | Path | None = None, *overrides: str) -> Planned:
    """Plan a recipe or a sweep, without torch: `ls.plan(recipe)`, `ls.plan("quickstart")`, `ls.plan("adapter.dim=16")`.

    Args:
        what: what one types after `lorasweep plan`; a recipe from `compose`; or a sweep from `config.load_sweep`.
        overrides: KEY=VALUE on top of it.

    Raises:
        ConfigError, DatasetError, InputError: with every problem found.
    """
    subject = _subject(what, overrides)
    if isinstance(subject, Recipe):
        alone = config.Arm(name="recipe", note="", overrides=(), recipe=subject)
        return Planned(subject, [(alone, make_plan(subject))])
    return _planned(subject, plan_sweep(subject))


def _subject(
    what: Recipe | config.SweepSpec | str | Path | None, overrides: Sequence[str]
) -> Recipe | config.SweepSpec:
    """A sweep where one is named or a key has several values, else a recipe."""
    if what is None or isinstance(what, Recipe):
        return compose() if what is None else compose(what, *overrides)
    if isinstance(what, config.SweepSpec):
        return _spec(what, overrides)
    first = str(what)
    is_named = "=" not in first and not re.match(r"~\w+(\.|$)", first)  # ~metrics.burn
    swept = config.has_axes(overrides if is_named else [first, *overrides])
    if swept or (is_named and not config.is_recipe_file(first)):
        return config.load_sweep(first, overrides)
    return compose(first, overrides)


def _planned(spec: config.SweepSpec, plans: Mapping[str, Plan]) -> Planned:
    """Take the plans of `plan_sweep` for the sweep's first seed."""
    arms = []
    for arm in spec.known:
        recipe, seeded = for_seed(arm.recipe, plans[arm.name], spec.seeds[0])
        arms.append((dataclasses.replace(arm, recipe=recipe), seeded))
    return Planned(spec, arms, spec.name, spec.total)


def _spec(sweep: config.SweepSpec | str | Path, overrides: Sequence[str]) -> config.SweepSpec:
    if not isinstance(sweep, config.SweepSpec):
        return config.load_sweep(str(sweep), overrides)
    if overrides:
        hint = "give the sweep by its name or file, or these to config.load_sweep"
        raise ConfigError(Problem(" ".join(overrides), "cannot change a sweep that is read already", hint))
    return sweep


def run_trial(
    recipe: Recipe,
    folder: str | Path | None = None,
    *,
    planned: Plan | None = None,
    fresh: bool = False,
    parent: Mapping[str, Any] | None = None,
    on_event: OnEvent | None = None,
    quiet: bool = False,
) -> EndedRun:
    """Train and judge one recipe, go on where it stopped, or take what is there.

    One Ctrl-C finishes the step and saves.

    Args:
        recipe: from `compose`.
        folder: the run folder; None: where `lorasweep train` puts it. `outputs/mine/first` is `mine/first` to
            every command.
        planned: its plan, when it is known already.
        fresh: train it though this home has already done so elsewhere with the same code.
        parent: what it is a variation of; kept in the run folder.
        on_event: hears every event (`kind`: start, step, rung, samples, end) instead of the progress bar; a rung
            that it answers with False is the last one. What it raises stops the run, and is raised.
        quiet: no progress bar either.

    Raises:
        ConfigError, DatasetError, InputError: before any work; with every problem found.
        SweepHeldError: another process trains in this folder.
    """
    from lorasweep.results.tracking.process import Mirror
    from lorasweep.sweep.single import run_trial as cook

    planned = planned or make_plan(recipe)
    place = folder_of(recipe, planned) if folder is None else paths.typed(folder).absolute()
    mirror = Mirror(place.parent, recipe.tracking)
    ended = cook(
        recipe,
        planned,
        place,
        shown=lambda: _heard(planned.steps, quiet=quiet, on_event=on_event),
        fresh=fresh,
        parent=parent,
        mirror=mirror,
    )
    return EndedRun(place, ended)


@once.shared()
def plan_sweep(spec: config.SweepSpec) -> dict[str, Plan]:
    """Plan every arm and every corner of the space.

    Raises:
        ConfigError: with the problems of all, and what of the question cannot be answered.
    """
    subject = f"sweep `{spec.name}`"
    plans = beforehand.plan_arms(spec.known, subject=subject)
    if problems := beforehand.problems(spec, plans):
        raise ConfigError(problems, subject=subject)
    return plans


def run_sweep(
    sweep: str | Path | config.SweepSpec,
    *overrides: str,
    plans: Mapping[str, Plan] | None = None,
    extend: bool = False,
    repeats: int | None = None,
    fresh: bool = False,
    on_change: OnChange | None = None,
    quiet: bool = False,
) -> EndedSweep:
    """Run a sweep, or continue it to its declared total.

    Args:
        sweep: a name, a file, or what `config.load_sweep` made of it.
        overrides: KEY=VALUE on top of the file.
        plans: of `plan_sweep`, when they are known already.
        extend: allow arms and seeds that an earlier call did not declare.
        repeats: further seeds, up to so many an arm, until the best is known; None: none.
        fresh: train what other sweeps have already trained, too.
        on_change: hears the state whenever it changes, instead of the progress bar.
        quiet: no progress bar either.

    Raises:
        ConfigError: before any work; with every problem found.
    """
    from lorasweep.results.report import write
    from lorasweep.results.report.write import write_report
    from lorasweep.results.tracking.process import Mirror
    from lorasweep.sweep import driver

    spec = _spec(sweep, overrides)
    plans = plans or plan_sweep(spec)
    folder = paths.outputs() / spec.name
    mirror = Mirror(folder, spec.tracking)
    shown = sweep_bar(spec.total) if on_change is None and not quiet else nullcontext(on_change)
    with shown as told:
        ended = driver.run_sweep(
            spec,
            plans,
            folder=folder,
            extend=extend,
            repeats=repeats,
            fresh=fresh,
            estimated_s=_planned(spec, plans).seconds,
            on_change=told,
            on_trial_end=lambda: write.write_contact_sheet(folder),
            on_end=lambda: write_report(folder),
            mirror=mirror,
        )
    return EndedSweep(folder, ended)


def judge(
    *words: str | Path,
    steps: Sequence[int] | None = None,
    asked: config.SweepSpec | None = None,
    plans: Mapping[str, Plan] | None = None,
    quiet: bool = False,
) -> EndedRun | EndedSweep:
    """Judge LoRA files that any trainer made: `ls.judge("my-000004.safetensors", "base=stable_diffusion", ...)`.

    Args:
        words: files, which are the rungs of one arm; `NAME=FILE`, for arms of their own; and KEY=VALUE.
        steps: of the files, where neither metadata nor names say it.
        asked: of `judge_files.planned`, in place of words, when it is known already.
        plans: likewise.
        quiet: no progress bar.

    Returns:
        The run; of several arms, the sweep. Files that were judged so before are not judged again.

    Raises:
        ConfigError, DatasetError, InputError: before any work; with every problem found.
    """
    from lorasweep.sweep import judge_files

    if asked is None or plans is None:
        asked, plans = judge_files.planned(judge_files.question([str(word) for word in words], steps=steps))
    if len(asked.arms) > 1:
        return run_sweep(asked, plans=plans, quiet=quiet)
    from lorasweep.results.report import write
    from lorasweep.results.report.write import write_report

    (arm,) = asked.arms
    planned = plans[arm.name]
    place = paths.outputs() / paths.JUDGED_RUNS / f"{arm.name}-{planned.fingerprint[:8]}"
    run = run_trial(arm.recipe, place, planned=planned, quiet=quiet)
    if run.ended.record.status is Status.COMPLETED:
        write.write_step_sheet(place)
        write_report(place.parent)
    return run


def _make_links(folder: Path, links: Sequence[Link]) -> None:
    """Make a folder of links; one that is there already may only hold the same ones, or ConfigError is raised first."""
    problems = [
        Problem(str(link.target), "no such folder of images") for link in links if not os.path.isdir(link.target)
    ]
    try:
        for link in links:
            place = folder / link.name
            if (place.is_symlink() or place.exists()) and place.resolve() != link.target.resolve():
                hint = "choose another folder for --link"
                problems.append(Problem(str(place), "is in the way of a link", hint))
        if problems:
            raise ConfigError(problems, subject="the links")
        for link in links:
            place = folder / link.name
            if not place.is_symlink():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(link.target, target_is_directory=True)
    except OSError as error:  # a name that is too long, a disk that takes no links
        problem = Problem(str(folder), f"links cannot be made: {error}", "choose another folder for --link")
        raise ConfigError(problem, subject="the links") from error


def folder_of(recipe: Recipe, planned: Plan) -> Path:
    """Where a single recipe is trained: equal recipes on equal images share a folder."""
    return paths.outputs() / paths.SINGLE_RUNS / f"{planned.fingerprint[:12]}-s{recipe.seed}"


def _heard(steps: int, *, quiet: bool, on_event: OnEvent | None) -> AbstractContextManager[progress.Report]:
    """What a run's events go to: the caller's own, nothing, or a bar."""
    if on_event is not None:
        hear = on_event
        return nullcontext(lambda event: hear(event) is not False)
    return nullcontext(lambda event: True) if quiet else progress.recipe_shown(steps)


@contextmanager
def sweep_bar(trials: int) -> Iterator[OnChange]:
    """Show how many trials of a sweep are over; yields what is told its states."""
    with progress.sweep_shown(trials) as tell:

        def told(state: SweepState) -> None:
            counts = ", ".join(f"{count} {status.lower()}" for status, count in state.counts.items())
            tell(state.finished, state.total, counts)

        yield told
