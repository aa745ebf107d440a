"""A second look: the witness draws more pictures of checkpoints that are cooked already. Trains nothing.

    look_all(home, ...)  ->  home/runs/<run>/truth_again/{base.json, step_000040.json, ...}

For what a few pictures a rung cannot tell: variety, and what bare prompts show. Prompts and noises are others
than in the first look; `truth.together` adds the two up.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from concurrent.futures import as_completed
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.overcooking.cooking import workers
from benchmarks.overcooking.pictures import SECOND_LOOK, SECOND_SEED
from benchmarks.overcooking.table import AGAIN
from lorasweep import config, files, keep
from lorasweep.errors import AdapterError
from lorasweep.plan import make_plan

if TYPE_CHECKING:
    from lorasweep.kitchen import Kitchen


def look_all(home: Path, *, processes: int, until: float) -> Iterator[tuple[str, int]]:
    """Look again at every checkpoint that was witnessed once; yields each run and how many are left of it.

    Args:
        home: `LORASWEEP_HOME` of the runs.
        processes: workers, one thread each.
        until: unix time after which nothing more is begun.
    """
    folders = [path.parent for path in sorted((home / "runs").glob("*/run.json")) if steps_left(path.parent)]
    with workers(processes) as pool:
        for done in as_completed([pool.submit(look, folder, home, until=until) for folder in folders]):
            yield done.result()


def steps_left(folder: Path) -> list[int]:
    """Steps of a run that were looked at once only, and whose adapter is still there."""
    seen = [path.stem for path in sorted((folder / "truth").glob("step_*.json"))]
    return [
        int(stem.removeprefix("step_"))
        for stem in seen
        if (folder / "checkpoints" / stem).exists() and not (folder / AGAIN / f"{stem}.json").exists()
    ]


_kitchen: Kitchen | None = None


def look(folder: Path, home: Path, *, until: float) -> tuple[str, int]:
    """Look again at one run's checkpoints, in this process."""
    from benchmarks.overcooking.witness import Witness
    from lorasweep.dollhouse.reader import Reader
    from lorasweep.kitchen import Kitchen

    global _kitchen
    if time.time() > until:
        return folder.name, len(steps_left(folder))
    _kitchen = _kitchen or Kitchen()
    run = files.read_json(folder / "run.json")
    recipe = config.compose_recipe(run["overrides"])
    witness = Witness(
        recipe,
        make_plan(recipe),
        run["identity"],
        _kitchen,
        Reader.load(),
        home=home,
        counts=SECOND_LOOK,
        seed=SECOND_SEED,
    )
    kind = importlib.import_module(f"lorasweep.adapters.{recipe.adapter.name}")
    adapter = kind.build(_kitchen.base(recipe), seed=recipe.seed, **recipe.adapter.options)
    try:
        files.write_json(folder / AGAIN / "base.json", witness.base_testimony(adapter))
        for step in steps_left(folder):
            if time.time() > until:
                break
            try:
                keep.recall_weights(adapter, folder, step)
            except AdapterError:
                continue  # a rung that was not kept, of a kind whose file is in other keys than its tensors
            files.write_json(folder / AGAIN / f"step_{step:06d}.json", witness.testify(adapter))
    finally:
        adapter.remove()
    return folder.name, len(steps_left(folder))
