"""What a notebook or a script uses; `import lorasweep as ls` has all of it.

    recipe = ls.compose("adapter.dim=16", "train.max_steps=200")
    ls.plan(recipe)                               # steps, images, exposures, time, what to mend first
    run = ls.run_trial(recipe)                    # trains, judges; or goes on; or is done already
    print(run.verdict["sentence"], run.metrics["overcook/utility"])
    run.export("my_lora.safetensors"), run.draw(["zkw, beach"], weight=0.7)
    ls.run_sweep("quickstart").leaderboard        # a pandas DataFrame
    ls.report("quickstart"), ls.export(ls.checkpoint("quickstart", best=True)), ls.sync("quickstart")

The same engine, folders and rules as on the command line, which calls this. Plans, runs and sweeps show
themselves: as HTML in a notebook, as text on a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasweep import config
from lorasweep.core import paths, progress
from lorasweep.core.errors import ConfigError, InputError, Problem
from lorasweep.core.records import Plan, Recipe, Status
from lorasweep.core.run_folder import REPORT_FILE, REPORT_TEXT_FILE, SweepFolder
from lorasweep.plan import make_plan
from lorasweep.plan.cost import class_images_seconds, sweep_seconds, trial_seconds
from lorasweep.results import runs
from lorasweep.results.handles import EndedRun, EndedSweep, Planned, Run, Sweep
from lorasweep.results.ratings import Rated, read_rated
from lorasweep.sweep import beforehand
from lorasweep.sweep.ranking.state import SweepState, read_state

if TYPE_CHECKING:
    from lorasweep.results.export import Exported
    from lorasweep.results.export.forms import Form
    from lorasweep.results.tracking.mirror import SyncReport

OnEvent = Callable[[dict[str, Any]], object]
OnChange = Callable[[SweepState], None]


def compose(*words: str | Path | Sequence[str]) -> Recipe:
    """Make a recipe from what one types after `lorasweep train`: KEY=VALUE or lists of it, first perhaps a recipe file.

    Raises:
        ConfigError: with every problem found.
    """
    typed = [text for word in words for text in ([str(word)] if isinstance(word, str | Path) else word)]
    if typed and typed[0].endswith((".yaml", ".yml")) and "=" not in typed[0]:
        return config.load_recipe(typed[0], typed[1:])
    return config.compose_recipe(typed)


def plan(what: Recipe | config.SweepSpec | str | Path, *overrides: str) -> Planned:
    """Plan a recipe or a sweep, without torch: `ls.plan(recipe)`, `ls.plan("quickstart")`.

    Args:
        what: a recipe from `compose`; or a sweep: its name, its file, or what `config.load_sweep` made of it.
        overrides: KEY=VALUE on top of the recipe, or of the sweep's file.

    Raises:
        ConfigError, DatasetError, InputError: with every problem found.
    """
    if isinstance(what, Recipe):
        what = config.compose_recipe(config.with_overrides(what, overrides)) if overrides else what
        made = make_plan(what)
        seconds = trial_seconds(made, what) + class_images_seconds([(made, what)])
        return Planned("recipe", {"recipe": what}, {"recipe": made}, 1, seconds)
    spec = _spec(what, overrides)
    plans = plan_sweep(spec)
    recipes = {arm.name: arm.recipe for arm in spec.known}
    return Planned(spec.name, recipes, plans, spec.total, _estimate(spec, plans))


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
    place = folder_of(recipe, planned) if folder is None else paths.typed(str(folder)).absolute()
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
    shown = _bar(spec.total) if on_change is None and not quiet else nullcontext(on_change)
    with shown as told:
        ended = driver.run_sweep(
            spec,
            plans,
            folder=folder,
            extend=extend,
            repeats=repeats,
            fresh=fresh,
            estimated_s=_estimate(spec, plans),
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


def status(named: str | Path) -> SweepState:
    """Read where a sweep's trials stand: its name, its file or its folder; `train` for the single runs.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    return read_state(runs.find_sweep(str(named), subject="status"))


def report(named: str | Path, out: str | Path | None = None) -> tuple[Path, Path]:
    """Write a sweep's answer as one page.

    Args:
        named: as in `status`.
        out: a folder; None: the sweep's own.

    Returns:
        The HTML page and the Markdown one.

    Raises:
        InputError: there is no such sweep, or something else lies where they would be written.
    """
    from lorasweep.results.report.write import is_ours, write_report

    folder = runs.find_sweep(str(named), subject="report")
    if out is not None:
        out = paths.typed(str(out))
        paths.require_writable(out, option="--out")
        for name in (REPORT_FILE, REPORT_TEXT_FILE):
            paths.require_replaceable(out / name, is_ours, option="--out")
    return write_report(folder, out)


def checkpoint(named: str | Path, *, best: bool = False, step: int | None = None) -> runs.Checkpoint:
    """Find an adapter that a run saved.

    Args:
        named: a run, as `open_run` takes it; with `best` a sweep, whose best run it is.
        best: see `named`.
        step: a rung's; None: the checkpoint that the run kept.

    Raises:
        InputError: there is none.
    """
    if best:
        sweep = runs.find_sweep(str(named), subject="export")
        if not SweepFolder(sweep).is_declared:
            problem = Problem(str(named), "--best wants a sweep, and this is none", "leave --best out for a run folder")
            raise InputError(problem, subject="export")
        named = runs.best_of(sweep, subject="export")
    return runs.find_checkpoint(str(named), subject="export", step=step)


