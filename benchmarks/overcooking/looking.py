"""Further looks: the witness draws more pictures of checkpoints that are cooked already. Trains nothing.

    look_all(home, ...)  ->  home/runs/<run>/truth_again/{base.json, step_000040.json, ...}, truth_third/...

For what a few pictures a rung cannot tell: variety, and what bare prompts show. Prompts and noises differ
from look to look (`pictures.LOOKS`); `truth.together` adds them up.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import as_completed
from pathlib import Path

from benchmarks.overcooking.cooking import run_folders, workers
from benchmarks.overcooking.pictures import LOOKS, Look
from benchmarks.overcooking.reopening import Reopened, reopened
from lorasweep.core import files
from lorasweep.plan import make_plan


def look_all(home: Path, *, processes: int, until: float) -> Iterator[tuple[str, int]]:
    """Look again at every checkpoint that was witnessed; yields each run and how many looks are left of it.

    Args:
        home: `LORASWEEP_HOME` of the runs.
        processes: workers, one thread each.
        until: unix time after which nothing more is begun.
    """
    folders = [folder for folder in run_folders(home) if _left(folder)]
    with workers(processes) as pool:
        for done in as_completed([pool.submit(look, folder, home, until=until) for folder in folders]):
            yield done.result()


def steps_left(folder: Path, further: Look) -> list[int]:
    """Steps of a run that one look has not seen, and whose adapter is still there."""
    seen = [path.stem for path in sorted((folder / "truth").glob("step_*.json"))]
    return [
        int(stem.removeprefix("step_"))
        for stem in seen
        if (folder / "checkpoints" / stem).exists() and not (folder / further.folder / f"{stem}.json").exists()
    ]


def look(folder: Path, home: Path, *, until: float) -> tuple[str, int]:
    """Look again at one run's checkpoints, in this process."""
    if time.time() <= until:
        with reopened(folder) as run:
            for further in LOOKS:
                _look(run, further, home, until=until)
    return folder.name, _left(folder)


def _look(run: Reopened, further: Look, home: Path, *, until: float) -> None:
    from benchmarks.overcooking.witness import Witness
    from lorasweep.dollhouse.reader import Reader

    steps = steps_left(run.folder, further)
    if not steps:
        return
    witness = Witness(
        run.recipe,
        make_plan(run.recipe),
        run.identity,
        run.resources,
        Reader.load(),
        home=home,
        counts=further.counts,
        seed=further.seed,
    )
    found = run.folder / further.folder
    files.write_json(found / "base.json", witness.base_testimony(run.adapter))
    for step in steps:
        if time.time() > until:
            return
        if run.recall(step):
            files.write_json(found / f"step_{step:06d}.json", witness.testify(run.adapter))


def _left(folder: Path) -> int:
    return sum(len(steps_left(folder, further)) for further in LOOKS)
