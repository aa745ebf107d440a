"""The UI's command and its addresses; the server itself is MLflow's."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from lorasweep.core.errors import InputError
from lorasweep.core.records import TrackingOptions
from lorasweep.results.tracking.mirror import sync_sweep
from lorasweep.results.tracking.ui import serve


def test_a_server_is_only_pointed_at(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://alice:secret@mlflow.example.org")
    assert serve() == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "MLflow UI  https://mlflow.example.org/"  # a browser asks who it is; Ctrl-C stops nothing there


def test_only_on_this_machine(home: Path) -> None:
    with pytest.raises(InputError, match="0.0.0.0"):
        serve(host="0.0.0.0")


def test_a_taken_port_is_said(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"{port} is taken"):
            serve(port)


@pytest.mark.slow
@pytest.mark.parametrize("word", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_serves_a_sweep_until_told_to_end(
    make_sweep: Callable[..., Any], fakes: Any, store_home: Path, word: signal.Signals
) -> None:
    sync_sweep(make_sweep(arms=fakes.ARMS[:1]).folder, TrackingOptions())
    code = "import sys; from lorasweep.results.tracking.ui import serve; sys.exit(serve())"
    ui = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "LORASWEEP_HOME": str(store_home)},
    )  # fmt: skip
    assert ui.stdout is not None
    pages = []
    for line in ui.stdout:
        pages += [word for word in line.split() if "viewStateShareKey=quickstart" in word]
        if "Ctrl-C" in line:
            url = next(word for word in line.split() if word.startswith("http"))
            break
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    assert b"<title>MLflow</title>" in opener.open(url, timeout=60).read()
    assert len(pages) == 1 and pages[0].startswith(url)
    helpers = [" ".join(each.cmdline()) for each in psutil.Process(ui.pid).children(recursive=True)]
    assert helpers and not [each for each in helpers if "mlflow.server.jobs" in each]
    for host in ("localhost:8080", "127.0.0.1:9999", "[::1]:8080"):  # ssh -L 8080:localhost:5000
        through = urllib.request.Request(url, headers={"Host": host})
        assert opener.open(through, timeout=60).status == 200
    ui.send_signal(word)
    assert ui.wait(60) == 0
    with pytest.raises(OSError):
        opener.open(url, timeout=5)
