"""A cable that is pulled while a trial is trained at its other end, and plugged in again. Nothing is trained.

    pytest -m slow tests/unit/sweep/test_partition.py       as root; with sshd and Ray installed

The machine that is cut off trains on, as nobody can tell it otherwise, and comes back after its trial was given away.
"""

from __future__ import annotations

import dataclasses
import time
from contextlib import contextmanager

import psutil
import pytest
import ray_clusters
import ssh_machines
from pretend_sweep import STEPS, cook, numbered_arms, spec
from ray_clusters import needs_ray
from sweep_checks import assert_study_agrees
from wire import HERE, THERE, no_wire, wire

from lorasweep.core.files import read_json, read_jsonl
from lorasweep.core.records import Status
from lorasweep.sweep.remote.line import Line

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(no_wire()), reason=no_wire())]
SILENT_S = 6.0  # after which a line is given up
needs_sshd = pytest.mark.skipif(bool(ssh_machines.no_sshd()), reason=ssh_machines.no_sshd())


@contextmanager
def over_ssh(folder, monkeypatch, cable):
    monkeypatch.setitem(Line.call.__kwdefaults__, "timeout_s", SILENT_S)
    machines = ssh_machines.Machines(folder, monkeypatch)
    with ssh_machines.sshd(machines, cable):
        yield machines.home, machines.options(nodes=("gpu1", "far"))


@contextmanager
def by_ray(folder, monkeypatch, cable):
    health = {"period_ms": "1000", "timeout_ms": "2000", "failure_threshold": "4", "initial_delay_ms": "1000"}
    switches = {f"health_check_{name}": value for name, value in health.items()}
    cluster = ray_clusters.Cluster(folder, monkeypatch, at=(f"--node-ip-address={HERE}",), **switches)
    try:
        cluster.start("near", f"--node-ip-address={HERE}")
        cluster.start("far", f"--node-ip-address={THERE}", cable=cable)
        yield cluster.home, cluster.options()
    finally:
        cluster.close()


@pytest.mark.parametrize("cut_s", [3.0, None])
@pytest.mark.parametrize("reach", [pytest.param(over_ssh, marks=needs_sshd), pytest.param(by_ray, marks=needs_ray)])
def test_a_machine_that_was_cut_off_leaves_nothing_behind(reach, cut_s, tmp_path, monkeypatch):
    folder, pulled, plugged = tmp_path / "outputs" / "sweep", [], []
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with wire() as cable, reach(tmp_path / "machines", monkeypatch, cable) as (home, launcher):

        def look(state):
            if not pulled and all(trial.step > STEPS // 2 for trial in state.trials):
                cable.pull()
                pulled.append(time.monotonic())
            given_away = any(trial.status is Status.CANCELLED or trial.attempt > 1 for trial in state.trials)
            due = given_away if cut_s is None else time.monotonic() - pulled[0] > cut_s if pulled else False
            if due and not plugged:
                cable.plug()
                plugged.append(time.monotonic())

        declared = dataclasses.replace(spec(numbered_arms(2, step_s=4.0)), launcher=launcher)
        result = cook(declared, folder, on_change=look)
        print(f"cut off for {plugged[0] - pulled[0]:.1f} s, done {time.monotonic() - plugged[0]:.1f} s later")
        assert result.state.counts == {"COMPLETED": 2}
        assert sorted(trial.attempt for trial in result.state.trials) == [1, 1 if cut_s else 2]
        for run in sorted(folder.glob("0*")):
            assert read_json(run / "status.json")["crashes"] == 0
            events = read_jsonl(run / "events.jsonl")
            assert [event["step"] for event in events if event["kind"] == "step"] == list(range(1, STEPS + 1))
            assert (run / "adapter.safetensors").read_text() == "0"
            assert not list(run.glob(".*"))
        assert_study_agrees(folder)
        deadline = time.monotonic() + 120
        while left := [each for each in psutil.process_iter(["cmdline"]) if _belongs(each, home)]:
            assert time.monotonic() < deadline, left
            time.sleep(0.5)
        print(f"nobody left {time.monotonic() - plugged[0]:.1f} s after it was plugged in")
        assert not list((home / "scratch").iterdir())


def _belongs(process, home):
    return str(home) in " ".join(process.info["cmdline"] or ())
