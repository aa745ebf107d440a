"""Recipes and sweeps: compose, plan, train, judge."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasweep import config
from lorasweep.core import files, once, paths, progress
from lorasweep.core.errors import ConfigError, InputError, Problem, no_counts
from lorasweep.core.printable import command
from lorasweep.core.records import MATERIAL, NOT_THE_RECIPE, Plan, Recipe, Status
from lorasweep.core.run_folder import RunFolder
from lorasweep.plan import make_plan
from lorasweep.plan.changed import images_since
from lorasweep.plan.make import for_seed
from lorasweep.results import runs
from lorasweep.results.handles import EndedRun, EndedSweep, Named, Planned, Run, Sweep, named_by
from lorasweep.sweep import beforehand
from lorasweep.sweep.ranking.state import SweepState

if TYPE_CHECKING:
    from lorasweep.results.report.compare import Comparison

OnEvent = Callable[[dict[str, Any]], object]
OnChange = Callable[[SweepState], None]
Warn = Callable[[str], object]


def compose(*words: Recipe | str | Path | Sequence[str]) -> Recipe:
    """Make a recipe from what one types after `lorasweep train`: KEY=VALUE or lists of it, first perhaps a recipe file.

    A recipe that comes first is the one to change.

    Raises:
        ConfigError: with every problem found.
    """
    first, *others = words or ((),)
    if isinstance(first, Recipe):
        typed = config.texts(others)
        return config.compose_recipe(config.with_overrides(first, typed)) if typed else first
    typed = config.texts(words)
    if typed and typed[0].endswith((".yaml", ".yml")) and not config.is_override(typed[0]):
        return config.load_recipe(typed[0], typed[1:])
    return config.compose_recipe(typed)


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
        return alone(subject, make_plan(subject))
    return _planned(subject, _plan_sweep(subject))


def alone(recipe: Recipe, planned: Plan) -> Planned:
    """Return what a recipe would do by its plan."""
    return Planned(recipe, [(config.Arm(name="recipe", note="", overrides=(), recipe=recipe), planned)])


def _subject(
    what: Recipe | config.SweepSpec | str | Path | None, overrides: Sequence[str]
) -> Recipe | config.SweepSpec:
    """Return a sweep where one is named or a key has several values, else a recipe."""
    overrides = config.texts(overrides)
    if what is None or isinstance(what, Recipe):
        return compose() if what is None else compose(what, *overrides)
    if isinstance(what, config.SweepSpec):
        return _spec(what, overrides)
    first, *overrides = [*config.texts([what]), *overrides]
    is_named = not config.is_override(first)
    swept = config.has_axes(overrides if is_named else [first, *overrides])
    if swept or (is_named and not config.is_recipe_file(first)):
        return config.load_sweep(first, overrides)
    return compose(first, overrides)


def _planned(spec: config.SweepSpec, plans: Mapping[str, Plan]) -> Planned:
    """Take the plans of `_plan_sweep` for the sweep's first seed."""
    arms = []
    for arm in spec.known:
        recipe, seeded = for_seed(arm.recipe, plans[arm.name], spec.seeds[0])
        arms.append((dataclasses.replace(arm, recipe=recipe), seeded))
    return Planned(spec, arms, spec.name, spec.total)


def _spec(sweep: config.SweepSpec | str | Path, overrides: Sequence[str]) -> config.SweepSpec:
    if not isinstance(sweep, config.SweepSpec):
        name, *overrides = config.texts([sweep, *overrides])
        return config.load_sweep(name, overrides)
    if overrides:
        hint = "give the sweep by its name or file, or these to config.load_sweep"
        raise ConfigError(Problem(" ".join(overrides), "cannot change a sweep that is read already", hint))
    return sweep