def export(
    saved: runs.Checkpoint | str | Path,
    out: str | Path | None = None,
    *,
    form: Form | None = None,
    readers: Sequence[str] = (),
    **how: Any,
) -> list[Exported]:
    """Write an adapter as a file for ComfyUI, Forge, A1111, kohya's tools or diffusers.

    Args:
        saved: of `checkpoint`; or a run, for the checkpoint that it kept.
        out: a .safetensors, or a folder; None: `export/` in the run folder.
        form: what is written; None: the smallest that `readers` read.
        readers: programs, as in `results.export.forms`.
        how: as `results.export.export_run` takes it: `precision`, `ranks`.

    Raises:
        InputError: there is no such run, or it cannot be written so; nothing was.
    """
    from lorasweep.results.export import export_run, forms

    if not isinstance(saved, runs.Checkpoint):
        saved = checkpoint(saved)
    if out is not None:
        out = paths.typed(str(out))
        paths.require_writable(out.parent, option="--out")
    form = form or forms.smallest_form(saved.recipe.adapter.name, readers)
    return export_run(saved, out=out, form=form, **how)


def sync(*named: str | Path) -> dict[str, SyncReport]:
    """Bring sweeps up to date in MLflow, from their folders; without names, all of them.

    Returns:
        What was done, by the name of the sweep's folder; `problems` of each says what is still missing.

    Raises:
        InputError: there is no such sweep, or the address of the tracking server is none.
    """
    from lorasweep.results.tracking import address, mirror

    folders = [runs.find_sweep(str(name), subject="sync") for name in named] or runs.sweep_folders()
    for folder in folders:
        with suppress(InputError):  # a damaged sweep.yaml: what can be mirrored of it is
            runs.settle(folder)
    if wrong := address.address_problem(address.tracking_uri()):
        raise InputError(wrong, subject="sync")
    with address.masked_stderr():
        return {folder.name: mirror.sync_folder(folder) for folder in folders}


def rate(
    named: str | Path, *, rater: str = "me", most: int = 60, port: int | None = None, open_browser: bool = True
) -> list[Rated]:
    """Let somebody compare pictures of a sweep's arms, or of a run's steps, blind, in a browser on this machine.

    Args:
        named: a sweep as `open_sweep` takes it, or a run as `open_run` does.
        rater: whose answers they are: up to 40 letters, digits, `_`, `-`, `.`.
        most: how many answers are enough, those of earlier calls included, should the ranks not be settled before.
        port: of the page; None: a free one.
        open_browser: also open the page, unless this is a session of ssh.

    Returns:
        What everybody's answers say, this one's included.

    Raises:
        InputError: there is nothing to compare, or the port is taken.
    """
    from lorasweep.results.rate.server import serve
    from lorasweep.results.rate.session import Session, contest

    if not re.fullmatch(r"\w[\w.-]{0,39}", rater, re.ASCII) or not paths.is_portable(rater):
        message = f"must be up to 40 letters, digits, `_`, `-` or `.`, got {rater!r}"
        raise InputError(Problem("--rater", message, "e.g. --rater anna"), subject="rate")
    folder = runs.find_sweep_or_run(str(named), subject="rate")
    session = Session(contest=contest(folder), rater=rater, most=most)
    if not session.why_over():
        serve(session, port=port or 0, open_browser=open_browser)
    return read_rated(folder)


def ratings(named: str | Path) -> list[Rated]:
    """Read what everybody said of a sweep's arms, or of a run's steps; nothing when nobody did.

    Raises:
        InputError: there is no such sweep or run.
    """
    return read_rated(runs.find_sweep_or_run(str(named), subject="rate"))


def sweeps() -> list[Sweep]:
    """List the sweeps in the output folder, by name."""
    return [Sweep(folder) for folder in runs.sweep_folders()]


def open_run(named: str | Path) -> Run:
    """Open a run: SWEEP/TRIAL, SWEEP/NUMBER or a path.

    Raises:
        InputError: there is none.
    """
    return Run(runs.find_run(str(named), subject="open_run", to_cook=False).folder)


def open_sweep(named: str | Path) -> Sweep:
    """Open a sweep: its name, its file or its folder.

    Raises:
        InputError: there is none.
    """
    return Sweep(runs.find_sweep(str(named), subject="open_sweep"))


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
def _bar(trials: int) -> Iterator[OnChange]:
    with progress.sweep_shown(trials) as tell:

        def told(state: SweepState) -> None:
            counts = ", ".join(f"{count} {status.lower()}" for status, count in state.counts.items())
            tell(state.finished, state.total, counts)

        yield told


def _estimate(spec: config.SweepSpec, plans: Mapping[str, Plan]) -> float:
    """How long the sweep is expected to take, s; of a pruned one, at most."""
    each_s = [trial_seconds(plans[arm.name], arm.recipe) for arm in spec.known]
    once_s = class_images_seconds((plans[arm.name], arm.recipe) for arm in spec.known)
    return sweep_seconds(each_s, spec.launcher, trials=spec.total, once_s=once_s)
