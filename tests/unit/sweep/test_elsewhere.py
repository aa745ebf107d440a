"""Workers on other machines: refusals before anything begins, faults of machines and of lines. Nothing is trained.

All of them: `pytest -m "slow or not slow" tests/unit/sweep/test_elsewhere.py`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import psutil
import pytest
from pretend_sweep import STEPS, TRIAL_MODULE, cook, numbered_arms, plan, recipe, spec
from ssh_machines import no_sshd, reached
from sweep_checks import FAST_S, assert_study_agrees, by_arm, refused

from lorasweep.cli import main
from lorasweep.components import bases
from lorasweep.config import compose_recipe
from lorasweep.core.files import read_json, read_jsonl
from lorasweep.core.records import Plan, Status, from_dict, to_dict
from lorasweep.core.run_folder import OUTCOME_FILE, RunFolder
from lorasweep.data.images import load_mask, load_planned
from lorasweep.plan import calibration, make_plan
from lorasweep.sweep.launchers import LaunchOptions
from lorasweep.sweep.launchers.ssh import command
from lorasweep.sweep.ranking.state import read_state
from lorasweep.sweep.remote import handshake, member, shipping
from lorasweep.sweep.remote.line import MARK, PROTOCOL, HostError, Line, LineLost
from lorasweep.sweep.remote.shipping import Pull, checked
from lorasweep.sweep.single import run_trial


@pytest.fixture
def machines(home, tmp_path, monkeypatch):
    with reached(tmp_path / "machines", monkeypatch, stand_in=True) as found:
        yield found


def elsewhere(machines, arms, **options):
    return dataclasses.replace(spec(arms), launcher=machines.options(**options))


def hosts_of(machines):
    """The processes on the machines: hosts and their workers."""
    there = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or ())
        if str(machines.home) in words:
            there.append(process)
    return there


# ---------------------------------------------------------------------------------------------- refusals


def other_software(**other):
    """A host whose software is another one."""
    hello = {"software": {**handshake.software(), **other}, "gpus": {}, "cores": 1, "free_bytes": 0, "home": "/"}
    text = json.dumps([0, hello, None])
    frame = MARK + b"%d\n" % PROTOCOL + struct.pack(">II", len(text), 0) + text.encode()
    octal = "".join(f"\\{byte:03o}" for byte in frame)
    return f"printf '{octal}'; exec cat > /dev/null\n"


SAID = {
    "unknown host key": (
        "echo 'No ED25519 host key is known for gpu1 and you have requested strict checking.' >&2\n"
        "echo 'Host key verification failed.' >&2; exit 255\n",
        ["its host key is not known here", "ssh gpu1"],
    ),
    "no key of ours": (
        "echo 'me@gpu1: Permission denied (publickey).' >&2; exit 255\n",
        ["nobody in without a password", "ssh-copy-id gpu1"],
    ),
    "not there": (
        "echo 'ssh: connect to host gpu1 port 22: Connection refused' >&2; exit 255\n",
        ["Connection refused"],
    ),
    "no python": ("echo 'bash: line 1: exec: python9: not found' >&2; exit 127\n", ["launcher.python=PATH"]),
    "no lorasweep": (
        "echo \"/usr/bin/python3: Error while finding module: No module named 'lorasweep'\" >&2; exit 1\n",
        ["lorasweep is not installed", "launcher.python=ITS/PYTHON"],
    ),
    "words in braces": (
        "echo 'profile: {host} {0}: no such file' >&2; exit 127\n",
        ["(profile: {host} {0}: no such file)", "launcher.python=PATH"],
    ),
    "another torch": (other_software(torch="1.0.0"), ["torch is 1.0.0 there and", "same versions"]),
    "another transformers": (
        other_software(transformers="1.0.0"),
        ["transformers is 1.0.0 there and", "same versions"],
    ),
    "another pillow": (other_software(pillow="1.0"), ["pillow is 1.0 there and", "same versions"]),
    "another python": (other_software(Python="3.99"), ["Python is 3.99 there and"]),
    "another lorasweep": (other_software(code="0"), ["not the same code"]),
    "another protocol": ("echo 'lorasweep host 99'; cat\n", ["speaks protocol 99"]),
    "a talkative shell": ("echo welcome; echo 'no such luck' >&2; exit 3\n", ["no such luck"]),
}


@pytest.mark.parametrize("case", SAID)
def test_a_machine_that_cannot_be_used_is_refused_by_name(machines, home, capsys, case):
    script, told = SAID[case]
    machines.script("ssh", script)
    said, took_s = refused(home, capsys, *machines.words())
    assert took_s < FAST_S
    assert all(words in said for words in ["launcher.hosts=gpu1", "launcher.hosts=gpu2", *told]), said


def test_doctor_asks_the_machines(machines, capsys):
    assert main(["doctor", "--json", *machines.words()]) == 0
    first, second = json.loads(capsys.readouterr().out)["checks"]
    assert (first["name"], second["name"]) == ("gpu1", "gpu2")
    assert "torch" in first["found"] and "GiB free in" in first["found"] and "answers in" in first["found"]
    machines.script("ssh", SAID["unknown host key"][0])
    assert main(["doctor", *machines.words()]) == 1
    assert main(["doctor", "adapter.dim=3"]) == 2


def test_plan_says_where_and_asks_nobody(machines, capsys):
    machines.script("ssh", "echo asked >&2; exit 1\n")
    assert main(["plan", "--json", *machines.words(workers=3)]) == 0
    assert "3 workers on each of gpu1, gpu2, over ssh" in json.loads(capsys.readouterr().out)["where"]


@pytest.mark.parametrize("host", ["-oProxyCommand=touch x", "a b", "$(x)", "gpu1;x", "gpu1:port"])
def test_a_host_is_a_name_and_nothing_else(host, home, capsys):
    assert main(["plan", "launcher=ssh", f'launcher.hosts=["{host}"]']) == 2
    assert "must be HOST, USER@HOST or HOST:PORT" in capsys.readouterr().err


def test_a_machine_is_named_once(capsys):
    """Twice, two drivers' ends would write one log and one staging folder."""
    assert main(["plan", "launcher=ssh", "launcher.hosts=[gpu1,gpu1]"]) == 2
    assert "must not repeat a machine" in capsys.readouterr().err


