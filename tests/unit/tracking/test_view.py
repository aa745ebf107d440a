"""The saved view: MLflow's UI state for one sweep."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorasweep.records import TrackingOptions
from lorasweep.tracking.content import Picture, RunContent
from lorasweep.tracking.mirror import sync_sweep
from lorasweep.tracking.store import open_store
from lorasweep.tracking.ui import _pages
from lorasweep.tracking.view import TAG_PREFIX, View, _grid_step, envelope, is_persons_own, page, share_key

VIEW = View(
    sweep="quick start", metric="overcook/utility", goal="maximize", params=["optimizer.name"],
    picture_keys=["class_0", "recombined_0"], grid_step=40,
)  # fmt: skip


def _state(value: str) -> dict[str, Any]:
    data = json.loads(value)
    assert data["state"].startswith("deflate;")
    return json.loads(zlib.decompress(base64.b64decode(data["state"].removeprefix("deflate;"))))


def test_the_state_says_what_the_view_says() -> None:
    value = envelope(VIEW, created_ms=7)
    assert json.loads(value)["name"] == "quick start"
    state = _state(value)
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`overcook/utility`", False)
    assert "params.`optimizer.name`" in state["selectedColumns"]
    grid = state["compareRunCharts"][0]
    assert (grid["type"], grid["imageKeys"], grid["step"]) == ("IMAGE", ["class_0", "recombined_0"], 40)


def test_a_long_view_fits_into_a_tag() -> None:
    keys = [f"in_distribution_{place}" for place in range(40)]
    params = [f"optimizer.some_long_option_{place}" for place in range(40)]
    view = View(sweep="s", metric="m", goal="minimize", params=params, picture_keys=keys, grid_step=1)
    assert len(envelope(view, created_ms=0)) < 5000


def _run(*steps: int) -> RunContent:
    pictures = tuple(Picture(file=Path("a.png"), key="class_0", step=step, time_ms=0) for step in steps)
    return RunContent(
        key="k", name="n", status="FINISHED", started_ms=0, ended_ms=0, tags={}, params={}, points={},
        pictures=pictures, artifacts=(), datasets=(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("runs", "step"),
    [([], 0), ([_run()], 0), ([_run(80, 160, 320), _run(40, 80, 160), _run()], 160), ([_run(5), _run(7)], 7)],
)
def test_the_grid_opens_where_every_run_has_a_picture(runs: list[RunContent], step: int) -> None:
    assert _grid_step(runs) == step


def test_addresses() -> None:
    assert share_key("quick start") == "quick-start"
    found = page("3", "quick start", charts=True)
    assert found.startswith("#/experiments/3/runs?viewStateShareKey=quick-start")
    assert "compareRunsMode=CHART" in found
    assert "compareRunsMode" not in page("3", "quick start", charts=False)


def test_what_a_person_saved_stays(make_sweep: Callable[..., Any], fakes: Any, store_home: Path) -> None:
    sweep = make_sweep(arms=(fakes.ARMS[0], fakes.ARMS[2]))
    sync_sweep(sweep.folder, TrackingOptions())
    store = open_store("lorasweep")
    key = TAG_PREFIX + "quickstart"
    ours = store.client.get_experiment(store.experiment_id).tags[key]
    assert not is_persons_own(ours)
    assert _state(ours)["selectedColumns"][:2] == ["metrics.`overcook/utility`", "metrics.`overcook/score`"]
    assert {"params.`optimizer.name`", "params.`buckets`"} <= set(_state(ours)["selectedColumns"])
    assert "params.`adapter.dim`" not in _state(ours)["selectedColumns"], "it is the same everywhere"

    theirs = json.dumps({**json.loads(ours), "updatedAt": 99})
    store.client.set_experiment_tag(store.experiment_id, key, theirs)
    sweep.complete(0)
    sync_sweep(sweep.folder, TrackingOptions())
    assert store.client.get_experiment(store.experiment_id).tags[key] == theirs
    assert _pages(store.uri) == [page(store.experiment_id, "quickstart", charts=True)]
    assert _pages("http://another") == []


@pytest.mark.parametrize("value", ["", "[]", "{}", "deflate;abc"])
def test_what_we_do_not_understand_is_a_persons_own(value: str) -> None:
    assert is_persons_own(value)
