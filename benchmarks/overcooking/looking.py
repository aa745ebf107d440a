"""Further looks: the witness draws more pictures of checkpoints that are cooked already. Trains nothing.

    look_all(home, ...)  ->  home/runs/<run>/truth_again/{base.json, step_000040.json, ...}, truth_third/...

For what a few pictures a rung cannot tell: variety, and what bare prompts show. Prompts and noises differ
from look to look (`pictures.LOOKS`); `truth.together` adds them up.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from concurrent.futures import as_completed
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.overcooking.cooking import workers
from benchmarks.overcooking.pictures import LOOKS, Look
from lorasweep import config, files, keep
from lorasweep.errors import AdapterError
from lorasweep.plan import make_plan

if TYPE_CHECKING:
    from lorasweep.dollhouse.reader import Reader
    from lorasweep.kitchen import Kitchen
    from lorasweep.protocols import Adapter
    from lorasweep.records import Recipe


def look_all(home: Path, *, processes: int, until: float) -> Iterator[tuple[str, int]]:
    """Look again at every checkpoint that was witnessed; yields each run and how many looks are left of it.

    Args:
        home: `LORASWEEP_HOME` of the runs.
        processes: workers, one thread each.
        until: unix time after which nothing more is begun.
    """
    folders = [path.parent for path in sorted((home / "runs").glob("*/run.json")) if _left(path.parent)]
    with workers(processes) as pool:
        for done in as_completed([pool.submit(look, folder, home, until=until) for folder in folders]):
            yield done.result()


def steps_left(folder: Path, further: Look) -> list[int]:
    """Steps of a run that one look has not seen, and whose adapter is still there."""
    seen = [path.stem for path in sorted((folder / "truth").glob("step_*.json"))]
    return [
        int(stem.removeprefix("step_"))
        for stem in seen
        if (folder / "checkpoints" / stem).exists()
        and not (folder / further.folder / f"{stem}.json").exists()
    ]


_kitchen: Kitchen | None = None


def look(folder: Path, home: Path, *, until: float) -> tuple[str, int]:
    """Look again at one run's checkpoints, in this process."""
    from lorasweep.dollhouse.reader import Reader
    from lorasweep.kitchen import Kitchen

    global _kitchen
    if time.time() > until:
        return folder.name, _left(folder)
    _kitchen = _kitchen or Kitchen()
    recipe = config.compose_recipe(files.read_json(folder / "run.json")["overrides"])
    kind = importlib.import_module(f"lorasweep.adapters.{recipe.adapter.name}")
    adapter = kind.build(_kitchen.base(recipe), seed=recipe.seed, **recipe.adapter.options)
    try:
        for further in LOOKS:
            _look(folder, home, further, recipe, adapter, _kitchen, Reader.load(), until=until)
    finally:
        adapter.remove()
    return folder.name, _left(folder)


def _look(
    folder: Path,
    home: Path,
    further: Look,
    recipe: Recipe,
    adapter: Adapter,
    kitchen: Kitchen,
    reader: Reader,
    *,
    until: float,
) -> None:
    from benchmarks.overcooking.witness import Witness

    steps = steps_left(folder, further)
    if not steps:
        return
    identity, found = files.read_json(folder / "run.json")["identity"], folder / further.folder
    witness = Witness(
        recipe,
        make_plan(recipe),
        identity,
        kitchen,
        reader,
        home=home,
        counts=further.counts,
        seed=further.seed,
    )
    files.write_json(found / "base.json", witness.base_testimony(adapter))
    for step in steps:
        if time.time() > until:
            return
        try:
            keep.recall_weights(adapter, folder, step)
        except AdapterError:
            continue  # a rung that was not kept, of a kind whose file is in other keys than its tensors
        files.write_json(found / f"step_{step:06d}.json", witness.testify(adapter))


def _left(folder: Path) -> int:
    return sum(len(steps_left(folder, further)) for further in LOOKS)