@pytest.mark.skipif(bool(no_sshd()), reason=no_sshd())
def test_ssh_itself_refuses_a_key_that_it_does_not_know(home, tmp_path, monkeypatch, capsys):
    with reached(tmp_path / "machines", monkeypatch) as machines:
        assert main(["doctor", *machines.words(nodes=("gpu1", "unknown"))]) == 1
        told = " ".join(capsys.readouterr().out.split())
        assert "its host key is not known here" in told and "1 ok, 1 fail" in told


# -------------------------------------------------------------------------------- what a stranger may send


@pytest.mark.parametrize("path", ["Status.JSON", "ratings/me.jsonl", "cache/speed.json", "cache/class_images/ab/x.png"])
def test_what_is_not_a_result_of_training_is_refused(path):
    with pytest.raises(ValueError, match="it wants to write"):
        checked(path)


def job_for(made, folder):
    return {"kind": "cook", "recipe": to_dict(made), "plan": to_dict(plan(made)), "folder": str(folder), "attempt": 1}


def test_the_calibration_of_this_home_travels(home):
    made, folder = recipe(), home / "outputs" / "sweep" / "0000-a-s0"
    message = job_for(made, folder)
    assert shipping.pack(message, ship="state", ship_base=False).sources == {}
    own = calibration.own_path(calibration.conditions(made, bases.fingerprint(made)))
    own.parent.mkdir()
    own.write_text("{}")
    cargo = shipping.pack(message, ship="state", ship_base=False)
    assert cargo.message["recipe"]["calibration"] == str(own)
    assert list(cargo.sources.values()) == [own] and list(cargo.message["inputs"]) == [str(own)]


def test_the_adapter_that_a_base_is_drawn_without_travels(home):
    file = home / "few_steps.safetensors"
    file.write_bytes(b"weights")
    made = recipe()
    made = dataclasses.replace(made, base=dataclasses.replace(made.base, adapter=str(file)))
    folder = home / "outputs" / "sweep" / "0000-a-s0"
    cargo = shipping.pack(job_for(made, folder), ship="state", ship_base=False)
    assert list(cargo.message["inputs"]) == [str(file)], "nothing else of an embedded base is of this machine"


def test_the_masks_of_the_images_travel(home, tmp_path):
    made = compose_recipe(["dataset.masks=beside"])
    job = {"kind": "cook", "recipe": to_dict(made), "plan": to_dict(make_plan(made)), "attempt": 1, "shares": 1}
    cargo = shipping.pack({**job, "folder": str(home / "outputs" / "s" / "0000-a-s0")}, ship="state", ship_base=False)
    store = shipping.Store(tmp_path / "there" / "inputs")
    for name, file in cargo.sources.items():
        store.give(name, 0, True, file.read_bytes())
    there = shipping.unpack(cargo.message, store, tmp_path / "there" / "run", tmp_path / "there")
    trained = [image for image in from_dict(Plan, there["plan"]).images if image.split == "train"]
    assert trained and all(Path(image.mask.file).is_relative_to(tmp_path / "there") for image in trained)
    assert all(load_mask(image, image.mask).size == load_planned(image).size for image in trained)


