"""Metrics of pictures, measured anew from those that runs kept: a metric was mended, nothing is cooked.

    remeasure_all(home, ...)  ->  home/runs/<run>/remeasured.json

Of what a rung measured, the families of `METRICS` are replaced by today's; everything else stays as it was
measured while the run cooked. Importing this imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.overcooking.cooking import run_folders, workers
from benchmarks.overcooking.reopening import reopened
from lorasweep import files
from lorasweep.plan import make_plan

if TYPE_CHECKING:
    from lorasweep.metrics.context import JudgeContext
    from lorasweep.records import Recipe

METRICS: Final = ("burn", "diversity", "identity", "prompt_control")
_FILE = "remeasured.json"


def remeasure_all(home: Path, *, processes: int) -> Iterator[str]:
    """Measure anew what no file holds yet; yields each run's name.

    Args:
        home: `LORASWEEP_HOME` of the runs.
        processes: workers, one thread each.
    """
    with workers(processes) as pool:
        for done in as_completed([pool.submit(remeasure, folder) for folder in run_folders(home)]):
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


def remeasure(folder: Path) -> str:
    """Measure one run's rungs anew, in this process; those that were are not again."""
    from lorasweep import sample

    found = remeasured(folder)
    steps = [path for path in sorted((folder / "samples").glob("step_*")) if str(_step(path)) not in found]
    if not steps:
        return folder.name
    with reopened(folder) as run:  # its adapter is asked nothing: a picture's features are the bare base's
        plan = make_plan(run.recipe)
        for path in steps:
            context = run.kitchen.judge_context(
                run.recipe,
                plan,
                adapter=run.adapter,
                samples=[s for s in sample.read_index(path) if _at_rung(s.request, run.recipe)],
                step=_step(path),
                history=[],
            )
            found[str(_step(path))] = _measure(context, run.recipe)
    files.write_json(folder / _FILE, found)
    return folder.name


def _measure(context: JudgeContext, recipe: Recipe) -> dict[str, Any]:
    from lorasweep.metrics import build
    from lorasweep.metrics.replicates import GROUPS

    asked = [build(name, recipe.metrics[name]) for name in METRICS]

    def values(one: JudgeContext) -> dict[str, float]:
        return {key: value for metric in asked for key, value in metric.measure(one).values.items()}

    parts = [context.leaving_out(part, GROUPS, history=[]) for part in range(GROUPS)]
    return {"metrics": values(context), "replicates": [values(part) for part in parts]}


def _at_rung(request: Any, recipe: Recipe) -> bool:
    return request.weight == recipe.sample.weight and request.seed in recipe.sample.rung_seeds


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step_"))
