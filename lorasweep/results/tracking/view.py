"""A saved view of MLflow's UI for one sweep: ranked table, columns that differ, samples before charts.

MLflow opens on one folded row otherwise: no trials, no params, no metrics. A saved view is a tag of the
experiment that holds the UI's state; the page reads it from `?viewStateShareKey=`, and the "Views" menu
lists it by name. That state is the UI's own affair: this file is written for `UI_VERSION`, and another UI
ignores the keys that it does not know. Nothing but the view depends on it.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from lorasweep.results.params import HEADLINE
from lorasweep.results.tracking.content import PLACE, PREFIX, RunContent
from lorasweep.results.tracking.reading import SweepFiles
from lorasweep.results.tracking.store import Store
from lorasweep.trial.judge.score import IDENTITY, SCORE, UTILITY

UI_VERSION = "3.17"  # of mlflow
TAG_PREFIX = "mlflow.sharedViewState."
EXPOSURES = f"{PREFIX['rung']}exposures_per_image"
VERDICT_TAGS = ("lorasweep.verdict", "lorasweep.done_at", "lorasweep.burned_at")
MOST_AXES = 8  # of the parallel coordinates; more are not read
# Of the charts, from top to bottom: title, columns, height in px.
SECTIONS = {
    "pictures": ("Samples at the judged weight", 1, 820),
    "results": ("What came out: the checkpoint that each recipe kept", 2, 330),
    "settings": ("Settings against what came out", 1, 420),
    "curves": ("How each cooked: over exposures per image", 3, 360),
}


@dataclass(frozen=True, kw_only=True)
class View:
    """What a sweep's view shows.

    Attributes:
        metric, further: the sweep's objectives, shown first.
    """

    sweep: str  # the sweep's name, which is also the view's
    run_id: str  # of the sweep's own run, whose children are shown: others may have a sweep of this name
    metric: str
    params: Sequence[str]  # columns, most telling first
    axes: Sequence[str]  # of the parallel coordinates: those params that every run has, or its line would be left out
    tags: Sequence[str]  # columns after the metrics
    picture_keys: Sequence[str]  # of the image grid, one column per prompt
    grid_step: int  # where the image grid's slider stands at first
    further: Sequence[str] = ()

    @property
    def metrics(self) -> list[str]:
        """Columns, bars and curves."""
        return list(dict.fromkeys((self.metric, *self.further, UTILITY, IDENTITY, SCORE)))


def sweep_view(sweep: SweepFiles, run_id: str, contents: Sequence[RunContent]) -> View:
    """Derive a sweep's view from what its runs show: the params that differ, the pictures that exist."""
    keys = list(dict.fromkeys([*HEADLINE, *(key for content in contents for key in content.params)]))
    values = {key: {content.params.get(key) for content in contents} for key in keys}
    telling = [key for key in keys if len(values[key]) > 1]
    further = [each["name"] for each in (sweep.manifest.get("search") or {}).get("further", ())]
    went_well = all(content.status in ("FINISHED", "RUNNING") for content in contents)
    return View(
        sweep=sweep.name,
        run_id=run_id,
        metric=str(sweep.manifest.get("metric") or UTILITY),
        params=telling,
        axes=[key for key in telling if None not in values[key]][:MOST_AXES],
        tags=(*([] if went_well else ["lorasweep.status"]), *(["lorasweep.front"] if further else []), *VERDICT_TAGS),
        picture_keys=list(dict.fromkeys(picture.key for content in contents for picture in content.pictures)),
        grid_step=_grid_step(contents),
        further=further,
    )


def _grid_step(contents: Sequence[RunContent]) -> int:
    """Return the last step at which every run has a picture, so that the grid opens without holes; else the last."""
    steps = [{picture.step for picture in content.pictures} for content in contents if content.pictures]
    if not steps:
        return 0
    return max(set.intersection(*steps) or set.union(*steps))


def push_view(store: Store, view: View, *, created_ms: int) -> None:
    """Save a view of the experiment, unless a person has saved changes over it."""
    key, value = TAG_PREFIX + share_key(view.sweep, view.run_id), envelope(view, created_ms=created_ms)
    held = store.client.get_experiment(store.experiment_id).tags.get(key)
    if held is None or (held != value and not is_persons_own(held)):
        store.client.set_experiment_tag(store.experiment_id, key, value)


def share_key(sweep: str, run_id: str) -> str:
    """Return the view's id: the sweep's name in characters that a tag and an address allow, and whose it is."""
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', sweep)}-{run_id[:8]}"


