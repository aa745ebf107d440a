"""`launcher=ray`: refusals before anything begins, and faults of actors, nodes, heads and calls. Nothing is trained.

Those that start Ray are slow: `make test-cluster`. They share one cluster, which is worn down from test to test.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import ray_clusters
import sweep_checks
from pretend_sweep import STEPS, cook, numbered_arms, spec
from ray_clusters import needs_ray, words
from sweep_checks import FAST_S, assert_study_agrees

from lorasweep.cli import main
from lorasweep.core.files import read_json, read_jsonl
from lorasweep.core.records import Status, TrainOptions, to_dict
from lorasweep.sweep.launchers import _ray_bridge
from lorasweep.sweep.ranking.state import read_state


def refused(*asked):
    """As `sweep_checks.refused`, in one line."""
    said, took_s = sweep_checks.refused(*asked)
    return " ".join(said.split()), took_s


# ---------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("address", ["ray://10.0.0.1:10001", "10.0.0.1", "a b:1", "auto", "-x:1"])
def test_an_address_is_local_or_a_heads(home, capsys, address):
    said, _ = refused(home, capsys, "launcher=ray", f"launcher.address='{address}'")
    assert "must be local, or HOST:PORT" in said and "workers outlive a driver" in said


def test_ray_that_is_not_installed_is_told_with_the_next_step(home, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    said, took_s = refused(home, capsys, "launcher=ray")
    assert "needs ray, which is not installed" in said and "pip install 'lorasweep[cluster]'" in said
    assert took_s < FAST_S


@needs_ray
def test_a_cluster_off_loopback_wants_a_token(home, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    said, took_s = refused(home, capsys, "launcher=ray", "launcher.address=10.0.0.1:6379")
    assert "this machine has no token for the cluster" in said and "launcher.insecure=true" in said
    assert took_s < FAST_S


@needs_ray
@pytest.mark.parametrize(("answers", "told"), [(False, "Connection refused"), (True, "does not answer as Ray does")])
def test_an_address_where_no_head_is_is_refused_soon(home, capsys, answers, told):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        if not answers:
            server.close()
        said, took_s = refused(home, capsys, "launcher=ray", f"launcher.address={address}")
    assert told in said
    assert took_s < FAST_S


def test_plan_says_where_and_asks_nobody(home, capsys):
    overrides = ["launcher=ray", "launcher.address=10.0.0.1:6379", "launcher.gpus=0.5", "launcher.gpu_type=A100"]
    assert main(["plan", "--json", *overrides]) == 0
    where = json.loads(capsys.readouterr().out)["where"]
    assert where.startswith("a worker for each 0.5 of one A100") and "the Ray cluster at 10.0.0.1:6379" in where


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("RPC error: InvalidAuthToken: Authentication token is missing", "another one than that of this machine"),
        ("Version mismatch: The cluster was started with: Ray: 2.1", "its Ray or Python is another one"),
        ("Can't find a node with IP", "this machine is no node of the cluster"),
        ("Failed to connect to Ray cluster at a:1", "it cannot be reached: Failed to connect"),
    ],
)
def test_what_ray_says_is_told_in_one_sentence(said, told):
    assert told in _ray_bridge._refusal("a:1", said)["problem"]


# ------------------------------------------------------------------------------------------------ faults


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        folder = tmp_path_factory.mktemp("cluster")
        with ray_clusters.cluster(folder, patch, nodes=1, gcs_rpc_server_reconnect_timeout_s="5") as cluster:
            yield cluster


def on(cluster, arms, **options):
    return dataclasses.replace(spec(arms), launcher=cluster.options(**options))


def actors(cluster):
    return [each for node in cluster.names for each in cluster.processes(node) if _named(each, "ray::Actor")]


def hosts(cluster):
    """Hosts and their workers, wherever."""
    there = []
    for process in psutil.process_iter(["cmdline"]):
        if str(cluster.home) in " ".join(process.info["cmdline"] or ()):
            there.append(process)
    return there


def _named(process, name):
    with suppress(psutil.Error):
        return name in " ".join(process.cmdline())
    return False


def gone(find, cluster, within_s):
    """Seconds until there is none left."""
    began = time.monotonic()
    while find(cluster):
        assert time.monotonic() - began < within_s, find(cluster)
        time.sleep(0.05)
    return time.monotonic() - began


def once(condition, strike):
    """A hook that strikes once."""
    struck = []

    def look(state):
        if not struck and condition(state):
            struck.append(time.monotonic())
            strike()

    look.struck = struck
    return look


def all_past_a_rung(state):
    return all(trial.step > STEPS // 2 for trial in state.trials)


def starts(folder):
    return [event["step"] for event in read_jsonl(folder / "events.jsonl") if event["kind"] == "start"]


def cluster_tests(test):
    return pytest.mark.slow(needs_ray(test))


@cluster_tests
def test_a_wrong_token_is_refused_soon(shared, home, capsys, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another token, which is as long as one of Ray's own")
    said, took_s = refused(home, capsys, *words(shared.options()))
    assert "the token of the cluster is another one" in said and "~/.ray/auth_token" in said
    assert took_s < FAST_S
    monkeypatch.setenv("RAY_AUTH_TOKEN", ray_clusters.TOKEN)
    said, _ = refused(home, capsys, *words(shared.options(workers=None)), "launcher.threads=99")
    assert "no node has 99 CPU cores" in said, "and the right one is taken afterwards"


@cluster_tests
def test_a_cluster_that_obeys_everybody_is_refused_over_loopback_too(home, capsys, tmp_path, monkeypatch):
    theirs = ray_clusters.Cluster(tmp_path, monkeypatch, auth="disabled")
    try:
        host, _, port = theirs.address.rpartition(":")
        if host.startswith("127."):
            pytest.skip("this machine is in no network, so that nobody else reaches a head on it")
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.delenv("RAY_AUTH_TOKEN")
        over_loopback = f"127.0.0.1:{port}"
        said, _ = refused(home, capsys, *words(theirs.options(address=over_loopback)))
        assert "whoever reaches it owns all of its nodes" in said and "launcher.insecure=true" in said
        assert main(["doctor", *words(theirs.options(address=over_loopback, insecure=True))]) == 0
    finally:
        theirs.close()


@cluster_tests
def test_a_ray_of_ones_own_is_reached_from_this_machine_alone_and_by_its_token(tmp_path, monkeypatch):
    """Asked of the head: workers write their names over what they were started with."""
    listening, modes = set(), set()

    def look(state):
        for bridge in [each for each in psutil.Process().children() if _named(each, "_ray_bridge")]:
            for each in bridge.children(recursive=True):
                with suppress(psutil.Error):
                    ports = each.net_connections("inet")
                    listening.update(port.laddr.ip for port in ports if port.status == psutil.CONN_LISTEN)
                    if each.name() == "gcs_server":
                        modes.add(each.environ()["RAY_AUTH_MODE"])

    monkeypatch.setenv("PYTHONPATH", str(ray_clusters.KITCHEN))
    declared = dataclasses.replace(spec({"a": {}}), launcher=ray_clusters.options(tmp_path / "there", insecure=True))
    assert cook(declared, tmp_path / "outputs" / "sweep", on_change=look).exit_code == 0
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"} and modes == {"token"}


@cluster_tests
def test_doctor_asks_the_cluster_and_its_nodes(shared, home, capsys):
    assert main(["doctor", "--json", *words(shared.options())]) == 0
    cluster, *nodes = json.loads(capsys.readouterr().out)["checks"]
    assert "token authentication; nodes: 2" in cluster["found"]
    assert len({node["name"] for node in nodes}) == 2 and all("answers in" in node["found"] for node in nodes)


@cluster_tests
def test_a_node_with_other_software_is_refused_by_name(shared, home, capsys, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "from importlib import metadata\nversion = metadata.version\n"
        "metadata.version = lambda name: '0.0.1' if name == 'peft' else version(name)\n"
    )
    shared.start("other", PYTHONPATH=f"{tmp_path}{os.pathsep}{ray_clusters.KITCHEN}")
    try:
        said, _ = refused(home, capsys, *words(shared.options()))
        assert "peft is 0.0.1 there and" in said and "install the same versions" in said
    finally:
        shared.kill("other")


@cluster_tests
def test_an_actor_that_is_killed_costs_no_crash(shared, tmp_path):
    folder = tmp_path / "outputs" / "sweep"
    strike = once(all_past_a_rung, lambda: [each.kill() for each in actors(shared)])
    result = cook(on(shared, {"a": {"step_s": 1.5}}, workers=1), folder, on_change=strike)
    assert strike.struck
    (trial,) = result.state.trials
    assert (trial.status, trial.attempt) == (Status.COMPLETED, 2)
    assert read_json(folder / "0000-a-s0" / "status.json")["crashes"] == 0
    assert starts(folder / "0000-a-s0") == [0, STEPS // 2], "from the last checkpoint that had come home"
    assert_study_agrees(folder)


@cluster_tests
def test_calls_that_are_lost_lose_nothing(shared, tmp_path, monkeypatch):
    failures = {"num_failures": -1, "req_failure_prob": 10, "resp_failure_prob": 10}
    monkeypatch.setenv("RAY_testing_rpc_failure", json.dumps({"CoreWorkerService.grpc_client.PushTask": failures}))
    folder = tmp_path / "outputs" / "sweep"
    result = cook(on(shared, numbered_arms(6), workers=1), folder)
    assert result.state.counts == {"COMPLETED": 6}
    kinds = ["start", *["step"] * (STEPS // 2), "rung", *["step"] * (STEPS // 2), "rung", "end"]
    for run in folder.glob("0*"):
        assert [event["kind"] for event in read_jsonl(run / "events.jsonl")] == kinds, "every event once"
    assert_study_agrees(folder)


@cluster_tests
@pytest.mark.parametrize("phase", ["loop:SweepLoop._give:after:2", "remote.shipping:Pull._fetch:after:9"])
def test_a_driver_that_is_killed_leaves_nobody_behind_and_goes_on(shared, tmp_path, phase):
    folder = tmp_path / "outputs" / "sweep"
    script = Path(__file__).parent / "drive_pretend.py"
    environment = {**os.environ, "PRETEND_LAUNCHER": json.dumps(to_dict(shared.options(workers=1)))}

    def drive(*death):
        command = [sys.executable, str(script), str(folder), "3", "0.01", *death]
        return subprocess.run(command, env=environment, timeout=300, check=False, start_new_session=True).returncode

    assert drive(f"lorasweep.sweep.{phase}") == -signal.SIGKILL
    print(f"hosts gone after {gone(hosts, shared, 60):.1f} s")
    assert drive() == 0
    assert read_state(folder).counts == {"COMPLETED": 3}
    assert_study_agrees(folder)


@cluster_tests
def test_workers_without_room_wait_and_ask_for_nothing_afterwards(shared, tmp_path):
    folder = tmp_path / "outputs" / "sweep"
    notes = set()
    result = cook(
        on(shared, numbered_arms(3), workers=3), folder, on_change=lambda state: notes.add(state.activity or "")
    )
    assert result.state.counts == {"COMPLETED": 3}
    assert any("waiting for room on the cluster for 2 of 3 workers" in note for note in notes), notes
    program = (
        "import ray, sys; from ray._private.state import actors; ray.init(sys.argv[1], log_to_driver=False);"
        "print(sorted({each['State'] for each in actors().values()}))"
    )
    command = [sys.executable, "-c", program, shared.address]
    environment = {**os.environ, "RAY_AUTH_MODE": "token"}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout.splitlines()[-1] == "['DEAD']", "no actor asks for a node"


def with_gpus(cluster, name, gpus, model):
    """Start a node that pretends to have GPUs."""
    tools = cluster.home.parent / name
    tools.mkdir()
    listing = "".join(f"GPU {gpu}: NVIDIA {model} (UUID: GPU-{name}-{gpu})\\n" for gpu in range(gpus))
    (tools / "nvidia-smi").write_text(f"#!/bin/sh\nprintf '{listing}'\n")
    (tools / "nvidia-smi").chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    cluster.start(name, f"--labels=ray.io/accelerator-type={model}", cpus=4, gpus=gpus, PATH=path)


def on_gpus(cluster, count, **options):
    """A sweep whose trials want GPUs, and take so long that there is one on each."""
    declared = on(cluster, numbered_arms(count, step_s=3.0), workers=None, **options)
    train = TrainOptions(max_steps=STEPS, device="auto")
    arms = (dataclasses.replace(arm, recipe=dataclasses.replace(arm.recipe, train=train)) for arm in declared.arms)
    return dataclasses.replace(declared, arms=tuple(arms))


def where(folder):
    """Node, GPU model and CUDA_VISIBLE_DEVICES of each trial's worker."""
    states = read_state(folder).trials
    return sorted(
        (each.node, each.device, read_json(Path(each.run_folder) / "worker.json")["CUDA_VISIBLE_DEVICES"])
        for each in states
    )


