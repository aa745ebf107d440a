"""A real tracking server that goes away in the middle and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from tracking_server import free_port, server

from lorasweep.records import TrackingOptions
from lorasweep.tracking.mirror import sync_sweep
from lorasweep.tracking.process import Mirror

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
            mirror.poke()
        time.sleep(4)  # somewhere in the middle of the first trials
    for number in (2, 3):
        sweep.complete(number)
        mirror.poke()
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
