"""What a notebook or a script uses; `import lorasweep as ls` has all of it.

    recipe = ls.compose("adapter.dim=16", "train.max_steps=200")
    ls.plan(recipe)                               # steps, images, exposures, time, what to mend first
    run = ls.run_trial(recipe)                    # trains, judges; or goes on; or is done already
    print(run.verdict["sentence"], run.metrics["overcook/utility"])
    run.export("my_lora.safetensors"), run.draw(["zkw, beach"], weight=0.7)
    ls.run_sweep("quickstart").leaderboard        # a pandas DataFrame

The same engine, folders and rules as on the command line, which calls this. Plans, runs and sweeps show
themselves: as HTML in a notebook, as text on a terminal. A script that calls `run_sweep`
needs `if __name__ == "__main__":` around it, since workers are processes of their own.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lorasweep import config
from lorasweep.core import paths, progress
from lorasweep.core.errors import ConfigError
from lorasweep.core.output_folder import require_writable
from lorasweep.core.records import Plan, Recipe, Status
from lorasweep.core.run_folder import INDEX_FILE, RunFolder
from lorasweep.plan import make_plan
from lorasweep.plan.estimate import class_images_seconds, sweep_seconds, trial_seconds
from lorasweep.plan.trainable import trainable
from lorasweep.results import runs
from lorasweep.sweep import beforehand, driver
from lorasweep.sweep.ranking.leaderboard import rank_arms
from lorasweep.sweep.ranking.state import SweepState, read_state
from lorasweep.sweep.single import TrialResult
from lorasweep.sweep.single import run_trial as cook

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

    from lorasweep.results.report.notebook import Shown
    from lorasweep.trial.sample import Sample

OnEvent = Callable[[dict[str, Any]], object]
OnChange = Callable[[SweepState], None]


class _Shows:
    """Shows itself where it is evaluated."""

    def _shown(self) -> Shown:
        raise NotImplementedError

    def _repr_html_(self) -> str:
        """Draw it for a notebook."""
        return self._shown().html()

    def __repr__(self) -> str:
        return self._shown().text()

    __str__ = __repr__


@dataclass(frozen=True, repr=False)
class Planned(_Shows):
    """What a recipe, or a sweep, would do.

    Attributes:
        name: of the sweep; "recipe" for a single one.
        recipes, plans: by arm; of a search, the recipes at the corners of its space.
        trials: how many there would be.
        seconds: how long it is expected to take.
    """

    name: str
    recipes: Mapping[str, Recipe]
    plans: Mapping[str, Plan]
    trials: int
    seconds: float

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed, but worth knowing; each once."""
        return tuple(dict.fromkeys(warning for plan in self.plans.values() for warning in plan.warnings))

    @property
    def table(self) -> pd.DataFrame:
        """A row an arm: steps, images, buckets, exposures per image, trained parameters."""
        import pandas as pd

        return pd.DataFrame([self._row(arm, made) for arm, made in self.plans.items()])

    def _row(self, arm: str, made: Plan) -> dict[str, Any]:
        counted = trainable(self.recipes[arm])
        trained = made.train_images()
        return {
            "arm": arm,
            "steps": made.steps,
            "images": len(trained),
            "held out": len(made.held_out_images()),
            "buckets": len({(image.width_px, image.height_px) for image in trained}),
            "exposures per image": round(made.exposures_per_image, 1),
            "trained parameters": None if counted is None else counted.parameters,
        }

    def _shown(self) -> Shown:
        from lorasweep.results.report.notebook import Shown
        from lorasweep.results.report.words import duration

        table = self.table
        trials = "1 trial" if self.trials == 1 else f"{self.trials} trials"
        return Shown(
            title=f"plan of {self.name}",
            lines=[f"{trials}, about {duration(self.seconds)}", *(f"warning: {said}" for said in self.warnings)],
            head=list(table),
            rows=list(table.itertuples(index=False)),
        )