@cluster_tests
def test_gpus_are_shared_out_by_share_and_by_model(shared, home, capsys, tmp_path):
    with_gpus(shared, "big", 2, "A100")
    with_gpus(shared, "small", 1, "L4")
    try:
        halves = tmp_path / "gpus" / "halves"
        assert cook(on_gpus(shared, 4, gpus=0.5, gpu_type="A100"), halves).state.counts == {"COMPLETED": 4}
        found = where(halves)
        assert [(device, gpu) for _, device, gpu in found] == [("NVIDIA A100", gpu) for gpu in "0011"]
        assert len({node for node, _, _ in found}) == 1

        mixed, notes = tmp_path / "gpus" / "mixed", set()
        result = cook(on_gpus(shared, 3), mixed, on_change=lambda state: notes.update(state.notes))
        assert result.state.counts == {"COMPLETED": 3}
        assert [(device, gpu) for _, device, gpu in sorted(where(mixed), key=lambda each: each[1:])] == [
            ("NVIDIA A100", "0"),
            ("NVIDIA A100", "1"),
            ("NVIDIA L4", "0"),
        ]
        assert any("trained on NVIDIA A100 and NVIDIA L4: weights differ" in note for note in notes)
        assert main(["report", str(mixed)]) == 0
        assert "trained on NVIDIA A100 and NVIDIA L4" in (mixed / "report.md").read_text()
        capsys.readouterr()
        said, _ = refused(home, capsys, *words(shared.options(workers=None, gpu_type="H100")))
        assert "no node has a GPU of type H100" in said
    finally:
        shared.kill("big")
        shared.kill("small")