def run_trial(
    recipe: Recipe,
    folder: str | Path | None = None,
    *,
    planned: Planned | None = None,
    fresh: bool = False,
    parent: Mapping[str, Any] | None = None,
    warn: Warn | None = None,
    on_event: OnEvent | None = None,
    quiet: bool = False,
) -> EndedRun:
    """Train and judge one recipe, go on where it stopped, or take what is there.

    One Ctrl-C finishes the step, saves and returns; `status` of what is returned is CANCELLED. Two stop at once and
    raise KeyboardInterrupt.

    Args:
        recipe: from `compose`.
        folder: the run folder; None: where `lorasweep train` puts it. `outputs/mine/first` is `mine/first` to
            every command.
        planned: what `plan` returned of it, when that is there already.
        fresh: train it though this home has already done so elsewhere with the same code.
        parent: what it is a variation of; kept in the run folder.
        warn: hears what is allowed, but worth knowing, before any work.
        on_event: hears every event (`kind`: start, step, rung, samples, end) instead of the progress bar; a rung
            that it answers with False is the last one. What it raises stops the run, and is raised.
        quiet: no progress bar either.

    Raises:
        ConfigError, DatasetError, InputError: before any work; with every problem found.
        SweepHeldError: another process trains in this folder.
    """
    from lorasweep.results.tracking.process import Mirror
    from lorasweep.sweep.single import run_trial as cook

    if not isinstance(recipe, Recipe):
        raise ConfigError(
            Problem(repr(recipe)[:80], "is no recipe", "ls.compose(...) makes one of KEY=VALUEs or a file")
        )
    planned = planned or alone(recipe, make_plan(recipe))
    if not isinstance(planned, Planned) or planned.subject != recipe:
        raise ConfigError(Problem("planned", "is no plan of this recipe", "leave it out, or ls.plan(recipe)"))
    (made,) = planned.plans.values()
    tell(planned.warnings, warn)
    place = folder_of(planned) if folder is None else paths.typed(folder).absolute()
    mirror = Mirror(place.parent, recipe.tracking)
    ended = cook(
        recipe,
        made,
        place,
        shown=lambda: _heard(made.steps, quiet=quiet, on_event=on_event),
        fresh=fresh,
        parent=parent,
        mirror=mirror,
    )
    return EndedRun(place, ended)


def fork(named: Named, *overrides: str, fresh: bool = False, **how: Any) -> EndedRun:
    """Train the recipe of a run with changes; the new run's `parent` names the run and them.

    `named` is as `open_run` takes it, `how` as `run_trial` does: `warn`, `on_event`, `quiet`.

    Raises:
        ConfigError, DatasetError, InputError: before any work: there is no such run, the recipe is wrong, or nothing
            is changed.
        SweepHeldError: another process trains that recipe.
    """
    parent = runs.find_run(named_by(named), subject="fork", to_cook=False)
    overrides = tuple(config.texts(overrides))
    if not overrides:
        hint = f"to cook it again as it is: {command('lorasweep', 'train', '--from', parent.name)}"
        raise InputError(Problem("KEY=VALUE", "a fork must change something", hint), subject="fork")
    recipe = compose(parent.recipe, *overrides)
    if recipe.fingerprint() == parent.recipe.fingerprint():
        problem = Problem(" ".join(overrides), "changes nothing: that is what the parent has already")
        raise InputError(problem, subject="fork")
    return run_trial(recipe, fresh=fresh, parent={"parent": parent.name, "overrides": list(overrides)}, **how)


