"""The worked example of docs/plugins.md, installed: it is listed, planned, refused and swept like lorasweep's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ssh_machines
import worked_plugin
from ready_processes import run_module
from tiny_training import FEW_PICTURES

SMALL = ("train.max_steps=4", "train.rungs=1", "sample.steps=2", "sample.seeds=[0]", "dataset.dollhouse.images=6")
BOTH = ("optimizer=sign_sgd", "metrics=[generalisation,largest_change]")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugin") / "site"
    worked_plugin.install(folder)
    return folder


def lorasweep(site: Path, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process that has the folder's distributions installed."""
    return run(site, home, "lorasweep", *words)


def run(site: Path, home: Path, name: str, *words: str, trains: bool = False) -> subprocess.CompletedProcess[str]:
    """Run `python -m NAME` in such a process; it has imported torch already if it `trains`."""
    done = run_module(name, *words, environment={"LORASWEEP_HOME": str(home)}, path=[site], trains=trains)
    return subprocess.CompletedProcess(words, done.returncode, done.stdout.decode(), done.stderr.decode())


def as_json(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_doctor_lists_it_with_its_version(site: Path, home: Path) -> None:
    checks = as_json(lorasweep(site, home, "doctor", "--no-cook", "--json"))["checks"]
    (told,) = [check for check in checks if check["name"] == "plugins"]
    assert told["state"] == "ok"
    assert told["found"] == "lorasweep-signs 1.0: launcher=one_by_one, metrics=largest_change, optimizer=sign_sgd"


def test_it_is_planned_and_its_version_counts(site: Path, home: Path, tmp_path: Path) -> None:
    words = ("plan", *SMALL, *BOTH, "optimizer.lr=0.1", "--json")
    told = as_json(lorasweep(site, home, *words))
    assert any("every weight moves by the whole lr" in warning for warning in told["warnings"])
    worked_plugin.install(tmp_path / "newer", version="1.1")
    again = as_json(lorasweep(tmp_path / "newer", home, *words))
    assert again["fingerprint"] != told["fingerprint"]
    assert again["warnings"] == told["warnings"]


def test_a_machine_without_it_is_refused(site: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ssh_machines.reached(home / "machines", monkeypatch, stand_in=True) as machines:
        there = machines.words(nodes=("gpu1",))
        done = lorasweep(site, home, "train", *SMALL, "optimizer=sign_sgd", "optimizer.lr=0.1", *there)
    told = " ".join(done.stderr.split())
    assert done.returncode == 2, told
    assert "launcher.hosts=gpu1 lorasweep-signs is missing there and 1.0 (" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["optimizer=sign_sg"], ["did you mean `sign_sgd`?", "schedule_free_adamw, sign_sgd"]),
        (
            ["optimizer=sign_sgd", "optimizer.momentum=1", "optimizer.betas=[0.9,0.9]"],
            [
                "must be in [0, 1), got 1",
                "conf/optimizer/sign_sgd.yaml; 0.9 is usual",
                "unknown key for optimizer `sign_sgd`",
            ],
        ),
    ],
)
def test_what_is_wrong_is_said_as_of_ones_own(site: Path, home: Path, words: list[str], told: list[str]) -> None:
    done = lorasweep(site, home, "plan", *words)
    assert done.returncode == 2
    assert all(text in " ".join(done.stderr.split()) for text in told), done.stderr


def test_a_name_that_is_taken_is_refused(site: Path, home: Path, tmp_path: Path) -> None:
    groups = {
        "lorasweep.optimizers": {"adamw": "lorasweep_signs.sign_sgd"},
        "lorasweep.schedulers": {"gone": "no.such"},
    }
    worked_plugin.write_metadata(tmp_path, "other-signs", groups)
    done = lorasweep(tmp_path, home, "plan", "optimizer=adamw")
    assert done.returncode == 2 and "is added by lorasweep and by other-signs 3" in done.stderr
    done = lorasweep(tmp_path, home, "doctor", "--no-cook")
    told = " ".join(done.stdout.split())
    assert done.returncode == 1 and "is added by lorasweep and by other-signs 3" in told
    assert "the plugin other-signs 3 cannot be imported" in told and "scheduler=gone has no file" in told