@pytest.mark.parametrize(
    "path",
    ["../x", "/etc/passwd", "a/../../x", "status.json", "recipe.yaml", ".hidden", "a/.b/c", "a//b", "", "a/b/", "a\\b"],
)
def test_a_path_that_leads_elsewhere_is_refused(path):
    with pytest.raises(ValueError, match="it wants to write"):
        checked(path)


def brought(folder, files, *, ship="state", pull=None, cut=None, time=1):
    """Bring files home that are in memory; returns the `Pull`, and whether all of them came."""
    pull = pull or Pull(folder, folder.parent / ".staging", ship)

    def read(path, offset, size):
        return files[path][offset : offset + size - (path == cut)]

    return pull, pull.update([(path, len(data), time) for path, data in files.items()], read, threading.Lock())


def there(folder):
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_what_belongs_together_comes_together_or_not_at_all(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    state, tensors, weights = (
        f"checkpoints/step_000004/{name}" for name in ("state.json", "state.safetensors", "adapter.safetensors")
    )
    files = {state: b"{}", tensors: b"xx", weights: b"a", "events.jsonl": b"one\n"}
    pull, came = brought(folder, files, cut=tensors)
    assert not came and there(folder) == set()
    assert brought(folder, files, pull=pull)[1] and there(folder) == set(files)
    later = {weights: b"a", "events.jsonl": b"one\ntwo\n"}  # the state of an older checkpoint is dropped
    assert brought(folder, later, pull=pull, time=2)[1] and there(folder) == set(later)
    assert (folder / "events.jsonl").read_bytes() == b"one\ntwo\n"


def test_what_is_shipped_is_as_asked(tmp_path):
    state, weights = "checkpoints/step_000004/state.json", "checkpoints/step_000004/adapter.safetensors"
    files = {state: b"1", weights: b"2", "adapter.safetensors": b"3", "samples/step_000004/a.png": b"4"}
    expected = {"state": set(files), "results": set(files) - {state}, "kept": set(files) - {state, weights}}
    for ship, wanted in expected.items():
        folder = tmp_path / ship / "run"
        folder.mkdir(parents=True)
        brought(folder, files, ship=ship)
        assert there(folder) == wanted


def test_a_folder_that_another_worker_of_the_machine_makes_meanwhile_is_taken(tmp_path, monkeypatch):
    store, link = shipping.Store(tmp_path / "inputs"), shipping.files.link_or_copy
    name = f"{hashlib.sha256(b'image').hexdigest()}.png"
    store.give(name, 0, last=True, data=b"image")
    job = {"kind": "cook", "recipe": {"dataset": "/data"}, "plan": {}, "attempt": 1, "shares": ()}
    message = {**job, "drawn": {}, "cache": {}, "folder": {}, "inputs": {"/data": {"a.png": name}}}

    def late(source, target):
        monkeypatch.setattr(shipping.files, "link_or_copy", link)
        shipping.unpack(message, store, tmp_path / "other", tmp_path)
        link(source, target)

    monkeypatch.setattr(shipping.files, "link_or_copy", late)
    job = shipping.unpack(message, store, tmp_path / "run", tmp_path)
    assert (Path(job["recipe"]["dataset"]) / "a.png").read_bytes() == b"image"


def test_the_outcome_comes_last():
    listed = [OUTCOME_FILE, "events.jsonl", "samples/index.json", "samples/step_000004/a.png", "checkpoints/step.json"]
    assert sorted(listed, key=shipping._order) == listed[::-1]


def test_a_line_that_talks_nonsense_is_cut(tmp_path):
    other = Line(["sh", "-c", f"echo '{MARK.decode()}{PROTOCOL}'; head -c 100 /dev/zero | tr '\\0' 'z'; sleep 60"])
    with pytest.raises(LineLost, match="it answers nonsense"):
        other.hello(10.0)
    assert other.process.wait(5) is not None


def test_host_errors_are_told_and_the_line_lives(machines):
    host = Line(command("gpu1", machines.python, str(machines.home)))
    assert host.hello(60.0)["cores"] >= 1
    with pytest.raises(HostError, match="did not arrive whole"):
        host.call("give", b"other", name="0" * 64, offset=0, last=True)
    with pytest.raises(HostError, match="no such method: close"):
        host.call("close")
    assert host.call("take", after=0, wait_s=0.0)[0]["messages"] == []
    host.hang_up()
    assert host.process.wait(20) == 0
    assert not list((machines.home / "scratch").iterdir())


# ------------------------------------------------------------------------------------------------ faults


class Stuck:
    """A line to a host that takes no job, and is heard to be gone only once it is killed."""

    ended = True

    def __init__(self, error):
        self._error, self._killed = error, threading.Event()

    def hello(self, timeout_s):
        return {"software": handshake.software(), "gpus": {}, "cores": 1, "free_bytes": 0, "home": "/"}

    def call(self, method, data=b"", **arguments):
        if method == "begin":
            raise self._error
        if method == "take":
            self._killed.wait(10)
            raise LineLost("the connection ended")
        return None, b""

    def kill(self):
        self._killed.set()

    hang_up = kill


@pytest.mark.parametrize("error", [LineLost("it gave no sign of life for 60 s"), HostError("it has not the base")])
def test_a_host_that_takes_no_job_is_dead_once(home, tmp_path, error):
    options = LaunchOptions(trial_module=TRIAL_MODULE, jobs=1, log_folder=tmp_path / "workers")
    shipping_all = member.Shipping(ship="state", ship_base=False)
    launcher = member.RemoteLauncher(options, ["gpu1"], lambda node: Stuck(error), shipping_all, "launcher.hosts")
    with launcher:
        launcher.members[0].send(**job_for(recipe(), home / "outputs" / "sweep" / "0000-a-s0"))
        time.sleep(0.5)  # a driver that is busy hears all at once
        assert launcher.listen(5.0) == [(launcher.members[0], None)]
        death = launcher.members[0].death()
        assert (death.lost, death.for_good) == (True, isinstance(error, HostError))


def test_a_sick_machine_is_benched_and_the_sweep_completes(machines, tmp_path):
    result = cook(elsewhere(machines, numbered_arms(5, sick_on="gpu2")), tmp_path / "outputs" / "sweep")
    assert result.state.counts == {"COMPLETED": 5}
    assert {trial.node for trial in result.state.trials} == {"gpu1"}
    assert not result.halted


def test_workers_of_one_machine_know_that_they_share_it(machines, tmp_path):
    folder = tmp_path / "outputs" / "sweep"
    assert cook(elsewhere(machines, numbered_arms(2), workers=2, nodes=("gpu1",)), folder).exit_code == 0
    assert {read_json(file)["sharers"] for file in folder.glob("*/worker.json")} == {2}


@pytest.mark.slow
@pytest.mark.parametrize("strike", [None, signal.SIGKILL])
def test_one_recipe_is_trained_there_as_well(machines, home, strike):
    made = dataclasses.replace(recipe(step_s=0.2), launcher=machines.options(nodes=("gpu1",)))
    folder, struck = home / "outputs" / "train" / "abc-s0", []

    def report(event):
        if strike and not struck and event["kind"] == "rung":
            struck.extend(host for host in hosts_of(machines) if "remote.host" in " ".join(host.cmdline()))
            struck[0].send_signal(strike)
        return True

    done = run_trial(made, plan(made), folder, shown=lambda: nullcontext(report), trial_module=TRIAL_MODULE)
    assert (done.record.status, done.record.node) == (Status.COMPLETED, "gpu1")
    assert bool(struck) == bool(strike)
    assert (done.record.attempt, done.record.crashes) == (2 if strike else 1, 0), "a machine that went is no crash"
    assert not list(folder.glob(".*"))


@pytest.mark.slow
def test_what_hears_the_events_may_fail_and_ends_the_worker_there(machines, home):
    made = dataclasses.replace(recipe(step_s=0.2), launcher=machines.options(nodes=("gpu1",)))
    folder = home / "outputs" / "train" / "abc-s0"

    def deaf(event):
        raise RuntimeError(f"the caller's own, at step {event['step']}")

    with pytest.raises(RuntimeError, match="the caller's own, at step 0"):
        run_trial(made, plan(made), folder, shown=lambda: nullcontext(deaf), trial_module=TRIAL_MODULE)
    assert RunFolder(folder).record.status is Status.CANCELLED
    assert not list(folder.rglob("adapter.safetensors"))


@pytest.mark.slow
def test_one_recipe_whose_machine_cannot_cook_stops_with_the_cause(machines, home):
    """Workers that die before they begin are no crash of the recipe, in `train` as in a sweep."""
    made = dataclasses.replace(recipe(), launcher=machines.options(nodes=("gpu1",)))
    folder = home / "outputs" / "train" / "abc-s0"
    done = run_trial(made, plan(made), folder, shown=lambda: nullcontext(bool), trial_module="no_such_module")
    assert "workers die before they can cook" in done.halted and done.exit_code == 1
    assert (done.record.status, done.record.crashes) == (Status.WAITING, 0)


@pytest.mark.slow
def test_a_machine_without_room_is_benched(machines, tmp_path):
    arms = numbered_arms(4, no_room_on="gpu2")
    result = cook(elsewhere(machines, arms), tmp_path / "outputs" / "sweep")
    assert result.state.counts == {"COMPLETED": 4}
    alone = cook(elsewhere(machines, arms, nodes=("gpu2",)), tmp_path / "outputs" / "alone")
    assert "no room left on gpu2" in alone.halted


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["start", "train", "half a checkpoint", "judge", "result", "outcome left"])
def test_a_worker_that_dies_in_any_phase_costs_one_attempt_at_most(machines, tmp_path, phase):
    folder = tmp_path / "outputs" / "sweep"
    result = cook(elsewhere(machines, {"a": {"dies_in": phase}, "b": {}}), folder)
    assert result.exit_code == 0
    hit = by_arm(result.state)["a"]
    assert hit.attempt == (1 if phase == "outcome left" else 2)
    assert_study_agrees(folder)


