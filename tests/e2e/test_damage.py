"""Files of a run that a copy or a disk cut short: the same command ends with what it would have ended with."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save
from tiny_training import THREE_RUNGS

from lorasweep.api import training
from lorasweep.cli import main
from lorasweep.core import files
from lorasweep.core.records import Status
from lorasweep.core.run_folder import RunFolder

TINY = [*THREE_RUNGS, "optimizer.lr=1e-2"]
SECOND, THIRD = "checkpoints/step_000004", "checkpoints/step_000006"
Damage = Callable[[Path], object]
pytestmark = pytest.mark.usefixtures("quick_trials")


@pytest.fixture(scope="module")
def words(on_tiny_sd: list[str]) -> list[str]:
    return [*TINY, *on_tiny_sd]


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory, quick_trials: None, words: list[str]) -> tuple[Path, Path]:
    """A home with a run that was stopped behind its second rung of three, and one with the same, finished."""

    def stop(event: dict[str, Any]) -> bool:
        if event["kind"] == "step" and event["step"] == 5:
            raise RuntimeError("stopped")
        return True

    half, whole = (tmp_path_factory.mktemp(name) for name in ("half", "whole"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORASWEEP_HOME", str(half))
        with pytest.raises(RuntimeError, match="stopped"):
            training.run_trial(training.compose(*words), on_event=stop)
        shutil.copytree(half, whole, dirs_exist_ok=True)
        patch.setenv("LORASWEEP_HOME", str(whole))
        assert main(["train", *words]) == 0
    return half, whole


def run_in(home: Path) -> RunFolder:
    (run,) = (home / "outputs" / "train").iterdir()
    return RunFolder(run)


def copied(source: Path, home: Path) -> RunFolder:
    shutil.copytree(source, home, dirs_exist_ok=True)
    return run_in(home)


def left(home: Path) -> dict[str, Any]:
    """What a finished run is worth, wherever it lies."""
    run = run_in(home)
    steps = [row["step"] for row in run.rungs()]
    weights = [run.weights(step).read_bytes() for step in steps]
    pictures = [path.read_bytes() for path in sorted(run.samples().glob("*/*.png"))]
    return {"result": files.read_json(run.path / "metrics.json"), "kept": run.adapter.read_bytes(), "steps": steps,
            "weights": weights, "pictures": pictures}  # fmt: skip


def cut(name: str) -> Damage:
    """Half of a file is lost."""

    def damage(run: Path) -> None:
        content = (run / name).read_bytes()
        (run / name).write_bytes(content[: len(content) // 2])

    return damage


def without_first_rung(run: Path) -> None:
    rows = files.read_jsonl(run / "events.jsonl")
    files.write_jsonl(run / "events.jsonl", [row for row in rows if (row["kind"], row["step"]) != ("rung", 2)])


def half_a_checkpoint_more(run: Path) -> None:
    """As `rsync` leaves one that was being copied."""
    shutil.copytree(run / SECOND, run / THIRD)
    for name in ("state.json", "state.safetensors"):
        (run / THIRD / name).unlink()
    cut(f"{THIRD}/adapter.safetensors")(run)


@pytest.mark.parametrize(
    "damage",
    [
        cut("checkpoints/step_000002/adapter.safetensors"),
        cut(f"{SECOND}/state.json"),
        without_first_rung,
        half_a_checkpoint_more,
    ],
    ids=["weights of a rung", "what to go on from", "a rung of the log", "half a copy"],
)
def test_what_goes_on_from_a_damaged_run_ends_as_if_nothing_had_been(
    homes: tuple[Path, Path], home: Path, words: list[str], damage: Damage
) -> None:
    half, whole = homes
    damage(copied(half, home).path)
    assert main(["train", *words]) == 0
    assert left(home) == left(whole)


def test_a_finished_run_that_lost_its_result_has_it_again_and_trains_nothing(
    homes: tuple[Path, Path], home: Path, words: list[str]
) -> None:
    _, whole = homes
    run = copied(whole, home)
    written = run.weights(6).stat().st_mtime_ns
    cut("metrics.json")(run.path)
    for picture in sorted(run.samples().glob("*/*.png"))[::3]:
        picture.write_bytes(picture.read_bytes()[:50])
    cut(f"samples/{run.weights(2).parent.name}/index.json")(run.path)
    assert main(["train", *words]) == 0
    assert files.read_json(run.path / "metrics.json") == left(whole)["result"]
    assert run.adapter.read_bytes() == left(whole)["kept"] and run.weights(6).stat().st_mtime_ns == written
    kept = run.samples(run.result["step"])
    assert [path.read_bytes() for path in sorted(kept.glob("*.png"))] == [
        path.read_bytes() for path in sorted(run_in(whole).samples(run.result["step"]).glob("*.png"))
    ]


@pytest.mark.parametrize("needed", [False, True])
def test_weights_that_were_removed_are_missed_only_where_they_are_to_be_kept(
    homes: tuple[Path, Path], home: Path, words: list[str], needed: bool
) -> None:
    _, whole = homes
    run, kept = copied(whole, home), run_in(whole).result["step"]
    removed = next(step for step in (2, 4, 6) if (step == kept) == needed)
    shutil.rmtree(run.weights(removed).parent) if removed < 6 else run.weights(removed).unlink()
    for lost in (run.path / "metrics.json", run.adapter):
        lost.unlink()
    assert main(["train", *words]) == 0
    assert files.read_json(run.path / "metrics.json") == left(whole)["result"]
    assert run.adapter.read_bytes() == left(whole)["kept"]
    assert run.weights(removed).exists() == needed, "nothing else was trained again"


def test_pictures_of_the_base_that_were_cut_short_are_drawn_again(
    homes: tuple[Path, Path], home: Path, words: list[str]
) -> None:
    half, whole = homes
    shutil.copytree(half, home, dirs_exist_ok=True)
    for index in (home / "cache" / "base_samples").glob("*/index.json"):
        index.write_bytes(index.read_bytes()[:100])
    assert main(["train", *words]) == 0
    assert left(home) == left(whole)


def test_a_finished_run_whose_adapter_was_cut_short_has_it_again(
    homes: tuple[Path, Path], home: Path, words: list[str]
) -> None:
    _, whole = homes
    run = copied(whole, home)
    cut("adapter.safetensors")(run.path)
    assert main(["train", *words]) == 0
    assert left(home) == left(whole)
    assert run.record == run_in(whole).record, "its checkpoint has it: nothing was judged again"

    made_smaller = save({"lora": np.zeros(1, np.float16)})
    run.adapter.write_bytes(made_smaller)
    assert main(["train", *words]) == 0
    assert run.adapter.read_bytes() == made_smaller, "it is whole"


def test_what_was_asked_of_a_finished_run_is_written_again(
    homes: tuple[Path, Path], home: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _, whole = homes
    run = copied(whole, home)
    for name in ("plan.json", "recipe.yaml"):
        cut(name)(run.path)
        assert main(["export", run.name]) == 2
        assert name in capsys.readouterr().err
    assert main(["train", *words]) == 0 and main(["export", run.name]) == 0
    assert run.record is not None and run_in(whole).record == run.record, "nothing else was done"


def test_a_run_that_diverged_behind_a_rung_has_no_result(
    homes: tuple[Path, Path], home: Path, words: list[str]
) -> None:
    half, _ = homes
    run = copied(half, home)
    assert run.record is not None
    run.write_record(dataclasses.replace(run.record, status=Status.DIVERGED))
    ended, log = run.record, (run.path / "events.jsonl").read_bytes()
    assert main(["train", *words]) == 1
    assert run.record == ended and (run.path / "events.jsonl").read_bytes() == log
    assert not run.adapter.exists() and not (run.path / "metrics.json").exists()
