"""The mirror process: it serves the driver, never stops it, and can be killed anywhere."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tracking_server import free_port

from lorasweep.core.records import TrackingOptions, to_dict
from lorasweep.results.tracking.mirror import sync_sweep
from lorasweep.results.tracking.process import Mirror

STEPS = 20
OPTIONS = TrackingOptions()
SLOW = pytest.mark.slow
PATIENCE_S = 90.0  # the machine may be busy; nothing waits that long when all is well


@pytest.fixture
def sweep(make_sweep: Callable[..., Any], fakes: Any) -> Any:
    return make_sweep(arms=(fakes.ARMS[0], fakes.ARMS[2]), steps=STEPS)


def test_the_driver_side_does_not_import_mlflow() -> None:
    code = "import sys, lorasweep.results.tracking.process; print([m for m in ('mlflow', 'torch') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_follows_a_sweep_and_finishes(make_sweep: Callable[..., Any], fakes: Any, holdings: Callable[[], Any]) -> None:
    sweep = make_sweep(cooked=False, arms=(fakes.ARMS[0], fakes.ARMS[2]), steps=STEPS)
    mirror = Mirror(sweep.folder, OPTIONS)
    mirror.start()
    for number in (0, 1):
        sweep.complete(number)
    sweep.rank()
    deadline = time.monotonic() + PATIENCE_S
    while not (sweep.folder / "mlflow.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    for word in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # as a service manager sends it to everybody
        os.kill(mirror._child.pid, word)
    report = mirror.finish(PATIENCE_S)
    assert report.ok, report.message
    assert "3 runs" in report.message
    held = holdings()
    assert held.parent.info.status == "FINISHED"
    assert {run.data.tags["lorasweep.rank"] for run in held.children.values()} == {"1", "2"}


def test_tracking_that_is_off_does_nothing(sweep: Any) -> None:
    mirror = Mirror(sweep.folder, TrackingOptions(name="none"))
    mirror.start()
    assert mirror.finish(0.0).ok
    assert not (sweep.folder / "mlflow.json").exists()


# ------------------------------------------------------------------------------ stores that do not work


def _directory_in_place(database: Path) -> None:
    database.unlink(missing_ok=True)
    database.mkdir(parents=True)


def _not_a_database(database: Path) -> None:
    database.write_bytes(b"this is no database" * 100)


def _file_in_place_of_the_folder(database: Path) -> None:
    database.unlink()
    database.parent.rmdir()
    database.parent.write_text("")


@pytest.mark.parametrize(
    "spoil",
    [
        _directory_in_place,
        pytest.param(_not_a_database, marks=SLOW),
        pytest.param(_file_in_place_of_the_folder, marks=SLOW),
    ],
)
def test_an_unusable_database_is_reported_and_repaired_later(
    sweep: Any, store_home: Path, spoil: Callable[[Path], None], holdings: Callable[[], Any]
) -> None:
    """Tests may run as root, who can write to what is read-only: so things that root cannot do either."""
    database = store_home / "mlruns" / "mlflow.db"
    kept = database.read_bytes()
    spoil(database)
    report = Mirror(sweep.folder, OPTIONS).finish(PATIENCE_S)
    assert not report.ok
    assert str(database) in report.message and "lorasweep sync quickstart" in report.message
    assert "Traceback" not in report.message

    for path in (database, database.parent):
        if path.is_file():
            path.unlink()
    if database.is_dir():
        database.rmdir()
    database.parent.mkdir(exist_ok=True)
    database.write_bytes(kept)
    assert sync_sweep(sweep.folder, OPTIONS).problems == []
    assert len(holdings().runs) == 3


@pytest.mark.slow
def test_a_database_locked_by_another_is_reported(sweep: Any, store_home: Path) -> None:
    holder = sqlite3.connect(store_home / "mlruns" / "mlflow.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    report = Mirror(sweep.folder, OPTIONS).finish(PATIENCE_S)
    holder.execute("ROLLBACK")
    holder.close()
    assert not report.ok and "locked" in report.message


def test_a_dead_server_costs_no_more_than_the_timeout(sweep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    unused_port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{unused_port}")
    mirror = Mirror(sweep.folder, OPTIONS)
    mirror.start()
    started = time.monotonic()
    report = mirror.finish(PATIENCE_S)
    assert time.monotonic() - started < PATIENCE_S
    assert not report.ok and str(unused_port) in report.message


def test_a_server_that_never_answers_costs_no_more_than_the_timeout(
    sweep: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts and says nothing
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        mirror = Mirror(sweep.folder, OPTIONS)
        mirror.start()
        started = time.monotonic()
        report = mirror.finish(2.0)
        assert time.monotonic() - started < 6.0
    assert not report.ok and "2 s" in report.message and "lorasweep sync quickstart" in report.message
    assert not _alive(mirror)


def test_a_mirror_that_was_killed_does_not_hurt(sweep: Any) -> None:
    mirror = Mirror(sweep.folder, OPTIONS)
    mirror.start()
    assert mirror._child is not None
    mirror._child.send_signal(signal.SIGKILL)
    report = mirror.finish(PATIENCE_S)
    assert not report.ok and "exit code -9" in report.message


def test_a_stopped_mirror_costs_no_more_than_the_timeout(sweep: Any) -> None:
    mirror = Mirror(sweep.folder, OPTIONS)
    mirror.start()
    assert mirror._child is not None
    mirror._child.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    report = mirror.finish(0.5)
    assert time.monotonic() - started < 20
    assert not report.ok
    assert not _alive(mirror)


def test_the_mirror_dies_with_its_driver(sweep: Any) -> None:
    code = (
        "import sys, time; from pathlib import Path; from lorasweep.core.records import TrackingOptions\n"
        "from lorasweep.results.tracking.process import Mirror\n"
        f"mirror = Mirror(Path({str(sweep.folder)!r}), TrackingOptions()); mirror.start()\n"
        "print(mirror._child.pid, flush=True); time.sleep(600)"
    )
    driver = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    pid = int(driver.stdout.readline())
    driver.kill()
    driver.wait()
    driver.stdout.close()
    deadline = time.monotonic() + PATIENCE_S
    while _exists(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _exists(pid)


# ------------------------------------------------------------------------------------------- kills


@pytest.mark.parametrize(
    "call", [9, *(pytest.param(call, marks=SLOW) for call in (1, 2, 3, 4, 5, 6, 7, 8, 14, 17, 19, 24, 31))]
)
def test_killed_anywhere_then_synced_again(
    sweep: Any, call: int, holdings: Callable[[], Any], store_home: Path
) -> None:
    """The process dies right after the n-th thing it sent, before the mark says so."""
    code = (
        "import itertools, os, sys; from pathlib import Path\n"
        "from lorasweep.core.records import TrackingOptions; from lorasweep.results.tracking.store import quieten\n"
        "quieten()\n"
        "from mlflow import MlflowClient\n"
        "counter = itertools.count(1)\n"
        "def deadly(name):\n"
        "    send = getattr(MlflowClient, name)\n"
        "    def wrapped(*args, **kwargs):\n"
        "        found = send(*args, **kwargs)\n"
        f"        if next(counter) == {call}: os._exit(9)\n"
        "        return found\n"
        "    setattr(MlflowClient, name, wrapped)\n"
        "for name in 'create_run log_batch log_image log_artifact set_terminated log_inputs'.split():\n"
        "    deadly(name)\n"
        "from lorasweep.results.tracking.mirror import sync_sweep\n"
        f"sync_sweep(Path({str(sweep.folder)!r}), TrackingOptions())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 9
    assert sync_sweep(sweep.folder, OPTIONS).problems == []
    held = holdings()
    assert len(held.runs) == 3 and len(held.children) == 2
    for child in held.children.values():
        assert child.info.status == "FINISHED"
        assert [step for step, _ in held.history(child, "train/loss")] == [10, 20]
        assert [step for step, _ in held.history(child, "rung/overcook/score")] == [10, 20]
        pictures = held.pictures(child)
        assert len(pictures) == len(set(pictures)) == 5 * 2
    assert len(held.history(held.parent, "by_trial/overcook/utility")) == 2


@pytest.mark.slow
def test_killed_at_any_moment(sweep: Any, holdings: Callable[[], Any]) -> None:
    """Real kills by the clock, over and over, until a sync gets through."""
    command = [
        sys.executable,
        "-m",
        "lorasweep.results.tracking.process",
        str(sweep.folder),
        json.dumps(to_dict(OPTIONS)),
    ]
    for tenths in range(15, 60, 3):
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(tenths / 10)
        child.kill()
        child.wait()
        assert child.stdin is not None
        child.stdin.close()
    assert sync_sweep(sweep.folder, OPTIONS).problems == []
    held = holdings()
    assert len(held.children) == 2
    for child_run in held.children.values():
        assert [step for step, _ in held.history(child_run, "train/loss")] == [10, 20]
        pictures = held.pictures(child_run)
        assert len(pictures) == len(set(pictures)) == 5 * 2


def _alive(mirror: Mirror) -> bool:
    return mirror._child is not None and mirror._child.poll() is None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie whose new parent has not collected it is dead enough.
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