def train_again(
    named: Named, *overrides: str, warn: Warn | None = None, **how: Any
) -> tuple[EndedRun, Comparison | None]:
    """Train a recorded recipe once more, in a folder of its own, and compare; None when it did not come to its end.

    `named` is as `open_run` takes it, `how` as `run_trial` does: `on_event`, `quiet`; overrides say where results go,
    and where images, base and files lie now.

    Raises:
        ConfigError, DatasetError, InputError: before any work: there is no such run, an override would make it another
            recipe, or what lies there now is not what it was made from.
    """
    from lorasweep.results.report.compare import compare_runs

    overrides = tuple(config.texts(overrides))
    keys = {text: text.split("=")[0] for text in overrides}
    wrong = [text for text, key in keys.items() if key.split(".")[0] not in NOT_THE_RECIPE]
    if wrong := [text for text in wrong if keys[text] not in MATERIAL]:
        hint = "to change a recipe: lorasweep fork TRIAL KEY=VALUE"
        problems = [Problem(text, "would make it another recipe", hint) for text in wrong]
        raise InputError(problems, subject="train --from")
    moved = [text for text, key in keys.items() if key in MATERIAL]
    run = runs.find_run(named_by(named), subject="train --from", to_cook=not moved)
    recipe = compose(run.recipe, *overrides)
    made = make_plan(recipe)
    if run.material and run.material != made.material:
        if moved:
            raise InputError(runs.other_material(run, made, moved), subject="train --from")
        told = images_since(RunFolder(run.folder).plan, made)
        tell([f"its images, captions or base model have changed since{told and f': {told}'}"], warn)
    of = files.cut(f"{run.folder.parent.name}-{run.folder.name}", 200)
    folder = paths.outputs() / paths.SINGLE_RUNS / f"again-{of}-{made.fingerprint[:8]}"
    planned = alone(recipe, made)
    parent = {"parent": run.name, "overrides": []}
    again = run_trial(recipe, folder, planned=planned, fresh=True, parent=parent, warn=warn, **how)
    return again, compare_runs(run.folder, folder) if again.ended.exit_code == 0 else None


@once.shared()
def _plan_sweep(spec: config.SweepSpec) -> dict[str, Plan]:
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
    extend: bool = False,
    repeats: int | None = None,
    fresh: bool = False,
    warn: Warn | None = None,
    on_change: OnChange | None = None,
    quiet: bool = False,
) -> EndedSweep:
    """Run a sweep, or continue it to its declared total.

    One Ctrl-C finishes the steps, saves and returns; `ended.interrupted` of what is returned tells it. Two stop at once
    and raise KeyboardInterrupt.

    Args:
        sweep: a name, a file, or what `config.load_sweep` made of it.
        overrides: KEY=VALUE on top of the file.
        extend: allow arms and seeds that an earlier call did not declare.
        repeats: further seeds, up to so many an arm, until the best is known; None: none.
        fresh: train what other sweeps have already trained, too.
        warn: hears what is allowed, but worth knowing, before any work.
        on_change: hears the state whenever it changes, instead of the progress bar. What it raises stops the sweep at
            once, and is raised when all is written.
        quiet: no progress bar either.

    Raises:
        ConfigError: before any work; with every problem found.
    """
    if repeats is not None and (problems := no_counts(repeats=repeats)):
        raise ConfigError(problems, subject="run_sweep")
    spec = _spec(sweep, overrides)
    how = {"extend": extend, "repeats": repeats, "fresh": fresh}
    return _run_planned(spec, _plan_sweep(spec), warn, on_change, quiet=quiet, **how)


def _run_planned(
    spec: config.SweepSpec,
    plans: Mapping[str, Plan],
    warn: Warn | None,
    on_change: OnChange | None,
    *,
    quiet: bool,
    **how: Any,
) -> EndedSweep:
    """Run a sweep whose arms are planned; `how` is the driver's."""
    from lorasweep.results.report import write
    from lorasweep.results.report.write import write_report
    from lorasweep.results.tracking.process import Mirror
    from lorasweep.sweep import driver

    planned = _planned(spec, plans)
    tell(planned.warnings, warn)
    folder = paths.outputs() / spec.name
    mirror = Mirror(folder, spec.tracking)
    shown = sweep_bar(spec.total) if on_change is None and not quiet else nullcontext(on_change)
    with shown as told:
        ended = driver.run_sweep(
            spec,
            plans,
            folder=folder,
            estimated_s=planned.seconds,
            on_change=told,
            on_trial_end=lambda: write.write_contact_sheet(folder),
            on_end=lambda: write_report(folder),
            mirror=mirror,
            **how,
        )
    return EndedSweep(folder, ended)