@dataclass(frozen=True, repr=False)
class Run(_Shows):
    """One recipe that was trained and judged, or is on its way; everything is read from its folder.

    Attributes:
        folder: the run folder, absolute.
        ended: how the call that made it ended; None for one that was opened.
    """

    folder: Path
    ended: TrialResult | None = None

    @property
    def name(self) -> str:
        """SWEEP/TRIAL, as every command takes it."""
        return RunFolder(self.folder).name

    @functools.cached_property
    def recipe(self) -> Recipe:
        """The recipe that it recorded."""
        return runs.find_run(str(self.folder), subject="the run", to_cook=False).recipe

    @property
    def status(self) -> Status:
        """Where it stands."""
        record = RunFolder(self.folder).record
        return Status.WAITING if record is None else record.status

    @property
    def result(self) -> dict[str, Any]:
        """What metrics.json holds: metrics, missing, ladder, rungs, verdict; empty before the end."""
        return RunFolder(self.folder).result

    @property
    def metrics(self) -> Mapping[str, float]:
        """Numbers of the checkpoint that it keeps, by name."""
        return dict(self.result["metrics"])

    @property
    def missing(self) -> Mapping[str, str]:
        """Why numbers are not there, by name."""
        return dict(self.result["missing"])

    @property
    def verdict(self) -> Mapping[str, Any]:
        """Where it was done, from where it burns, which weight to use; "sentence" says it in words."""
        return dict(self.result["verdict"])

    @property
    def adapter(self) -> Path:
        """The file of the checkpoint that it keeps."""
        return RunFolder(self.folder).adapter

    @property
    def samples(self) -> list[Sample]:
        """The pictures of that checkpoint, with what was asked for each; none before the end."""
        from lorasweep.trial import sample

        folder = RunFolder(self.folder).samples()
        return sample.read_index(folder) if (folder / INDEX_FILE).exists() else []

    def export(self, out: str | Path | None = None, **how: Any) -> Path:
        """Write the adapter as a file for ComfyUI, A1111, kohya's tools or diffusers.

        Args:
            out: a folder or a .safetensors; None: `export/` in the run folder.
            how: as `lorasweep.results.export.export_run` takes it: `form`, `precision`.

        Raises:
            InputError: it has no adapter yet, or a file of somebody else's is in the way.
        """
        from lorasweep.results.export import export_run

        found = runs.find_checkpoint(str(self.folder), subject="export")
        return Path(export_run(found, out=None if out is None else paths.typed(str(out)), **how)[0].file)

    def draw(
        self, prompts: Sequence[str], *, weight: float | None = None, seed: int | None = None
    ) -> list[Image.Image]:
        """Draw a picture per prompt with the adapter that it keeps; see `mlflow_model.DrawingModel.draw`."""
        return self._model.draw([prompts] if isinstance(prompts, str) else prompts, weight=weight, seed=seed)

    @functools.cached_property
    def _model(self) -> Any:
        from lorasweep.results.mlflow_model import DrawingModel

        return DrawingModel(self.folder)

    def _shown(self) -> Shown:
        from lorasweep.results.report.notebook import of_run

        return of_run(RunFolder(self.folder))


@dataclass(frozen=True, repr=False)
class Sweep(_Shows):
    """A sweep, finished or not; everything is read from its folder.

    Attributes:
        folder: of the sweep, absolute.
        ended: how the call that ran it ended; None for one that was opened.
    """

    folder: Path
    ended: driver.SweepResult | None = None

    @property
    def state(self) -> SweepState:
        """Where its trials stand now."""
        return read_state(self.folder)

    @property
    def leaderboard(self) -> pd.DataFrame:
        """A row an arm, best first: rank, value, 95 % interval, verdict, and the mean of each metric."""
        import pandas as pd

        rows = [
            {
                "rank": row.rank,
                "arm": row.arm,
                "value": row.value,
                "low": row.interval.low if row.interval else None,
                "high": row.interval.high if row.interval else None,
                "seeds": row.seeds,
                "verdict": row.verdict,
                **row.metrics,
            }
            for row in rank_arms(self.state)
        ]
        return pd.DataFrame(rows)

    @property
    def trials(self) -> list[Run]:
        """Its runs in the order of their numbers; one that has not begun has no folder yet."""
        return [Run(Path(trial.run_folder)) for trial in self.state.trials]

    @property
    def best(self) -> Run:
        """The run with the best value.

        Raises:
            InputError: no trial has a value yet.
        """
        return Run(runs.best_of(self.folder, subject="the best run"))

    def _shown(self) -> Shown:
        from lorasweep.results.report.notebook import of_sweep

        return of_sweep(self.state)


