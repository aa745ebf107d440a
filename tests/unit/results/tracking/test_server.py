"""A real tracking server that goes away in the middle and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tracking_server import free_port, server

from lorasweep.cli import main
from lorasweep.core.records import TrackingOptions
from lorasweep.results.tracking.mirror import sync_sweep
from lorasweep.results.tracking.process import Mirror

pytestmark = pytest.mark.slow


def test_gone_and_back(
    make_sweep: Callable[..., Any],
    fakes: Any,
    holdings: Callable[[], Any],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path_factory.mktemp("server")
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    sweep = make_sweep(cooked=False, arms=fakes.ARMS)
    mirror = Mirror(sweep.folder, TrackingOptions())
    with server(folder, port):
        mirror.start()
        for number in (0, 1):
            sweep.complete(number)
        time.sleep(4)  # somewhere in the middle of the first trials
    for number in (2, 3):
        sweep.complete(number)
    sweep.rank()
    started = time.monotonic()
    report = mirror.finish(20.0)
    assert time.monotonic() - started < 25
    assert not report.ok and "lorasweep sync quickstart" in report.message

    with server(folder, port):
        assert sync_sweep(sweep.folder, TrackingOptions()).problems == []
        held = holdings()
        assert held.parent.info.status == "FINISHED"
        assert len(held.children) == 4
        for child in held.children.values():
            assert child.info.status == "FINISHED"
            assert [step for step, _ in held.history(child, "train/loss")] == [10, 20]
            pictures = held.pictures(child)
            assert len(pictures) == len(set(pictures)) == 5 * 2
            assert "adapter.safetensors" in held.artifacts(child)


def test_behind_a_path_with_a_password_it_arrives_whole_once_and_the_password_nowhere(
    make_sweep: Callable[..., Any],
    fakes: Any,
    holdings: Callable[[], Any],
    store_home: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://alice:pw0pw1pw2@127.0.0.1:{port}/ml")
    make_sweep(arms=fakes.ARMS[:1])
    with server(folder, port, prefix="/ml"):
        assert main(["sync"]) == 0
        assert main(["sync"]) == 0
        (child,) = holdings().children.values()
        assert "adapter.safetensors" in holdings().artifacts(child)
        assert main(["ui"]) == 0
    said = "".join(capsys.readouterr())
    assert "2 new" in said and "0 new, 0 brought up to date" in said and "alice:***@" in said
    assert f"http://127.0.0.1:{port}/ml/#/experiments/" in said  # a browser asks for the password
    written = [*store_home.rglob("*"), *folder.rglob("*")]
    held = [path for path in written if path.is_file() and b"pw0pw1pw2" in path.read_bytes()]
    assert "pw0pw1pw2" not in said and held == []
