"""What a notebook holds: a plan, a run, a sweep; each shows itself, and reads its folder whenever it is asked.

Knows nothing about how they are made.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasweep.config import Arm, SweepSpec
from lorasweep.config.suggest import unknown
from lorasweep.core import paths, registry
from lorasweep.core.records import Plan, Recipe, Status
from lorasweep.core.run_folder import NO_INDEX, RunFolder
from lorasweep.plan import memory
from lorasweep.plan.cost import class_images_seconds, is_assumed, sweep_seconds, trial_seconds
from lorasweep.plan.trainable import trainable
from lorasweep.results import runs
from lorasweep.sweep import beforehand, comparable
from lorasweep.sweep.ranking.leaderboard import rank_arms
from lorasweep.sweep.ranking.state import SweepState, read_record, read_state
from lorasweep.sweep.workers.pool import supply_here

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

    from lorasweep.results.report.notebook import Shown
    from lorasweep.sweep.driver import SweepResult
    from lorasweep.sweep.single import TrialResult
    from lorasweep.trial.sample import Sample


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


def owned(arms: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """Put arms' names before those of their plans' warnings that are not about all of them."""
    owners: dict[str, list[str]] = {}
    for name, warnings in arms:
        for warning in warnings:
            owners.setdefault(warning, []).append(name)
    return [
        warning if len(names) == len(arms) else f"{', '.join(names)}: {warning}" for warning, names in owners.items()
    ]


@dataclass(frozen=True, repr=False)
class Planned(_Shows):
    """What a recipe, or a sweep, would do."""

    subject: SweepSpec | Recipe
    arms: Sequence[tuple[Arm, Plan]]  # for the first seed; of a search, the recipes at the corners of its space too
    name: str = "recipe"  # of the sweep
    trials: int = 1  # how many there would be

    @functools.cached_property
    def recipes(self) -> Mapping[str, Recipe]:
        """By arm."""
        return {arm.name: arm.recipe for arm, _ in self.arms}

    @functools.cached_property
    def plans(self) -> Mapping[str, Plan]:
        """By arm."""
        return {arm.name: made for arm, made in self.arms}

    @property
    def seconds(self) -> float | None:
        """How long it is expected to take, s; where trials are pruned, at most; None: its base never ran here."""
        each_s = [trial_seconds(made, arm.recipe) for arm, made in self.arms]
        once_s = class_images_seconds((made, arm.recipe) for arm, made in self.arms)
        return sweep_seconds(each_s, workers=self.workers, trials=self.trials, once_s=once_s)

    @property
    def timed_here(self) -> bool:
        """Whether that goes by recipes that ran on this machine, rather than by a guess."""
        return not any(is_assumed(arm.recipe.base) for arm, _ in self.arms)

    @functools.cached_property
    def workers(self) -> int:
        """How many trials are expected to be worked on at the same time, those that share a forward pass as one."""
        launcher, on_gpu = self.subject.launcher, any(arm.recipe.train.device != "cpu" for arm, _ in self.arms)
        here = supply_here(launcher, jobs=self.trials, gpus_wanted=on_gpu).workers
        return here * max(1, len(launcher.options.get("hosts", ())))

    @functools.cached_property
    def pack(self) -> tuple[int, str] | None:
        """How many trials a worker trains at a time, and why; None where it never trains several."""
        launcher = registry.load("launcher", self.subject.launcher.name)
        if self.trials == 1 or not hasattr(launcher, "packing"):
            return None
        learns, options = isinstance(self.subject, SweepSpec) and self.subject.learns, self.subject.launcher.options
        recipes = list(self.recipes.values())
        return launcher.packing(self.subject.launcher, recipes, room=self._room, learns=learns, **options)

    @functools.cached_property
    def taken(self) -> Mapping[str, dict[str, Any]]:
        """What a worker has of its device's, what the recipe takes, and what is turned on for that; by arm.

        {} where it is not known.
        """
        slots = 1 if self.pack is None else self.pack[0]
        return {name: memory.taken(recipe, self._room, slots=slots) for name, recipe in self.recipes.items()}

    @functools.cached_property
    def _room(self) -> memory.Room | None:
        launcher = registry.load("launcher", self.subject.launcher.name)
        if not hasattr(launcher, "room"):
            return None
        return launcher.room(self.subject.launcher, list(self.recipes.values()), jobs=self.trials)

    @functools.cached_property
    def warnings_by_arm(self) -> Mapping[str, list[str]]:
        """What is worth knowing of each."""
        return {arm.name: [*plan.warnings, *memory.warnings(self.taken[arm.name])] for arm, plan in self.arms}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed, but worth knowing; what is not about all arms, with their names."""
        of_arms = owned(list(self.warnings_by_arm.items()))
        if isinstance(self.subject, Recipe):
            return tuple(of_arms)
        of_space = () if self.subject.search is None else self.subject.search.warnings
        compared = (beforehand.duplicates, comparable.asked_otherwise)
        return (*of_space, *(said for about in compared for said in about(self.subject, self.plans)), *of_arms)

    def to_json(self) -> dict[str, Any]:
        """Return all that is known of it as JSON-able data; see `results.plan_json`."""
        from lorasweep.results.plan_json import plan_json, rounded

        told = plan_json(
            self.name,
            self.subject,
            self.arms,
            trials=self.trials,
            workers=self.workers,
            pack=self.pack,
            taken=self.taken,
            warnings=self.warnings_by_arm,
        )
        return told | {"estimated_seconds": rounded(self.seconds), "timed_here": self.timed_here}

    def captions_json(self) -> dict[str, Any]:
        """Return what every arm's captions become, as JSON-able data; see `results.plan_json`."""
        from lorasweep.results.plan_json import captions_json

        return captions_json(self.arms)

    @property
    def table(self) -> pd.DataFrame:
        """A row an arm: steps, images, buckets, exposures per image, trained parameters."""
        import pandas as pd

        rows = [self._row(arm, made) for arm, made in self.arms]
        return pd.DataFrame(rows).astype({"trained parameters": "Int64"})  # of some it is not known

    def _row(self, arm: Arm, made: Plan) -> dict[str, Any]:
        counted = trainable(arm.recipe)
        trained = made.train_images()
        return {
            "arm": arm.name,
            "steps": made.steps,
            "images": len(trained),
            "held out": len(made.held_out_images()),
            "buckets": len({image.bucket for image in trained}),
            "exposures per image": round(made.exposures_per_image, 1),
            "trained parameters": None if counted is None else counted.parameters,
        }

    def _shown(self) -> Shown:
        from lorasweep.results.report.notebook import Shown
        from lorasweep.results.report.words import expected

        rows = [self._row(arm, made) for arm, made in self.arms]
        return Shown(
            title=f"plan of {self.name}",
            lines=[
                expected(self.trials, self.seconds, timed_here=self.timed_here),
                *(f"warning: {said}" for said in self.warnings),
            ],
            head=list(rows[0]),
            rows=[["" if cell is None else cell for cell in row.values()] for row in rows],
        )


