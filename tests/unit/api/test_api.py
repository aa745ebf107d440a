"""A notebook's way in: the names that `import lorasweep as ls` has, and folders that every command takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import lorasweep as ls
from lorasweep.cli import main
from lorasweep.core.errors import ConfigError, InputError
from lorasweep.core.records import Status

QUICK = (
    "train.max_steps=2 train.rungs=1 adapter.dim=2 metrics=[norms] tracking=none dataset.dollhouse.images=5 "
    "sample.steps=1 sample.seeds=[0] sample.weights=[0.7]"
).split()


def test_the_names_are_there_and_cost_nothing_until_they_are_used() -> None:
    code = (
        "import sys, lorasweep as ls\n"
        "assert {'compose', 'plan', 'run_trial', 'run_sweep', 'open_run', 'open_sweep'} <= set(dir(ls))\n"
        "assert not hasattr(ls, 'no_such_name')\n"
        "assert 'lorasweep.api' not in sys.modules\n"
        "ls.plan(ls.compose('train.max_steps=4'))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_run_from_python_is_a_run_to_every_command(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = ls.compose(*QUICK)
    heard: list[str] = []

    def hear(event: dict[str, Any]) -> None:
        heard.append(event["kind"])

    run = ls.run_trial(recipe, home / "outputs" / "mine" / "first", on_event=hear)

    assert (run.name, run.status) == ("mine/first", Status.COMPLETED)
    assert (heard[0], heard[-1]) == ("start", "end") and {"step", "rung"} <= set(heard)
    assert run.metrics["norms/relative"] > 0 and "overcook/score" in run.missing
    assert len(run.samples) > 0 and run.recipe.adapter.options["dim"] == 2
    assert run.export(tmp_path / "x.safetensors").stat().st_size > 1000
    (weak,), (strong,) = (run.draw(["zkw, beach"], weight=weight) for weight in (0.0, 1.0))
    assert weak.size == (64, 64) and weak.tobytes() != strong.tobytes()

    assert ls.open_run("mine/first").metrics == run.metrics
    for words in (["export", "mine/first"], ["status", "mine"], ["report", "mine"]):
        assert main(words) == 0, words
    assert main(["fork", "mine/first", "train.max_steps=3"]) == 0
    assert main(["train", *QUICK]) == 0
    assert "mine/first" in capsys.readouterr().out, "the same recipe is not trained twice"


def test_the_same_call_takes_what_is_there(home: Path) -> None:
    recipe = ls.compose(*QUICK)
    first, second = ls.run_trial(recipe, quiet=True), ls.run_trial(recipe, quiet=True)

    assert first.folder == second.folder
    assert first.ended is not None and first.ended.cooked
    assert second.ended is not None and not second.ended.cooked


def test_a_sweep_from_python_has_a_table(home: Path, tmp_path: Path) -> None:
    shared = ", ".join(word.replace("=", ": ") for word in QUICK if not word.startswith("adapter"))
    (tmp_path / "dims.yaml").write_text(
        "sweep:\n  question: which?\n  metric: {name: norms/relative, goal: minimize}\n"
        f"  recipe: {{{shared}, launcher.workers: 1}}\n"
        "  arms: {8: {adapter.dim: 8}, 2: {adapter.dim: 2}}\n"
    )
    sweep = ls.run_sweep(str(tmp_path / "dims.yaml"))

    table = sweep.leaderboard
    assert sorted(table["arm"]) == ["2", "8"] and list(table["rank"]) == [1, 2]
    assert table["value"].is_monotonic_increasing and (table["value"] == table["norms/relative"]).all()
    assert sweep.best.metrics["norms/relative"] == table["value"][0]
    assert [run.status for run in ls.open_sweep("dims").trials] == [Status.COMPLETED] * 2


def test_what_is_wrong_is_told_before_any_work(home: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        ls.compose("adapter.dim=0", "optimizer.lr=-1")
    assert {problem.where for problem in refused.value.problems} == {"adapter.dim", "optimizer.lr"}
    for open_what in (ls.open_run, ls.open_sweep):
        with pytest.raises(InputError, match="no such"):
            open_what("nothing/of/this/name")
    assert not (home / "outputs").exists()
