"""The doctor finds what is broken, says the next step, and breaks nothing."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lorasweep as ls
from lorasweep.api.checks import State, doctor, machine, ok, software
from lorasweep.cli import main


def test_a_sound_machine_is_told_so_and_left_as_it_was(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--no-cook", "--json"])

    document = json.loads(capsys.readouterr().out)
    assert code == 0 and document["ok"]
    assert {check["name"] for check in document["checks"]} >= {"python", "torch", "disk", "dollhouse"}
    assert list(home.iterdir()) == []


def test_commands_are_not_torn_by_a_narrow_terminal(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(software.importlib.util, "find_spec", lambda name: None)
    assert main(["doctor", "--no-cook"]) == 0
    said = capsys.readouterr().out
    assert "pip install 'lorasweep[cuda,cluster,caption]'" in said and "no onnxruntime" in " ".join(said.split())


def test_a_card_that_torch_does_not_see_is_told(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    nvidia_smi: Callable[[str], None],
) -> None:
    nvidia_smi("echo 'GPU 0: NVIDIA RTX 4070 (UUID: GPU-1)'")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    assert main(["doctor", "--no-cook", "--json"]) == 0

    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert "NVIDIA RTX 4070" in checks["torch"]["found"] and "docs/gpu.md" in json.dumps(checks["torch"])


def test_a_broken_machine_exits_with_1_and_every_check_has_its_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("LORASWEEP_HOME", str(tmp_path / "taken"))

    assert main(["doctor", "--no-cook"]) == 1

    out = capsys.readouterr().out
    assert "fail" in out and "folders" in out and "LORASWEEP_HOME" in out
    assert (tmp_path / "taken").read_text() == ""


def test_a_check_that_breaks_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise RuntimeError("the sky fell")

    monkeypatch.setattr(doctor, "CHECKS", (broken, lambda: ok("after", "fine")))

    first, second = ls.doctor(cook=False)

    assert first.state is State.FAIL and "the sky fell" in first.found and second.state is State.OK


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software.metadata, "requires", lambda _: ["no_such_lib>=1", "x; extra == 'dev'"])

    check = software.libraries()

    assert check.state is State.FAIL and "no-such-lib" in check.found and "pip install" in check.hint


def test_other_versions_than_the_tested_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "_tested", lambda: {"pillow": "0.0.1"})

    check = software.libraries()

    assert check.state is State.WARN and "tested: 0.0.1" in check.found


@pytest.mark.parametrize(("free", "state"), [(100, State.FAIL), (2 * 2**30, State.WARN), (2**40, State.OK)])
def test_disk(free: int, state: State, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: type("U", (), {"free": free}))

    assert machine.disk().state is state


@pytest.mark.parametrize(("free", "state"), [(2**20, State.WARN), (2**40, State.OK)])
def test_memory(free: int, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorasweep.core.machine.free_bytes", lambda: free)

    assert machine.memory().state is state


def test_the_mlflow_store(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "will be made" in machine.mlflow_store().found
    database = home / "mlruns" / "mlflow.db"
    database.parent.mkdir()
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE runs (id)")
    assert machine.mlflow_store().found.endswith("0 runs")
    database.write_bytes(b"no database" * 100)
    assert machine.mlflow_store().state is State.WARN
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert "nobody listens there" in machine.mlflow_store().found


def test_a_taken_port_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(machine, "DEFAULT_PORT", server.getsockname()[1])
        assert machine.ui_port().state is State.WARN
    assert machine.ui_port().state is State.OK


def test_weights_against_the_wheels_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "lorasweep" / "dollhouse" / "weights"
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    monkeypatch.setattr(software.lorasweep, "__file__", str(tmp_path / "lorasweep" / "__init__.py"))
    recorded = {folder / "model_index.json": software._digest(folder / "model_index.json")}
    monkeypatch.setattr(software, "_recorded", lambda: recorded)

    assert "intact" in software.dollhouse().found
    (folder / "model_index.json").write_text("{ }")
    assert software.dollhouse().state is State.FAIL
    (folder / "model_index.json").unlink()
    assert "no weights" in software.dollhouse().found


def test_the_digest_is_the_one_that_wheels_record(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")

    # SHA-256 of nothing, URL-safe base64 without padding, as PEP 376 and the wheel format have it.
    assert software._digest(tmp_path / "a") == "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"


def test_weights_against_the_commit(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@t"]
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "a").write_text("1")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)

    assert software._changed_since_commit(tmp_path / "weights") == []
    (tmp_path / "weights" / "a").write_text("2")
    assert software._changed_since_commit(tmp_path / "weights") == ["a"]


def test_a_cook_that_fails_says_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "RECIPE", ("adapter.dim=0",))

    check = machine.cook()

    assert check.state is State.FAIL and "exit code 2" in check.found and "adapter.dim" in check.found


@pytest.mark.slow
def test_a_real_cook() -> None:
    """Run with: pytest -m slow tests/unit/api/test_doctor.py."""
    check = machine.cook()

    assert check.state in (State.OK, State.WARN) and "10 steps" in check.found
