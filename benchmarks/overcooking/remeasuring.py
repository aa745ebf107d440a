"""Metrics measured anew, where what a rung is asked was mended after it cooked; nothing is cooked again.

    remeasure_all(home, ...)  ->  home/runs/<run>/remeasured.json; pictures that were lacking in drawn_anew/

A rung that lacks pictures which today's plan asks for gets them drawn from the weights that were kept. Of
what was measured, the families of `METRICS` are replaced by today's; everything else stays as it was measured
while the run cooked. Importing this imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.overcooking.cooking import run_folders, workers
from benchmarks.overcooking.reopening import Reopened, recipe_of, reopened
from lorasweep.core import files
from lorasweep.core.run_folder import INDEX_FILE
from lorasweep.plan import make_plan, sample_requests
from lorasweep.plan.sample_requests import ImageRequest
from lorasweep.trial import sample
from lorasweep.trial.sample import Sample

if TYPE_CHECKING:
    from lorasweep.core.records import Plan
    from lorasweep.trial.judge.context import JudgeContext

METRICS: Final = ("burn", "diversity", "identity", "prompt_control")
_FILE = "remeasured.json"
_DRAWN = "drawn_anew"  # in a run folder, what a rung lacked


def remeasure_all(home: Path, *, processes: int, everything: bool) -> Iterator[str]:
    """Measure anew what needs it; yields each run's name.

    Args:
        home: `LORASWEEP_HOME` of the runs.
        processes: workers, one thread each.
        everything: also rungs that have all of today's pictures, for when a formula was mended.
    """
    with workers(processes) as pool:
        asked = [pool.submit(remeasure, folder, everything=everything) for folder in run_folders(home)]
        for done in as_completed(asked):
            yield done.result()


def remeasured(folder: Path) -> dict[str, Any]:
    """By step, as text: `metrics` and `replicates` of the families that were measured anew."""
    path = folder / _FILE
    return dict(files.read_json(path)) if path.exists() else {}


def with_remeasured(rung: Mapping[str, Any], anew: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """A rung with the families that were measured anew in the place of its own."""
    if anew is None:
        return rung
    replicates = zip(rung.get("replicates", ()), anew["replicates"], strict=False)
    return {
        **rung,
        "metrics": _replaced(rung["metrics"], anew["metrics"]),
        "replicates": [_replaced(one, other) for one, other in replicates],
    }


def _replaced(measured: Mapping[str, float], anew: Mapping[str, float]) -> dict[str, float]:
    return {key: v for key, v in measured.items() if key.partition("/")[0] not in METRICS} | dict(anew)


def remeasure(folder: Path, *, everything: bool) -> str:
    """Measure one run's rungs anew, in this process; those that were are not again."""
    recipe = recipe_of(folder)
    plan = make_plan(recipe)
    wanted = sample_requests.at_rung(recipe, plan)
    found = remeasured(folder)
    rungs = [path for path in sorted((folder / "samples").glob("step_*")) if (path / INDEX_FILE).exists()]
    stale = [path for path in rungs if not _is_of_today(found.get(str(_step(path))), path, wanted, everything)]
    if not stale:
        return folder.name
    with reopened(folder) as run:
        for path in stale:
            found[str(_step(path))] = _measure(run, plan, path, wanted)
            files.write_json(folder / _FILE, found)
    return folder.name


def _is_of_today(anew: Mapping[str, Any] | None, path: Path, wanted: Sequence[ImageRequest], everything: bool) -> bool:
    """Whether a rung was judged by all of the pictures that are asked for today, or cannot be."""
    if anew is not None:
        return anew["pictures"] == len(wanted) or not anew["recalled"]
    return not everything and len(_there([path], wanted)) == len(wanted)


def _measure(run: Reopened, plan: Plan, path: Path, wanted: Sequence[ImageRequest]) -> dict[str, Any]:
    from lorasweep.trial.judge import build
    from lorasweep.trial.judge.replicates import GROUPS

    recalled = run.recall(_step(path))
    drawn = _drawn(path, wanted)
    if recalled:
        drawn |= _draw(run, path, [request for request in wanted if request not in drawn])
    context = run.resources.judge_context(
        run.recipe,
        plan,
        adapter=run.adapter,
        samples=[drawn[request] for request in wanted if request in drawn],
        step=_step(path),
        history=[],
    )
    asked = [build(name, run.recipe.metrics[name]) for name in METRICS]

    def values(one: JudgeContext) -> dict[str, float]:
        return {key: value for metric in asked for key, value in metric.measure(one).values.items()}

    parts = [context.leaving_out(part, GROUPS, history=[]) for part in range(GROUPS)]
    return {
        "pictures": len(context.samples),
        "recalled": recalled,
        "metrics": values(context),
        "replicates": [values(part) for part in parts],
    }


def _drawn(path: Path, wanted: Sequence[ImageRequest]) -> dict[ImageRequest, Sample]:
    """What there is of the wanted pictures of a rung: drawn while it cooked, or since."""
    return _there([path, _beside(path)], wanted)


def _there(folders: Sequence[Path], wanted: Sequence[ImageRequest]) -> dict[ImageRequest, Sample]:
    there = {one.request: one for folder in folders for one in _samples(folder)}
    return {request: there[request] for request in wanted if request in there}


def _samples(folder: Path) -> list[Sample]:
    return sample.read_index(folder) if (folder / INDEX_FILE).exists() else []


def _draw(run: Reopened, path: Path, lacking: Sequence[ImageRequest]) -> dict[ImageRequest, Sample]:
    if not lacking:
        return {}
    base, options, folder = run.resources.base(run.recipe), run.recipe.sample, _beside(path)
    earlier = _samples(folder)
    requests = [*(one.request for one in earlier), *lacking]
    pictures = [*(one.open() for one in earlier), *sample.draw(base, run.adapter, lacking, options)]
    written = sample.write(folder, requests, pictures, base=base, options=options, adapter_file=None)
    return {one.request: one for one in written}


def _beside(path: Path) -> Path:
    return path.parent.parent / _DRAWN / path.name


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step_"))
