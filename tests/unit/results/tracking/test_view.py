"""The saved view: MLflow's UI state for one sweep."""

from __future__ import annotations

import base64
import importlib.metadata
import json
import random
import re
import shutil
import string
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sweep_folders import PROMPTS, Cooked, write_sweep

from lorasweep.core.records import TrackingOptions
from lorasweep.core.run_folder import MLFLOW_FILE
from lorasweep.results.tracking import content
from lorasweep.results.tracking.content import Picture, RunContent, trial_content
from lorasweep.results.tracking.mirror import sync_sweep
from lorasweep.results.tracking.push import read_state
from lorasweep.results.tracking.reading import TrialFiles, read_sweep, read_trial
from lorasweep.results.tracking.store import open_store
from lorasweep.results.tracking.ui import _pages
from lorasweep.results.tracking.view import (
    TAG_PREFIX,
    UI_VERSION,
    View,
    _grid_step,
    envelope,
    is_persons_own,
    page,
    share_key,
    sweep_view,
)
from lorasweep.sweep.ranking import leaderboard
from lorasweep.sweep.ranking.state import read_state as read_sweep_state

RUN = "0123456789abcdef"
VIEW = View(
    sweep="quick start",
    run_id=RUN,
    metric="overcook/utility",
    params=["optimizer.name", "optimizer.d_coef"],
    axes=["optimizer.name"],
    tags=["lorasweep.verdict"],
    picture_keys=["class_0", "recombined_0"],
    grid_step=40,
)


def test_the_ui_is_the_one_that_the_view_was_written_for() -> None:
    """Another one: look at a sweep in its UI (docs/mlflow.md has the pictures), then say so in UI_VERSION."""
    assert importlib.metadata.version("mlflow").startswith(f"{UI_VERSION}.")


def _state(value: str) -> dict[str, Any]:
    data = json.loads(value)
    assert data["state"].startswith("deflate;")
    return json.loads(zlib.decompress(base64.b64decode(data["state"].removeprefix("deflate;"))))


def test_the_state_says_what_the_view_says() -> None:
    value = envelope(VIEW, created_ms=7)
    assert json.loads(value)["name"] == "quick start"
    state = _state(value)
    assert (state["orderByKey"], state["orderByAsc"]) == ("tags.`lorasweep.place`", True)
    assert "params.`optimizer.name`" in state["selectedColumns"]
    assert "tags.`lorasweep.verdict`" in state["selectedColumns"]
    grid = state["compareRunCharts"][0]
    assert (grid["type"], grid["imageKeys"], grid["step"]) == ("IMAGE", ["class_0", "recombined_0"], 40)


def _charts(view: View, kind: str) -> list[dict[str, Any]]:
    return [chart for chart in _state(envelope(view, created_ms=7))["compareRunCharts"] if chart["type"] == kind]


def test_the_charts_show_what_came_out_what_set_it_and_how_it_got_there() -> None:
    judged = ["overcook/utility", "identity/score", "overcook/score"]
    assert [bar["metricKey"] for bar in _charts(VIEW, "BAR")] == judged
    (trade,) = _charts(VIEW, "SCATTER")
    assert (trade["xaxis"]["key"], trade["yaxis"]["key"]) == ("overcook/score", "identity/score")
    (parallel,) = _charts(VIEW, "PARALLEL")
    assert (parallel["selectedParams"], parallel["selectedMetrics"]) == (
        ["optimizer.name"],
        ["overcook/utility"],
    )
    lines = _charts(VIEW, "LINE")
    assert [line["metricKey"] for line in lines] == [f"rung/{name}" for name in judged]
    assert {line["selectedXAxisMetricKey"] for line in lines} == {"rung/exposures_per_image"}
    sections = {section["uuid"] for section in _state(envelope(VIEW, created_ms=7))["compareRunSections"]}
    charts = _state(envelope(VIEW, created_ms=7))["compareRunCharts"]
    assert {chart["metricSectionId"] for chart in charts} == sections, "a chart without a section is not shown"


def test_without_a_setting_that_differs_there_are_no_parallel_coordinates() -> None:
    assert _charts(replace(VIEW, axes=[]), "PARALLEL") == []


def test_a_setting_that_a_run_lacks_is_a_column_and_no_axis(make_sweep: Callable[..., Any]) -> None:
    def run(**params: str) -> RunContent:
        return replace(_run(), params=params)

    sweep = read_sweep(make_sweep().folder)
    view = sweep_view(sweep, RUN, [run(dim="4", seed="0", lr="1"), run(dim="8", seed="0")])
    assert (view.params, view.axes) == (["dim", "lr"], ["dim"])
    assert "lorasweep.status" not in view.tags
    failed = replace(run(dim="4"), status="FAILED")
    assert "lorasweep.status" in sweep_view(sweep, RUN, [run(dim="4"), failed]).tags


