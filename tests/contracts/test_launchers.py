"""What every launcher promises: the same sweep leaves the same run folders and the same study, wherever it ran."""

from __future__ import annotations

import dataclasses
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray_clusters
import ssh_machines

from lorasweep.core.files import read_json, read_jsonl
from lorasweep.core.records import LauncherOptions, Status
from lorasweep.testing.launchers import *  # noqa: F403

sys.path.insert(0, str(ssh_machines.KITCHEN))
from pretend_sweep import TRIAL_MODULE, cook, spec  # noqa: E402
from sweep_checks import assert_study_agrees, last_attempts  # noqa: E402

LAUNCHERS = (
    "local",
    "ssh",
    pytest.param("ray", marks=[ray_clusters.needs_ray, pytest.mark.slow]),
    pytest.param("ray on two nodes", marks=[ray_clusters.needs_ray, pytest.mark.slow]),
)
TRIALS = 20
SURROUNDINGS = {"status.json", "worker.json"}  # of times, processes and places


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Fill `launcher` with every launcher."""
    if "launcher" in metafunc.fixturenames:
        metafunc.parametrize("launcher", LAUNCHERS, indirect=True)


@pytest.fixture
def launcher(
    request: pytest.FixtureRequest, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LauncherOptions]:
    if request.param == "local":
        yield LauncherOptions(workers=2, options={"pack": 1})  # as others have it
    elif request.param == "ray":
        with ray_clusters.own(tmp_path, monkeypatch) as options:
            yield options
    elif request.param == "ray on two nodes":
        with ray_clusters.cluster(tmp_path, monkeypatch) as cluster:
            yield cluster.options()
    else:
        with ssh_machines.reached(tmp_path, monkeypatch) as machines:
            yield machines.options()


@pytest.fixture
def trial_module() -> str:
    return TRIAL_MODULE


def twenty(launcher: LauncherOptions) -> Any:
    arms: dict[str, dict[str, Any]] = {f"arm{index}": {"value": 0.02 * index} for index in range(TRIALS - 4)}
    arms |= {"dies": {"tag": 1, "die_once": True}, "nan": {"ends": "DIVERGED"}, "invalid": {"ends": "invalid"}}
    arms["twin"] = arms["arm3"]
    return dataclasses.replace(spec(arms), launcher=launcher)


def left(folder: Path) -> dict[str, Any]:
    """Everything that a sweep left, but for times, processes and places."""
    found: dict[str, Any] = {}
    for run in sorted(folder.glob("0*")):
        names = sorted(str(file.relative_to(run)) for file in run.rglob("*") if file.is_file())
        status = read_json(run / "status.json")
        events = [
            {key: value for key, value in event.items() if key != "time"} for event in read_jsonl(run / "events.jsonl")
        ]
        same = {
            name: (run / name).read_bytes()
            for name in names
            if name.rpartition("/")[2] not in {*SURROUNDINGS, "events.jsonl", "error.txt"}
        }
        kept = {key: status[key] for key in ("arm", "seed", "status", "step", "attempt", "crashes", "value", "reason")}
        found[run.name] = (names, events, same, kept)
    return found


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the twenty trials, trained by workers of this machine."""
    folder = tmp_path_factory.mktemp("here") / "sweep"
    cook(twenty(LauncherOptions(workers=2, options={"pack": 1})), folder)
    return folder


def test_twenty_trials_leave_what_they_leave_anywhere(launcher: LauncherOptions, here: Path, home: Path) -> None:
    folder = here if launcher.name == "local" else home / "outputs" / "sweep"
    result = cook(twenty(launcher), folder)
    assert result.state.counts == {"COMPLETED": TRIALS - 2, "DIVERGED": 1, "INVALID": 1}
    assert left(folder) == left(here)
    assert (folder / "base_samples" / "index.json").exists()
    assert_study_agrees(folder)
    assert len(last_attempts(folder)) == TRIALS
    states = result.state.trials
    where = {trial.node.partition("-")[0] for trial in states if not trial.reused_from}
    assert where <= {"", *ssh_machines.NODES, socket.gethostname()}
    assert not list(folder.rglob(".*")), "nothing half brought home"
    assert not list(home.rglob("scratch/*")), "nothing left on their machines"


def test_a_trial_that_was_stopped_goes_on_from_what_came_home(launcher: LauncherOptions, home: Path) -> None:
    from lorasweep.sweep.workers.stop import StopSignal

    folder, stop = home / "outputs" / "sweep", StopSignal()
    declared = dataclasses.replace(spec({"a": {"step_s": 0.2}}), launcher=launcher)

    def at_a_rung(state: Any) -> None:
        if any(trial.metrics for trial in state.trials):
            stop.request()

    first = cook(declared, folder, stop=stop, on_change=at_a_rung)
    assert first.interrupted
    assert [trial.status for trial in first.state.trials] == [Status.CANCELLED]
    began_again = read_json(folder / "0000-a-s0" / "checkpoints" / "step.json")["step"]
    assert began_again >= 4
    assert cook(declared, folder).exit_code == 0
    starts = [event["step"] for event in read_jsonl(folder / "0000-a-s0" / "events.jsonl") if event["kind"] == "start"]
    assert starts == [0, began_again]