def compose(*words: str) -> Recipe:
    """Make a recipe from what one types after `lorasweep train`: KEY=VALUE, first perhaps a recipe file.

    Raises:
        ConfigError: with every problem found.
    """
    if words and words[0].endswith((".yaml", ".yml")) and "=" not in words[0]:
        return config.load_recipe(words[0], list(words[1:]))
    return config.compose_recipe(list(words))


def plan(what: Recipe | config.SweepSpec | str, *overrides: str) -> Planned:
    """Plan a recipe or a sweep, without torch: `ls.plan(recipe)`, `ls.plan("quickstart")`.

    Args:
        what: a recipe from `compose`; or a sweep: its name, its file, or what `config.load_sweep` made of it.
        overrides: KEY=VALUE on top of the sweep's file.

    Raises:
        ConfigError, DatasetError, InputError: with every problem found.
    """
    if isinstance(what, Recipe):
        made = make_plan(what)
        seconds = trial_seconds(made, what) + class_images_seconds([(made, what)])
        return Planned("recipe", {"recipe": what}, {"recipe": made}, 1, seconds)
    spec = config.load_sweep(what, list(overrides)) if isinstance(what, str) else what
    plans = plan_sweep(spec)
    recipes = {arm.name: arm.recipe for arm in spec.known}
    return Planned(spec.name, recipes, plans, spec.total, _estimate(spec, plans))


class _PlanPackage(ModuleType):
    """The package `lorasweep.plan`, which a notebook calls by the verb's name."""

    def __call__(self, what: Recipe | config.SweepSpec | str, *overrides: str) -> Planned:
        """Plan; see `lorasweep.api.plan`."""
        return plan(what, *overrides)


sys.modules["lorasweep.plan"].__class__ = _PlanPackage


def run_trial(
    recipe: Recipe,
    folder: str | Path | None = None,
    *,
    planned: Plan | None = None,
    fresh: bool = False,
    parent: Mapping[str, Any] | None = None,
    on_event: OnEvent | None = None,
    quiet: bool = False,
) -> Run:
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
            that it answers with False is the last one.
        quiet: no progress bar either.

    Raises:
        ConfigError, DatasetError, InputError: before any work; with every problem found.
        SweepHeldError: another process trains in this folder.
    """
    from lorasweep.results.tracking.process import Mirror

    planned = planned or make_plan(recipe)
    place = folder_of(recipe, planned) if folder is None else paths.typed(str(folder)).absolute()
    mirror = Mirror(place.parent, recipe.tracking)
    require_writable(place)
    ended = cook(
        recipe,
        planned,
        place,
        shown=lambda: _heard(planned.steps, quiet=quiet, on_event=on_event),
        fresh=fresh,
        parent=parent,
        mirror=mirror,
    )
    return Run(place, ended)


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
    sweep: str | config.SweepSpec,
    *overrides: str,
    plans: Mapping[str, Plan] | None = None,
    extend: bool = False,
    repeats: int | None = None,
    fresh: bool = False,
    on_change: OnChange | None = None,
    quiet: bool = False,
) -> Sweep:
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
    from lorasweep.results.report import contact_sheet
    from lorasweep.results.report.write import write_report
    from lorasweep.results.tracking.process import Mirror

    spec = config.load_sweep(sweep, list(overrides)) if isinstance(sweep, str) else sweep
    plans = plans or plan_sweep(spec)
    folder = paths.outputs() / spec.name
    mirror = Mirror(folder, spec.tracking)
    require_writable(folder)
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
            on_trial_end=lambda: contact_sheet.write_contact_sheet(folder),
            on_end=lambda: write_report(folder),
            mirror=mirror,
        )
    return Sweep(folder, ended)


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
            tell(state.finished, counts)

        yield told


def _estimate(spec: config.SweepSpec, plans: Mapping[str, Plan]) -> float:
    """How long the sweep is expected to take, s; of a pruned one, at most."""
    each_s = [trial_seconds(plans[arm.name], arm.recipe) for arm in spec.known]
    once_s = class_images_seconds((plans[arm.name], arm.recipe) for arm in spec.known)
    return sweep_seconds(each_s, spec.launcher, trials=spec.total, once_s=once_s)
