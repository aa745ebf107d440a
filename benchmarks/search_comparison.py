"""Compare searches of one space from their sweep folders: best value, and what it cost. Cooks nothing.

    lorasweep sweep conditional
    lorasweep sweep conditional sweep.name=conditional_random sweep.sampler=random sweep.pruner=none
    python -m benchmarks.search_comparison outputs/conditional outputs/conditional_random

Every trial counts with the steps that it really trained. `best after` is the best value once so many steps
were spent, in the order in which trials ended: what a person would have had by then. `replay` judges the
trials that ran their course again with every pruner, one after the other in their order, as one worker would have
cooked them: what it would have saved, and the best value lost.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from lorasweep.config.sweep_spec import Goal, PrunerOptions
from lorasweep.core.files import read_json
from lorasweep.core.records import Plan, Status, from_dict
from lorasweep.core.run_folder import PRUNING_FILE, RunFolder
from lorasweep.results.runs import find_run
from lorasweep.sweep.manifest import read_manifest
from lorasweep.sweep.ranking.state import SweepState, read_state
from lorasweep.sweep.search.pruning import RungPruner, decade_of
from lorasweep.trial.judge import score

SHARES = (0.25, 0.5, 0.75, 1.0)
PRUNERS = (
    PrunerOptions(name="median"),
    PrunerOptions(name="successive_halving"),
    PrunerOptions(name="hyperband"),
    PrunerOptions(name="patient"),
)


def main(folders: Sequence[Path]) -> int:
    """Print the table and the replays; 1 when a folder holds no finished trial."""
    states = [read_state(folder) for folder in folders]
    curves = [spent_and_best(state) for state in states]
    if not all(curves):
        print("a folder has no finished trial with a value", file=sys.stderr)
        return 1
    cheapest = min(curve[-1][0] for curve in curves)
    columns = [f"best after {round(share * cheapest)} steps" for share in SHARES]
    print("| sweep | trials | pruned | steps | best | " + " | ".join(columns) + " |")
    print("|" + "---|" * (5 + len(columns)))
    for state, curve in zip(states, curves, strict=True):
        pruned = sum(trial.status is Status.PRUNED for trial in state.trials)
        best = [best_after(curve, share * cheapest) for share in SHARES]
        cells = [state.name, state.finished, pruned, curve[-1][0], shown(curve[-1][1]), *map(shown, best)]
        print("| " + " | ".join(map(str, cells)) + " |")
    for folder in folders:
        print_replays(folder)
    return 0


def spent_and_best(state: SweepState) -> list[tuple[int, float | None]]:
    """Steps spent and best value so far, after each trial in the order in which they ended."""
    better = max if state.goal == "maximize" else min
    ended = {trial.number: RunFolder(Path(trial.run_folder)).record for trial in state.trials}
    order = sorted((record.ended_at or 0.0, number) for number, record in ended.items() if record)
    by_number = {trial.number: trial for trial in state.trials}
    spent, best = 0, None
    curve: list[tuple[int, float | None]] = []
    for _, number in order:
        trial = by_number[number]
        if not trial.status.is_final:
            continue
        spent += 0 if trial.reused_from else trial.step
        if trial.status is Status.COMPLETED and trial.value is not None:
            best = trial.value if best is None else better(best, trial.value)
        curve.append((spent, best))
    return curve


def best_after(curve: Sequence[tuple[int, float | None]], steps: float) -> float | None:
    """The best value that was known once `steps` were spent."""
    return next((best for spent, best in reversed(curve) if spent <= steps), None)


def print_replays(folder: Path) -> None:
    """What each pruner would have done to the trials of a sweep that ran their course."""
    path = folder / PRUNING_FILE
    if not path.exists():
        return
    found = read_json(path)
    print(f"\n{folder.name}: spent {found['spent_steps']} steps, pruning saved {found['saved_steps']}")
    for each in found["spared"]:
        value = shown(each["value"])
        print(f"  spared by lot: {each['arm']}, which would have been stopped, ended at {value}")
    manifest, trials = read_manifest(folder), courses(read_state(folder))
    if manifest is None or len(trials) < 2:
        return
    declared = PrunerOptions(**found["pruner"])
    options = [declared] if declared.active else []
    options += [each for each in PRUNERS if each.name != declared.name]
    for each in options:
        print(f"  replay  {replay(trials, each, metric=manifest.metric, goal=cast(Goal, manifest.goal))}")


def courses(state: SweepState) -> list[Course]:
    """The trials that ran their course; of a pruned sweep, those are the survivors."""
    found = []
    for trial in state.trials:
        if trial.status is not Status.COMPLETED or trial.value is None:
            continue
        run = RunFolder(Path(trial.run_folder))
        plan = from_dict(Plan, run.plan)
        metrics = [(row["exposures_per_image"], score.without(row["metrics"], state.left_out)) for row in run.rungs()]
        found.append(
            Course(
                number=trial.number,
                decade=decade_of(find_run(str(run.path), subject="replay", to_cook=False).recipe),
                steps=trial.steps,
                exposures=plan.exposures_per_image,
                rungs=tuple((at, each[state.metric]) for at, each in metrics if state.metric in each),
                value=trial.value,
            )
        )
    return found


def shown(value: float | None) -> str:
    """A value for the table."""
    return "-" if value is None else f"{value:.3f}"


@dataclass(frozen=True, kw_only=True)
class Course:
    """A trial that ran its course."""

    number: int
    decade: int | None  # power of ten of the learning rate
    steps: int  # optimizer steps of its budget
    exposures: float  # per image, of its budget
    rungs: tuple[tuple[float, float], ...]  # (exposures per image, the pruner's metric), ascending
    value: float  # the sweep's metric at the end


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What a pruner would have done."""

    pruner: str
    trials: int  # that ran their course
    pruned: int  # of them, that it would have stopped
    steps: int  # trained in all
    saved_steps: int  # of them, that it would have saved
    best: float | None  # value of the best trial
    best_kept: float | None  # of those that it would have let finish
    lost: float | None  # how much worse that is; 0 when the best one was kept

    def __str__(self) -> str:
        share = self.saved_steps / self.steps if self.steps else 0.0
        cost = "nothing was left" if self.lost is None else f"best value lost {self.lost:.3f}"
        return f"{self.pruner}: {self.pruned} of {self.trials} stopped, {share:.0%} of the steps saved, {cost}"


