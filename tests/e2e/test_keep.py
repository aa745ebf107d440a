"""The checkpoint that a trial keeps, on a tiny random base: chosen, drawn and judged in full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_training import FEW_PICTURES, THREE_RUNGS

from lorasweep import config, plan
from lorasweep.core import files
from lorasweep.core.records import Outcome, Status
from lorasweep.trial.resources import TrialResources
from lorasweep.trial.run import cook as run_cook

pytestmark = pytest.mark.usefixtures("quick_trials")
TINY = [*THREE_RUNGS, *FEW_PICTURES]


class Hit(BaseException):
    """What ends a process at a bad moment."""


def cook(folder: Path, words: list[str], *, hit: str = "", prune_at: int | None = None) -> Outcome:
    """Cook; with `hit`, end at the first event of that kind after the last rung; with `prune_at`, prune."""
    recipe = config.compose_recipe(words)
    planned = plan.make_plan(recipe)

    def report(event: dict[str, Any]) -> bool:
        rungs = [row["step"] for row in files.read_jsonl(folder / "events.jsonl") if row["kind"] == "rung"]
        if event["kind"] == hit and planned.steps in rungs:
            raise Hit(hit)
        return not (event["kind"] == "rung" and event["step"] == prune_at)

    return run_cook(recipe, planned, folder, TrialResources(), report=report, should_stop=lambda: False)


def calibration(home: Path, *, learned: float, limit: float = 1e6) -> str:
    """Limits by which everything is learned (at 1e-9) or nothing (at 0.999), and nothing is burned (at 1e6)."""
    limits = {
        "gap": {"limit": limit, "width": limit / 10},
        "unrelated_drift": {"limit": limit, "width": limit / 10},
    }
    path = home / f"{learned}-{limit}.json"
    files.write_json(path, {"name": "test", "holds_for": {}, "limits": limits, "learned": learned})
    return f"calibration={path}"


@pytest.fixture
def words(home: Path, on_tiny_sd: list[str]) -> list[str]:
    return [*TINY, *on_tiny_sd]


def test_the_kept_checkpoint_survives_whatever_hits_it_at_the_end(home: Path, words: list[str]) -> None:
    kind = ["adapter=loha", "optimizer=schedule_free_adamw", "optimizer.lr=1e-3"]  # used by another state than trained
    words = [*words, *kind, calibration(home, learned=1e-9)]
    outcome = cook(home / "a", words)
    result = files.read_json(home / "a" / "metrics.json")
    step, verdict = result["step"], result["verdict"]
    assert (step, verdict["kept_because"]) == (verdict["done_at"], "done")
    assert outcome.status is Status.COMPLETED and outcome.step == 6 and outcome.metrics == result["metrics"]
    assert outcome.metrics["overcook/kept_step"] == outcome.metrics["overcook/done_at_step"] == step
    assert "overcook/score_se" in outcome.metrics and [r["step"] for r in result["rungs"]] == [2, 4, 6]
    checkpoints = home / "a" / "checkpoints"
    saved = [(checkpoints / f"step_00000{n}" / "adapter.safetensors").read_bytes() for n in (2, 4, 6)]
    assert len(set(saved)) == 3, "every rung's adapter stays"
    assert (home / "a" / "adapter.safetensors").read_bytes() == saved[step // 2 - 1]
    assert [each["weight"] for each in result["ladder"]] == [0.4, 0.7]
    assert result["ladder"][1]["metrics"].items() <= result["metrics"].items()
    images = files.read_json(home / "a" / "samples" / "index.json")["images"]
    assert {(image["weight"], image["seed"]) for image in images} == {(0.4, 0), (0.7, 0), (0.7, 1)}
    for image in images:
        assert f"step_00000{step}/" in image["file"] and (home / "a" / "samples" / image["file"]).exists()

    with pytest.raises(Hit):
        cook(home / "b", words, hit="samples")  # while the kept checkpoint is looked at in full
    with pytest.raises(Hit):
        cook(home / "b", words, hit="end")  # just before anything of it is written
    assert not (home / "b" / "metrics.json").exists()
    cook(home / "b", words)
    assert files.read_json(home / "b" / "metrics.json") == result
    cook(home / "b", words)
    assert files.read_json(home / "b" / "metrics.json") == result, "and the same once more"
    ours, theirs = ((home / name / "adapter.safetensors").read_bytes() for name in "ab")
    assert ours == theirs


def test_the_last_checkpoint_is_kept_when_the_recipe_says_so_and_else_the_nearest_to_done(
    home: Path, words: list[str]
) -> None:
    cook(home / "last", [*words, calibration(home, learned=1e-9), "train.keep=last"])
    last = files.read_json(home / "last" / "metrics.json")
    done_at = last["verdict"]["done_at"]
    assert last["step"] == 6 and last["verdict"]["kept_because"] == ("done" if done_at == 6 else "last")
    assert last["rungs"][-1]["metrics"]["overcook/score"] == last["metrics"]["overcook/score_last"]
    cook(home / "never", [*words, calibration(home, learned=0.999)])
    never = files.read_json(home / "never" / "metrics.json")
    losses = {rung["step"]: rung["metrics"]["generalisation/held_out"] for rung in never["rungs"]}
    assert never["step"] == never["verdict"]["best_at"] == min(losses, key=losses.__getitem__)
    assert never["verdict"]["state"] == "undercooked"
    assert never["missing"]["overcook/done_at_step"] == "no checkpoint is both learned and safe"
    assert "overcook/done_at_step" not in never["metrics"]
    saved = [home / name / "checkpoints/step_000006/adapter.safetensors" for name in ("last", "never")]
    assert saved[0].read_bytes() == saved[1].read_bytes(), "judging by other limits changes no weight"


def test_a_pruned_trial_keeps_the_best_it_had(home: Path, words: list[str]) -> None:
    outcome = cook(home / "a", [*words, calibration(home, learned=1e-9)], prune_at=4)
    result = files.read_json(home / "a" / "metrics.json")
    assert outcome.status is Status.PRUNED and outcome.step == 4 and result["step"] in (2, 4)
    assert result["ladder"] == [] and "pruned" in result["missing"]["overcook/best_weight"]
    kept = home / "a" / "checkpoints" / f"step_00000{result['step']}" / "adapter.safetensors"
    assert (home / "a" / "adapter.safetensors").read_bytes() == kept.read_bytes()
    assert (home / "a" / "samples" / "index.json").exists()


def test_a_recipe_that_burns_is_warned_about_once(home: Path, words: list[str]) -> None:
    hot = [*words, calibration(home, learned=1e-9, limit=1e-7), "optimizer.lr=1e-2"]
    cook(home / "a", hot)
    rungs = [row for row in files.read_jsonl(home / "a" / "events.jsonl") if row["kind"] == "rung"]
    warnings = [row["warning"] for row in rungs if row["warning"]]
    assert len(warnings) == 1 and warnings[0].startswith("burned from step 2 (")
    verdict = files.read_json(home / "a" / "metrics.json")["verdict"]
    assert verdict["state"] == "overcooked" and verdict["sentence"].startswith("Never done: from step 2 on ")


def test_a_trial_told_to_stop_when_its_process_died_stops_when_it_is_back(home: Path, words: list[str]) -> None:
    recipe = config.compose_recipe(words)
    planned, folder, heard = plan.make_plan(recipe), home / "a", []

    def dies(event: dict[str, Any]) -> bool:
        if event["kind"] == "rung":
            raise Hit("the answer never comes")
        return True

    def stops(event: dict[str, Any]) -> bool:
        heard.append((event["kind"], event["step"]))
        return event["kind"] != "rung"

    with pytest.raises(Hit):
        run_cook(recipe, planned, folder, TrialResources(), report=dies, should_stop=lambda: False)
    outcome = run_cook(recipe, planned, folder, TrialResources(), report=stops, should_stop=lambda: False)
    assert (outcome.status, outcome.step) == (Status.PRUNED, planned.rungs[0])
    assert [kind for kind, _ in heard if kind in ("rung", "step")] == ["rung"], "asked once, not a step more"
    logged = [row["step"] for row in files.read_jsonl(folder / "events.jsonl") if row["kind"] == "rung"]
    assert logged == [planned.rungs[0]], "and it is logged once"