def test_a_long_view_fits_into_a_tag() -> None:
    draw = random.Random(0)
    words = ["".join(draw.choices(string.ascii_lowercase, k=draw.randint(3, 9))) for _ in range(200)]
    said = (" ".join(draw.choices(words, k=6))[: content.KEY_LETTERS] for _ in range(content.NAMED_AT_MOST))
    keys = [f"in_distribution_{place} {prompt}" for place, prompt in enumerate(said)]
    params = [f"optimizer.some_long_option_{place}" for place in range(40)]
    view = View(sweep="s", run_id=RUN, metric="m", params=params, axes=params[:8],
                tags=["lorasweep.verdict"], picture_keys=keys, grid_step=1)  # fmt: skip
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
    assert share_key("quick start", RUN) == "quick-start-01234567"
    found = page("3", "quick start", RUN)
    assert found.startswith("#/experiments/3/runs?viewStateShareKey=quick-start-01234567&")
    assert "compareRunsMode=CHART" in found


def test_what_a_person_saved_stays(make_sweep: Callable[..., Any], fakes: Any, store_home: Path) -> None:
    sweep = make_sweep(arms=(fakes.ARMS[0], fakes.ARMS[2]))
    sync_sweep(sweep.folder, TrackingOptions())
    store = open_store("lorasweep")
    own = read_state(sweep.folder / MLFLOW_FILE)
    assert own is not None
    key = TAG_PREFIX + share_key("quickstart", own.run_id)
    ours = store.client.get_experiment(store.experiment_id).tags[key]
    assert not is_persons_own(ours)
    assert _state(ours)["selectedColumns"][:2] == ["metrics.`overcook/utility`", "metrics.`identity/score`"]
    assert {"params.`optimizer.name`", "params.`buckets`"} <= set(_state(ours)["selectedColumns"])
    assert "params.`adapter.dim`" not in _state(ours)["selectedColumns"], "it is the same everywhere"

    theirs = json.dumps({**json.loads(ours), "updatedAt": 99})
    store.client.set_experiment_tag(store.experiment_id, key, theirs)
    sweep.complete(0)
    sync_sweep(sweep.folder, TrackingOptions())
    assert store.client.get_experiment(store.experiment_id).tags[key] == theirs
    assert _pages(store.uri) == [page(store.experiment_id, "quickstart", own.run_id)]
    assert _pages("http://another") == []


def test_a_view_shows_the_trials_of_its_own_sweep_and_no_namesakes(
    make_sweep: Callable[..., Any], fakes: Any, store_home: Path
) -> None:
    sweep = make_sweep(arms=(fakes.ARMS[0], fakes.ARMS[2]))
    sync_sweep(sweep.folder, TrackingOptions())
    old = read_state(sweep.folder / MLFLOW_FILE)
    shutil.rmtree(sweep.folder)  # and cooked again; or another person's, in one store
    new_sweep = make_sweep(arms=(fakes.ARMS[0], fakes.ARMS[2]))
    sync_sweep(new_sweep.folder, TrackingOptions())
    new = read_state(new_sweep.folder / MLFLOW_FILE)

    store, shown = open_store("lorasweep"), []
    tags = store.client.get_experiment(store.experiment_id).tags
    for each in (old, new):
        assert each is not None
        query = _state(tags[TAG_PREFIX + share_key("quickstart", each.run_id)])["searchFilter"]
        shown.append({run.info.run_id for run in store.client.search_runs([store.experiment_id], query)})
    children = {run.name: read_state(run / MLFLOW_FILE) for run in new_sweep.folder.glob("0*")}
    assert shown[1] == {state.run_id for state in children.values() if state}
    assert len(shown[0]) == len(shown[1]) == 2 and not shown[0] & shown[1]


def test_the_table_stands_in_the_order_of_the_leaderboard(
    make_sweep: Callable[..., Any], fakes: Any, store_home: Path
) -> None:
    sweep = make_sweep(arms=fakes.ARMS[:3])
    board = json.loads((sweep.folder / "leaderboard.json").read_text())
    for row, rank in zip(board["trials"], (10, 9, None), strict=True):  # whatever the metric is: the last broke a bound
        row["rank"] = rank
    (sweep.folder / "leaderboard.json").write_text(json.dumps(board))
    sync_sweep(sweep.folder, TrackingOptions())
    own = read_state(sweep.folder / MLFLOW_FILE)
    assert own is not None

    store = open_store("lorasweep")
    tags = store.client.get_experiment(store.experiment_id).tags
    state = _state(tags[TAG_PREFIX + share_key("quickstart", own.run_id)])
    order = [f"{state['orderByKey']} {'ASC' if state['orderByAsc'] else 'DESC'}"]
    found = store.client.search_runs([store.experiment_id], state["searchFilter"], order_by=order)
    assert [run.data.tags.get("lorasweep.rank") for run in found] == ["9", "10", None]