@cluster_tests
def test_a_node_that_is_killed_costs_no_crash(shared, tmp_path):
    shared.start("node2")
    folder = tmp_path / "outputs" / "sweep"
    strike = once(all_past_a_rung, lambda: shared.kill("node2"))
    result = cook(on(shared, numbered_arms(2, step_s=2.0)), folder, on_change=strike)
    assert strike.struck
    assert result.state.counts == {"COMPLETED": 2}
    assert sorted(trial.attempt for trial in result.state.trials) == [1, 2]
    assert {read_json(run / "status.json")["crashes"] for run in folder.glob("0*")} == {0}
    print(f"all done {time.monotonic() - strike.struck[0]:.0f} s after the node was killed")
    assert_study_agrees(folder)


@cluster_tests
def test_a_node_that_is_taken_away_has_its_trial_saved_first(shared, tmp_path):
    shared.start("node3")
    folder = tmp_path / "outputs" / "sweep"
    strike = once(lambda state: all(trial.step >= 1 for trial in state.trials), lambda: shared.terminate("node3"))
    result = cook(on(shared, numbered_arms(2, step_s=2.0)), folder, on_change=strike)
    assert result.state.counts == {"COMPLETED": 2}
    (moved,) = [trial for trial in result.state.trials if trial.attempt == 2]
    run = folder / f"{moved.number:04d}-{moved.arm}-s0"
    assert read_json(run / "status.json")["crashes"] == 0
    again = starts(run)[1]
    steps = [event["step"] for event in read_jsonl(run / "events.jsonl") if event["kind"] == "step"]
    assert again > 0 and len(steps) == len(set(steps)) == STEPS, "it went on from the step at which it was told"
    assert_study_agrees(folder)


