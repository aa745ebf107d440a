"""One run of the overcooking proof, cooked, witnessed and measured anew; too small to prove any claim."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from lorasweep.core import files
from lorasweep.core.run_folder import INDEX_FILE

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks/ is not installed

from benchmarks.overcooking import cooking, grid, remeasuring, table
from benchmarks.overcooking.pictures import Counts

COUNTS = Counts(trained=2, recombined=2, stranger=2, open=2, plain=2, replicas=1)


@pytest.mark.slow
def test_a_rung_that_lacks_pictures_gets_them_from_its_weights_and_is_judged_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORASWEEP_HOME", str(tmp_path))
    run = grid.runs(scale=grid.Scale(steps=2, rungs=1))[0]
    cooked = cooking.cook_one(run, tmp_path, until=time.time() + 600, counts=COUNTS)
    folder = tmp_path / "runs" / run.name
    assert cooked.status == "COMPLETED", (folder / "error.txt").read_text()
    (before,) = table.load(tmp_path)

    assert remeasuring.remeasure(folder, everything=False) == run.name
    assert not remeasuring.remeasured(folder)  # it lacks nothing

    rung = folder / "samples" / "step_000002"
    count = len(files.read_json(rung / INDEX_FILE)["images"])
    for stranger in ("class_03", "class_05"):  # one after the other: what was drawn before stays what it was
        _take(rung, stranger)
        (folder / "remeasured.json").unlink(missing_ok=True)
        remeasuring.remeasure(folder, everything=False)
    assert remeasuring.remeasured(folder)["2"]["pictures"] == count
    assert len(list((folder / "drawn_anew" / rung.name).glob("*.png"))) == 2
    (after,) = table.load(tmp_path)
    judged = {key: value for key, value in before.metrics.items() if not key.endswith("_se")}
    for key, value in judged.items():
        # A picture's last bits depend on how many are drawn at once.
        assert after.metrics[key] == pytest.approx(value, rel=1e-3, abs=1e-4), key


def _take(rung: Path, name: str) -> None:
    index = files.read_json(rung / INDEX_FILE)
    taken = [entry for entry in index["images"] if entry["file"].startswith(name)]
    assert len(taken) == 1
    (rung / taken[0]["file"]).unlink()
    kept = [entry for entry in index["images"] if entry not in taken]
    files.write_json(rung / INDEX_FILE, {**index, "images": kept})