@pytest.mark.parametrize("value", ["", "[]", "{}", "deflate;abc"])
def test_what_we_do_not_understand_is_a_persons_own(value: str) -> None:
    assert is_persons_own(value)


def test_of_two_objectives_the_front_is_a_tag_and_a_column_and_the_chart(tmp_path: Path) -> None:
    trials = [Cooked(arm="a", identity=0.9, overcook=0.6), Cooked(arm="b"), Cooked(arm="beaten", overcook=0.3)]
    goals = {"identity/score": "maximize", "burn/score": "minimize"}
    folder = write_sweep(tmp_path / "two", trials, objectives=goals)
    leaderboard.write(folder, read_sweep_state(folder))
    sweep = read_sweep(folder)
    contents = [trial_content(read_trial(path), sweep, ()) for path in sweep.trials]
    assert {run.name: run.tags.get("lorasweep.front") for run in contents} == {"a": "yes", "b": "yes", "beaten": None}
    view = sweep_view(sweep, RUN, contents)
    columns = _state(envelope(view, created_ms=7))["selectedColumns"]
    assert columns[:2] == ["metrics.`identity/score`", "metrics.`burn/score`"] and "tags.`lorasweep.front`" in columns
    (trade,) = _charts(view, "SCATTER")
    assert (trade["xaxis"]["key"], trade["yaxis"]["key"]) == ("burn/score", "identity/score")


def test_a_key_of_the_grid_says_the_prompt_where_all_trials_draw_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where captions differ so do prompts, and pictures line up by number; words of many find no room in the view."""
    long = PROMPTS["in_distribution"] + ", hand on hip, looking at the viewer/reader"
    for name, overrides, wanted, most in (
        ("same", ["optimizer=prodigy"], "class_0 1girl green hair indoors", 4),
        ("other", ["captions=cleaned"], "class_0", 4),
        ("many", ["optimizer=prodigy"], "class_0", 3),
    ):
        monkeypatch.setattr(content, "NAMED_AT_MOST", most)
        folder = write_sweep(tmp_path / name, [Cooked(arm="a"), Cooked(arm="b", overrides=overrides)])
        for index in folder.glob("*/samples/*/index.json"):
            index.write_text(index.read_text().replace(PROMPTS["in_distribution"], long))
        sweep = read_sweep(folder)
        for path in sweep.trials:
            found = trial_content(announced(read_trial(path)), sweep, ()).pictures
            assert {picture.key for picture in found if picture.key.startswith("class")} == {wanted}
            assert {picture.step for picture in found if picture.key == wanted} == {80, 160, 240, 320}
            assert all(re.fullmatch(r"[\w\-. ]{1,60}", picture.key, re.ASCII) for picture in found)
            assert len({picture.key for picture in found}) == 4


@pytest.mark.parametrize(
    ("arms", "space", "shared"),
    [
        ([{"dim": 4}, {"dim": 8}], (), True),
        ([{"base": {"unrelated_prompts": ["a tree"]}}, {"dim": 4}], (), False),
        ([None, None], ("adapter.dim", "optimizer[adamw]"), True),
        ([{"captions": {"trigger": "x"}}, None, None], ("adapter.dim",), True),
        ([None], ("captions[folder].dropout",), False),
        ([None], ("base",), False),
        ([{"overrides": ["captions.trigger=abc"]}, None], ("adapter.dim",), False),
        ([], (), False),
    ],
)
def test_prompts_are_shared_where_nothing_that_writes_them_differs(
    tmp_path: Path, arms: list[dict[str, Any] | None], space: tuple[str, ...], shared: bool
) -> None:
    """Points of a space are known by their overrides alone; single runs have no arms."""
    sweep = read_sweep(write_sweep(tmp_path / "s", [Cooked(arm="a")]))
    declared = [{"recipe": each or {}, "overrides": (each or {}).get("overrides", [])} for each in arms]
    manifest = {"arms": declared, "space": dict.fromkeys(space, "choice(1,2)")}
    assert replace(sweep, manifest=manifest).shares_prompts is shared


def announced(trial: TrialFiles) -> TrialFiles:
    """The same with an event for each rung's pictures."""
    return replace(trial, events=tuple({**event, "kind": "samples"} for event in trial.events))