class _Found(dict[str, Any]):
    """What a run found, by name; asked for what is not there, it says why."""

    run: Run

    def __missing__(self, name: str) -> Any:
        status = self.run.status
        why = "nobody measured it" if status is Status.COMPLETED else f"{self.run.name} is {status.value}"
        raise KeyError(f"{name}: {self.run.missing.get(name) or unknown(why, name, self)}")


@dataclass(frozen=True, repr=False)
class Run(_Shows):
    """One recipe that was trained and judged, or is on its way; everything is read from its folder."""

    folder: Path  # the run folder, absolute
    ended: TrialResult | None = None  # how the call that made it ended; None for one that was opened

    @property
    def name(self) -> str:
        """SWEEP/TRIAL, or its path where it lies elsewhere, as every command takes it."""
        inside = self.folder.parent.parent == paths.outputs()
        return RunFolder(self.folder).name if inside else str(self.folder)

    @functools.cached_property
    def recipe(self) -> Recipe:
        """The recipe that it recorded."""
        return runs.find_run(str(self.folder), subject="the run", to_cook=False).recipe

    @property
    def status(self) -> Status:
        """Where it stands."""
        record = read_record(RunFolder(self.folder))
        return Status.WAITING if record is None else record.status

    @property
    def result(self) -> dict[str, Any]:
        """What metrics.json holds: metrics, missing, ladder, rungs, verdict; empty before the end."""
        return RunFolder(self.folder).result

    @property
    def metrics(self) -> Mapping[str, float]:
        """Numbers of the checkpoint that it keeps, by name; none before the end."""
        return self._found("metrics")

    @property
    def missing(self) -> Mapping[str, str]:
        """Why numbers are not there, by name."""
        return dict(self.result["missing"])

    @property
    def verdict(self) -> Mapping[str, Any]:
        """Where it was done, from where it burns, which weight to use; "sentence" says it in words."""
        return self._found("verdict")

    def _found(self, what: str) -> _Found:
        found = _Found(self.result[what])
        found.run = self
        return found

    @property
    def parent(self) -> Mapping[str, Any]:
        """What it is a variation of: `parent`, a run's name, and `overrides`; empty when of none."""
        return RunFolder(self.folder).parent

    @property
    def adapter(self) -> Path:
        """The file of the checkpoint that it keeps."""
        return RunFolder(self.folder).adapter

    @property
    def samples(self) -> list[Sample]:
        """The pictures of that checkpoint, with what was asked for each; none before the end, or where none is told."""
        from lorasweep.trial import sample

        try:
            return sample.read_index(RunFolder(self.folder).samples())
        except NO_INDEX:
            return []

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
        return Path(export_run(found, out=None if out is None else paths.typed(out), **how)[0].file)

    def draw(
        self, prompts: Sequence[str], *, weight: float | None = None, seed: int | None = None
    ) -> list[Image.Image]:
        """Draw a picture per prompt with the adapter that it keeps; see `mlflow_model.DrawingModel.draw`.

        Raises:
            InputError: it has no adapter yet.
        """
        return self._model.draw([prompts] if isinstance(prompts, str) else prompts, weight=weight, seed=seed)

    @functools.cached_property
    def _model(self) -> Any:
        from lorasweep.results.mlflow_model import DrawingModel

        return DrawingModel(runs.find_checkpoint(str(self.folder), subject="draw").folder)

    def _shown(self) -> Shown:
        from lorasweep.results.report.notebook import of_run

        return _with_end(of_run(RunFolder(self.folder)), self.ended)