def test_a_broken_one_is_told_beside_all_else_and_disturbs_nobody_else(home: Path, tmp_path: Path) -> None:
    module, choice = tmp_path / "broken" / "inner.py", tmp_path / "broken" / "conf" / "optimizer" / "broken.yaml"
    choice.parent.mkdir(parents=True)
    module.write_text("import no_such_library\n", encoding="utf-8")
    choice.write_text("name: broken\n", encoding="utf-8")
    groups = {group: {"broken": "broken.inner"} for group in ("optimizers", "launchers", "regularizers", "metrics")}
    worked_plugin.write_metadata(tmp_path, "broken-things", {f"lorasweep.{group}": groups[group] for group in groups})

    done = lorasweep(tmp_path, home, "plan", "optimizer=broken", "adapter.dim=0", "regularization=broken")
    told = " ".join(done.stderr.split())
    assert done.returncode == 2 and "3 problems" in told and "adapter.dim" in told
    assert "optimizer=broken the plugin broken-things 3 cannot be imported: ModuleNotFoundError: No module" in told
    assert "regularization=broken has no file among those of broken-things 3 (it would be conf/regularization/" in told

    done = lorasweep(tmp_path, home, "plan", "optimizer.lrr=1", "launcher.workers=1", "regularization=scale_norm")
    assert done.returncode == 2 and "1 problem" in done.stderr and "unknown key for optimizer" in done.stderr

    choice.write_text("name: [", encoding="utf-8")
    for words in (["plan", "optimizer=broken"], ["doctor", "--no-cook"]):
        done = lorasweep(tmp_path, home, *words)
        told = " ".join((done.stdout + done.stderr).split())
        assert done.returncode != 0 and "Traceback" not in told, told
        assert "broken/conf/optimizer/broken.yaml cannot be read: while parsing" in told


def test_it_is_found_where_it_is_written(home: Path, tmp_path: Path) -> None:
    """`pip install -e .`: a finder of its own leads to the sources."""
    worked_plugin.install(tmp_path / "site", editable=True)
    code = "import site, sys; site.addsitedir(sys.argv[1]); from lorasweep.cli import main; main(sys.argv[2:])"
    command = [sys.executable, "-c", code, str(tmp_path / "site"), "plan", *SMALL, *BOTH, "optimizer.lr=1", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "LORASWEEP_HOME": str(home)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert any("every weight moves by the whole lr" in warning for warning in as_json(done)["warnings"])


def test_it_passes_the_suites_that_it_gets_by_an_import(site: Path, home: Path) -> None:
    tests = site.with_name("site-sources") / "tests"
    misspelled = tests.parent / "test_misspelled.py"
    misspelled.write_text('from lorasweep.testing.schedulers import *\n\nCHOICES = ["cosin"]\n', encoding="utf-8")
    words = ("-q", "-p", "no:cacheprovider", "--continue-on-collection-errors", str(tests), str(misspelled))
    done = run(site, home, "pytest", *words, trains=True)
    assert done.returncode == 1 and "9 passed" in done.stdout and "1 error" in done.stdout, done.stdout
    assert "no conf/scheduler/cosin.yaml" in done.stdout


def test_a_sweep_with_it_reaches_mlflow(site: Path, home: Path, on_tiny_sd: list[str]) -> None:
    from mlflow import MlflowClient

    sweep = home / "signs.yaml"
    sweep.write_text(
        "sweep:\n"
        "  question: Does the sign do?\n"
        "  metric: {name: largest_change/value, goal: minimize, worst: 1}\n"
        "  arms: {signs: {optimizer: sign_sgd}, usual: {optimizer: adamw}}\n",
        encoding="utf-8",
    )
    words = [*SMALL, *FEW_PICTURES, *on_tiny_sd, BOTH[1]]
    done = lorasweep(site, home, "sweep", str(sweep), *words, "launcher=one_by_one")
    assert done.returncode == 0, done.stdout + done.stderr
    folders = sorted((home / "outputs" / "signs").glob("0*"))
    found = {folder.name.split("-")[1]: json.loads((folder / "metrics.json").read_text()) for folder in folders}
    assert found.keys() == {"signs", "usual"}
    told = lorasweep(site, home, "status", "signs", "--json")
    assert told.returncode == 0 and "largest_change/value" in told.stdout
    noted = json.loads((folders[0] / "provenance.json").read_text())
    assert noted["plugins"] == {"lorasweep-signs": "1.0"}
    client = MlflowClient(f"sqlite:///{home}/mlruns/mlflow.db")
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert "sign_sgd" in {value for run in runs for value in run.data.params.values()}
    assert "largest_change/value" in {name for run in runs for name in run.data.metrics}