def judge(
    *words: str | Path,
    steps: Sequence[int] | None = None,
    require: str | Sequence[str] = (),
    warn: Warn | None = None,
    on_change: OnChange | None = None,
    quiet: bool = False,
) -> EndedRun | EndedSweep:
    """Judge LoRA files that any trainer made: `ls.judge("my-000004.safetensors", "base=stable_diffusion", ...)`.

    Args:
        words: files, or lists of them: the rungs of one arm; `NAME=FILE`, for arms of their own; and KEY=VALUE.
        steps: of the files, where neither metadata nor names say it.
        require: bounds, as `overcook<0.5`, on what is judged; `unkept` says which of them are not kept.
        warn: as in `run_sweep`.
        on_change: as there; one arm has none.
        quiet: as there.

    Returns:
        The run; of several arms, the sweep. Files that were judged so before are not judged again.

    Raises:
        ConfigError, DatasetError, InputError: before any work; with every problem found.
    """
    from lorasweep.sweep import judge_files

    required = judge_files.requirements(require)
    question = judge_files.question(config.texts(words, "a file or KEY=VALUE"), steps=steps)
    asked, plans = judge_files.planned(question, required)
    if len(asked.arms) > 1:
        return _run_planned(asked, plans, warn, on_change, quiet=quiet)
    from lorasweep.results.report import write
    from lorasweep.results.report.write import write_report

    (arm,) = asked.arms
    made = plans[arm.name]
    place = paths.outputs() / paths.JUDGED_RUNS / f"{arm.name}-{made.fingerprint[:8]}"
    run = run_trial(arm.recipe, place, planned=alone(arm.recipe, made), warn=warn, quiet=quiet)
    if run.ended.record.status is Status.COMPLETED:
        write.write_step_sheet(place)
        write_report(place.parent)
    return run


def unkept(judged: Run | Sweep, require: str | Sequence[str]) -> list[str]:
    """Tell which bounds the kept file of a run, or of each run of a sweep, does not keep, a sentence each.

    What is not measured keeps no bound.

    Raises:
        ConfigError: one is no bound.
    """
    from lorasweep.sweep.judge_files import requirements

    found = []
    for run in judged.trials if isinstance(judged, Sweep) else [judged]:
        for bound in requirements(require):
            value = run.metrics.get(bound.metric)
            if value is None:
                why = run.missing.get(bound.metric, "not measured")
                found.append(f"{run.name}: {bound}, and it is missing: {why}")
            elif bound.violation(value) > 0:
                found.append(f"{run.name}: {bound}, got {value:.3f}")
    return found


def tell(warnings: Iterable[str], warn: Warn | None) -> None:
    """Hand warnings to whoever wants to hear them."""
    if warn is not None:
        for warning in warnings:
            warn(warning)


def folder_of(planned: Planned) -> Path:
    """Return where a single recipe is trained: equal recipes on equal images share a folder."""
    ((arm, made),) = planned.arms
    return paths.outputs() / paths.SINGLE_RUNS / f"{made.fingerprint[:12]}-s{arm.recipe.seed}"


def _heard(steps: int, *, quiet: bool, on_event: OnEvent | None) -> AbstractContextManager[progress.Report]:
    """Return what a run's events go to: the caller's own, nothing, or a bar."""
    if on_event is not None:
        hear = on_event
        return nullcontext(lambda event: hear(event) is not False)
    return nullcontext(lambda event: True) if quiet else progress.recipe_shown(steps)


@contextmanager
def sweep_bar(trials: int) -> Iterator[OnChange]:
    """Show how many trials of a sweep are over; yields what is told its states."""
    with progress.sweep_shown(trials) as tell:

        def told(state: SweepState) -> None:
            tell(state.finished, state.total, state.spoken_counts)

        yield told