@dataclass(frozen=True, repr=False)
class EndedRun(Run):
    """A run that a call has just made, or found to be done."""

    ended: TrialResult


@dataclass(frozen=True, repr=False)
class Sweep(_Shows):
    """A sweep, finished or not; everything is read from its folder."""

    folder: Path  # of the sweep, absolute
    ended: SweepResult | None = None  # how the call that ran it ended; None for one that was opened

    @property
    def state(self) -> SweepState:
        """Where its trials stand now."""
        return read_state(self.folder)

    @property
    def leaderboard(self) -> pd.DataFrame:
        """A row an arm, best first: rank, what sets it apart, value, 95 % interval, verdict, each metric's mean.

        Of a sweep with several objectives `front` tells whether no other arm beats it in all of them.
        """
        import pandas as pd

        state = self.state
        rows = [
            {
                "rank": row.rank,
                "arm": row.arm,
                "overrides": " ".join(row.overrides),
                "value": row.value,
                **({"front": row.front} if state.further else {}),
                "low": row.interval.low if row.interval else None,
                "high": row.interval.high if row.interval else None,
                "seeds": row.seeds,
                "verdict": row.verdict,
                **row.metrics,
            }
            for row in rank_arms(state)
        ]
        return pd.DataFrame(rows).astype({"rank": "Int64"} if rows else {})  # some arms have none

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

        return _with_end(of_sweep(self.state), self.ended)


@dataclass(frozen=True, repr=False)
class EndedSweep(Sweep):
    """A sweep that a call has just run, or found to be done."""

    ended: SweepResult


Named = str | Path | Run | Sweep


def named_by(what: Named) -> str:
    """Return how commands call it: as it is typed, or the folder of one that is in hand."""
    return str(what.folder if isinstance(what, Run | Sweep) else what)


def _with_end(shown: Shown, ended: TrialResult | SweepResult | None) -> Shown:
    """Add what the call that made it has to say: why it stopped early, what MLflow lacks."""
    if ended is None:
        return shown
    lines = [f"stopped early: {ended.halted}"] if ended.halted else []
    lines += ["interrupted; the same call continues where it stopped"] if ended.exit_code == 130 else []
    lines += [] if ended.mirrored.ok else [f"MLflow {ended.mirrored.message}"]
    return dataclasses.replace(shown, lines=[*shown.lines, *lines])