@pytest.mark.slow
@pytest.mark.parametrize("strike", [signal.SIGKILL, signal.SIGSTOP])
def test_a_machine_that_goes_away_costs_no_crash_and_comes_back(machines, tmp_path, monkeypatch, strike):
    monkeypatch.setitem(Line.call.__kwdefaults__, "timeout_s", 5.0)
    folder, struck = tmp_path / "outputs" / "sweep", []

    def after_a_rung(state):
        if not struck and any(trial.metrics for trial in state.trials):
            struck.extend(host for host in hosts_of(machines) if "remote.host" in " ".join(host.cmdline()))
            struck[0].send_signal(strike)

    result = cook(elsewhere(machines, {"a": {"step_s": 0.3}}, nodes=("gpu1",)), folder, on_change=after_a_rung)
    for process in hosts_of(machines):
        process.kill()  # on a machine that is cut off nobody could
    (trial,) = result.state.trials
    assert (trial.status, trial.attempt) == (Status.COMPLETED, 2)
    assert read_json(folder / "0000-a-s0" / "status.json")["crashes"] == 0
    starts = [event["step"] for event in read_jsonl(folder / "0000-a-s0" / "events.jsonl") if event["kind"] == "start"]
    assert starts[0] == 0 and starts[1] in (STEPS // 2, STEPS), "from a checkpoint that had come home"
    assert_study_agrees(folder)


DRIVER_DEATHS = {
    "handed out": "lorasweep.sweep.loop:SweepLoop._give:after:2",
    "a rung reported, no verdict yet": "lorasweep.sweep.search.study:SweepStudy.report:after:2",
    "files fetched, nothing of them in the run folder": "lorasweep.sweep.remote.shipping:Pull._publish:before:3",
    "in the middle of bringing files home": "lorasweep.sweep.remote.shipping:Pull._fetch:after:9",
    "half of the files in the run folder": "os:replace:before:30",
    "an end heard, not noted": "lorasweep.sweep.trial_writer:TrialWriter.end:before:1",
}


@pytest.mark.slow
@pytest.mark.parametrize("phase", DRIVER_DEATHS)
def test_a_driver_that_dies_leaves_nobody_behind_and_goes_on(machines, tmp_path, phase):
    folder = tmp_path / "outputs" / "sweep"
    script = Path(__file__).parent / "drive_pretend.py"
    environment = {**os.environ, "PRETEND_LAUNCHER": json.dumps(to_dict(machines.options()))}

    def drive(*death):
        command = [sys.executable, str(script), str(folder), "3", "0.01", *death]
        return subprocess.run(command, env=environment, timeout=120, check=False, start_new_session=True).returncode

    assert drive(DRIVER_DEATHS[phase]) == -signal.SIGKILL, "it never came to this phase"
    deadline = time.monotonic() + 3 * FAST_S
    while hosts_of(machines) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not hosts_of(machines)
    assert drive() == 0
    assert read_state(folder).counts == {"COMPLETED": 3}
    assert not list((machines.home / "scratch").iterdir())
    assert not list(folder.glob("0*/.*"))
    assert_study_agrees(folder)