@cluster_tests
def test_a_node_without_memory_is_refused_by_name(shared, home, capsys):
    shared.kill("node1")
    shared.start("tight", memory_usage_threshold="0.01", memory_monitor_refresh_ms="100")
    try:
        said, _ = refused(home, capsys, *words(shared.options()))
        assert "Ray killed it for want of memory" in said
    finally:
        shared.kill("tight")


@cluster_tests
def test_a_head_that_is_gone_ends_the_sweep_in_one_sentence(shared, tmp_path, monkeypatch):
    shared.start("last")
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "5")
    folder = tmp_path / "outputs" / "sweep"
    strike = once(all_past_a_rung, lambda: shared.kill_process("head", "gcs_server"))
    arms = {"a": {"step_s": 5.0}}
    result = cook(on(shared, arms, workers=1), folder, on_change=strike)
    assert result.exit_code == 1
    assert "the Ray cluster at" in result.halted and "is gone" in result.halted
    assert [trial.status for trial in result.state.trials] == [Status.CANCELLED]
    print(f"told {time.monotonic() - strike.struck[0]:.0f} s after the head was killed")
    assert cook(spec(arms), folder).exit_code == 0, "it goes on here"
    assert starts(folder / "0000-a-s0") == [0, STEPS // 2]
    assert_study_agrees(folder)