def replay(courses: Sequence[Course], options: PrunerOptions, *, metric: str, goal: Goal) -> Replay:
    """Judge fully trained trials again, without exemptions.

    Args:
        courses: in the order in which they were cooked.
        options: the pruner.
        metric: the sweep's.
        goal: which way that is better.
    """
    pruner = RungPruner(options, metric=metric, goal=goal)
    spent, kept, stopped = 0, [], 0
    for course in courses:
        steps = _steps_until_stopped(course, pruner)
        pruner.ended(course.number, Status.COMPLETED if steps is None else Status.PRUNED)
        spent += course.steps if steps is None else steps
        if steps is None:
            kept.append(course.value)
        else:
            stopped += 1
    better = max if goal == "maximize" else min
    best = better((course.value for course in courses), default=None)
    best_kept = better(kept, default=None)
    total = sum(course.steps for course in courses)
    return Replay(
        pruner=options.name,
        trials=len(courses),
        pruned=stopped,
        steps=total,
        saved_steps=total - spent,
        best=best,
        best_kept=best_kept,
        lost=None if best is None or best_kept is None else abs(best - best_kept),
    )


def _steps_until_stopped(course: Course, pruner: RungPruner) -> int | None:
    """The step at which a pruner stops it; None when it runs its course. The last rung stops nobody."""
    for exposures, value in course.rungs:
        why = pruner.rung(course.number, course.decade, exposures=exposures, last=course.exposures, value=value)
        if why and exposures < course.exposures:
            return round(course.steps * exposures / course.exposures)
    return None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="sweep folders")
    sys.exit(main(parser.parse_args().folders))