def page(experiment_id: str, sweep: str, run_id: str) -> str:
    """Return the place of a view's charts in the UI, after the server's address."""
    key = share_key(sweep, run_id)
    query = {"viewStateShareKey": key, "workflowType": "machine_learning", "compareRunsMode": "CHART"}
    return f"#/experiments/{experiment_id}/runs?{urlencode(query)}"


def envelope(view: View, *, created_ms: int) -> str:
    """Return the tag's value; compressed as the UI does, because MLflow limits tags to 5000 characters."""
    text = json.dumps(_state(view), separators=(",", ":"))
    packed = "deflate;" + base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    return json.dumps({"name": view.sweep, "createdAt": created_ms, "updatedAt": created_ms, "state": packed})


def is_persons_own(value: str) -> bool:
    """Tell whether somebody saved changes over the view, which are then left alone."""
    try:
        data = json.loads(value)
        return bool(data["createdAt"] != data["updatedAt"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return True


def _state(view: View) -> dict[str, Any]:
    columns = [
        *(f"metrics.`{name}`" for name in view.metrics),
        *(f"tags.`{name}`" for name in view.tags),
        *(f"params.`{name}`" for name in view.params),
        "attributes.`Duration`",
    ]
    charts = {
        "pictures": list(_pictures(view)),
        "results": list(_results(view)),
        "settings": list(_settings(view)),
        "curves": [_curve(metric) for metric in view.metrics],
    }
    return {
        # Any order but by time shows the trials flat, without their parent.
        # The leaderboard's: a metric is high as well of who broke a bound, or was judged by fewer symptoms.
        "orderByKey": f"tags.`{PLACE}`",
        "orderByAsc": True,
        "searchFilter": f"tags.`mlflow.parentRunId` = '{view.run_id}'",
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {column: 140 if column.startswith("tags") else 120 for column in columns},
        "compareRunCharts": [_card(section, *chart) for section, found in charts.items() for chart in found],
        "compareRunSections": [_section(section, *SECTIONS[section]) for section, found in charts.items() if found],
        "isAccordionReordered": True,  # keep our order of sections
        "hideEmptyCharts": True,
    }


# A chart of the page: its kind, the end of its id, and what is its own.
_Chart = tuple[str, str, dict[str, Any]]


def _pictures(view: View) -> Iterable[_Chart]:
    grid = {"imageKeys": list(view.picture_keys), "step": view.grid_step, "showRunParams": False}
    yield "IMAGE", "pictures", grid
    for key in view.picture_keys:  # the cards that the UI would add for each key, taken out: the grid has them all
        yield "IMAGE", key, {"imageKeys": [key], "deleted": True}


def _results(view: View) -> Iterable[_Chart]:
    """Draw bars, and the trade-off of the first two objectives, else of identity against overcooking."""
    for metric in view.metrics:
        yield "BAR", f"bar-{metric}", {"metricKey": metric, "displayName": metric}
    keys = (view.further[0], view.metric) if view.further else (SCORE, IDENTITY)
    x, y = ({"key": key, "type": "METRIC"} for key in keys)
    yield "SCATTER", "trade", {"xaxis": x, "yaxis": y, "runsCountToCompare": 100}


def _settings(view: View) -> Iterable[_Chart]:
    """Draw params against the metric, when any param differs."""
    if view.axes:
        shown = {"selectedParams": list(view.axes), "selectedMetrics": [view.metric], "showAllRuns": False}
        yield "PARALLEL", "parallel", shown


def _curve(metric: str) -> _Chart:
    """Return a curve over exposures: overcooking follows them, whatever the batch."""
    bounded = metric in (UTILITY, SCORE, IDENTITY)
    shown = {
        "metricKey": PREFIX["rung"] + metric,
        "displayName": metric,
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": {"yMin": -0.02, "yMax": 1.02} if bounded else {},  # or scores near zero draw mountains
        "xAxisKey": "metric",
        "selectedXAxisMetricKey": EXPOSURES,
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": False,
        "useGlobalLineSmoothing": True,
    }
    return "LINE", metric, shown


def _card(section: str, kind: str, name: str, shown: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": kind,
        "uuid": f"lorasweep-{name}",
        "metricSectionId": section,
        "runsCountToCompare": 10,
        "deleted": False,
        "isGenerated": True,
        **shown,
    }


def _section(uuid: str, name: str, columns: int, height_px: int) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "name": name,
        "display": True,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
        "columns": columns,
        "cardHeight": height_px,
    }
