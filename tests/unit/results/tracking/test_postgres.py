"""A tracking server on PostgreSQL, with an artifact root of its own.

    pip install --no-deps --target .venv/reference psycopg2-binary
    PYTHONPATH=$PWD/.venv/reference pytest -m slow tests/unit/results/tracking/test_postgres.py

Skipped where PostgreSQL or its Python driver is not installed.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ssh_machines
from tracking_server import free_port, postgres, postgres_binaries, server

from lorasweep.core.records import TrackingOptions
from lorasweep.results.tracking.mirror import sync_sweep
from lorasweep.results.tracking.process import Mirror

sys.path.insert(0, str(ssh_machines.KITCHEN))
from pretend_sweep import cook, numbered_arms, spec  # noqa: E402
from sweep_checks import assert_study_agrees  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(postgres_binaries() is None, reason="PostgreSQL is not installed"),
]


def test_a_sweep_arrives_whole_and_once(
    make_sweep: Callable[..., Any],
    holdings: Callable[[], Any],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("psycopg2", reason="the driver is not installed: the command is above")
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    sweep = make_sweep()
    with postgres() as database, server(folder, port, backend=database):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        assert sync_sweep(sweep.folder, TrackingOptions()).problems == []
        assert sync_sweep(sweep.folder, TrackingOptions()).updated == 0
        held = holdings()
        assert held.parent.info.status == "FINISHED"
        assert len(held.children) == 4
        for child in held.children.values():
            assert child.info.artifact_uri.startswith("mlflow-artifacts:")
            assert [step for step, _ in held.history(child, "train/loss")] == [10, 20]
            pictures = held.pictures(child)
            assert len(pictures) == len(set(pictures)) == 5 * 2
            assert "adapter.safetensors" in held.artifacts(child)
        found = held.client.search_runs(
            [held.experiment.experiment_id], filter_string="tags.`lorasweep.sweep` = 'quickstart'"
        )
        assert len(found) == 5  # one filter finds the sweep and all its trials
    # What the server stores lies below its own artifact root, not in our home.
    assert list((folder / "artifacts").rglob("adapter.safetensors"))
    assert not list((Path(sweep.folder).parents[1] / "mlruns").rglob("adapter.safetensors"))


def test_a_sweep_on_other_machines_arrives_while_it_runs(
    store_home: Path,
    holdings: Callable[[], Any],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("psycopg2", reason="the driver is not installed: the command is above")
    there, port = tmp_path_factory.mktemp("server"), free_port()
    folder, tracking = store_home / "outputs" / "over_ssh", TrackingOptions(timeout_s=120.0)
    with (
        postgres() as database,
        server(there, port, backend=database),
        ssh_machines.reached(there / "machines", monkeypatch) as machines,
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        declared = dataclasses.replace(spec(numbered_arms(4)), launcher=machines.options(), tracking=tracking)
        result = cook(declared, folder, mirror=Mirror(folder, tracking))
        assert result.state.counts == {"COMPLETED": 4}
        assert result.mirrored.ok, result.mirrored.message
        held = holdings()
        assert held.parent.info.status == "FINISHED"
        assert len(held.children) == 4
        for child in held.children.values():
            assert child.data.params["node"] in ssh_machines.NODES
            assert child.info.artifact_uri.startswith("mlflow-artifacts:")
    assert_study_agrees(folder)  # in SQLite, whose one writer is the driver
    assert len(list((there / "artifacts").rglob("adapter.safetensors"))) >= 4
