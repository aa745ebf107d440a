"""A saved view of MLflow's UI for one sweep: ranked table, columns that differ, samples before charts.

MLflow opens on one folded row otherwise: no trials, no params, no metrics. A saved view is a tag of the
experiment that holds the UI's state; the page reads it from `?viewStateShareKey=`, and the "Views" menu
lists it by name. The state's keys are the UI's own (mlflow 3.17), which ignores those it does not know.
Knows nothing about mlflow's Python side.
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
from lorasweep.results.tracking.content import RunContent
from lorasweep.results.tracking.notes import SCORE, UTILITY
from lorasweep.results.tracking.reading import SweepFiles
from lorasweep.results.tracking.trial_content import PREFIX

TAG_PREFIX = "mlflow.sharedViewState."
IDENTITY = "identity/score"
EXPOSURES = f"{PREFIX['rung']}exposures_per_image"
VERDICT_TAGS = ("lorasweep.verdict", "lorasweep.done_at", "lorasweep.burned_at")
MOST_AXES = 8  # of the parallel coordinates; more are not read
# Sections of the charts, from top to bottom.
PICTURES, RESULTS, SETTINGS, CURVES = "pictures", "results", "settings", "curves"


@dataclass(frozen=True, kw_only=True)
class View:
    """What a sweep's view shows.

    Attributes:
        sweep: the sweep's name, which is also the view's.
        metric, goal: order the table, best first; `goal` is "maximize" or "minimize".
        params: columns, most telling first.
        axes: of the parallel coordinates: those params that every run has, or its line would be left out.
        tags: columns after the metrics.
        picture_keys: of the image grid, one column per prompt.
        grid_step: where the image grid's slider stands at first.
    """

    sweep: str
    metric: str
    goal: str
    params: Sequence[str]
    axes: Sequence[str]
    tags: Sequence[str]
    picture_keys: Sequence[str]
    grid_step: int


def sweep_view(sweep: SweepFiles, trials: Iterable[RunContent]) -> View:
    """Derive a sweep's view from what its runs show: the params that differ, the pictures that exist."""
    contents = list(trials)
    pictures = [picture for content in contents for picture in content.pictures]
    keys = list(dict.fromkeys([*HEADLINE, *(key for content in contents for key in content.params)]))
    values = {key: {content.params.get(key) for content in contents} for key in keys}
    telling = [key for key in keys if len(values[key]) > 1]
    all_went_well = all(content.status in ("FINISHED", "RUNNING") for content in contents)
    return View(
        sweep=sweep.name,
        metric=str(sweep.manifest.get("metric") or UTILITY),
        goal=str(sweep.manifest.get("goal") or "maximize"),
        params=telling,
        axes=[key for key in telling if None not in values[key]][:MOST_AXES],
        tags=VERDICT_TAGS if all_went_well else ("lorasweep.status", *VERDICT_TAGS),
        picture_keys=list(dict.fromkeys(picture.key for picture in pictures)),
        grid_step=_grid_step(contents),
    )


def _grid_step(contents: Sequence[RunContent]) -> int:
    """The last step at which every run has a picture, so that the grid opens without holes; else the last."""
    steps = [{picture.step for picture in content.pictures} for content in contents if content.pictures]
    if not steps:
        return 0
    return max(set.intersection(*steps) or set.union(*steps))


def share_key(sweep: str) -> str:
    """The view's id: the sweep's name in characters that a tag and an address allow."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", sweep)


def page(experiment_id: str, sweep: str, *, charts: bool) -> str:
    """The view's place in the UI, after the server's address: its charts, or its table."""
    query = {"viewStateShareKey": share_key(sweep), "workflowType": "machine_learning"}
    if charts:
        query["compareRunsMode"] = "CHART"
    return f"#/experiments/{experiment_id}/runs?{urlencode(query)}"


def envelope(view: View, *, created_ms: int) -> str:
    """The tag's value; compressed as the UI does, because MLflow limits tags to 5000 characters."""
    text = json.dumps(_state(view), separators=(",", ":"))
    packed = "deflate;" + base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    return json.dumps({"name": view.sweep, "createdAt": created_ms, "updatedAt": created_ms, "state": packed})


def is_persons_own(value: str) -> bool:
    """Whether somebody saved changes over the view, which are then left alone."""
    try:
        data = json.loads(value)
        return bool(data["createdAt"] != data["updatedAt"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return True


def _state(view: View) -> dict[str, Any]:
    metrics = list(dict.fromkeys((view.metric, UTILITY, IDENTITY, SCORE)))
    columns = [
        *(f"metrics.`{name}`" for name in metrics),
        *(f"tags.`{name}`" for name in view.tags),
        *(f"params.`{name}`" for name in view.params),
        "attributes.`Duration`",
    ]
    return {
        # Any order but by time shows the trials flat, without their parent.
        "orderByKey": f"metrics.`{view.metric}`",
        "orderByAsc": view.goal == "minimize",
        "searchFilter": f"tags.`lorasweep.sweep` = '{view.sweep}' and tags.`lorasweep.arm` != ''",
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {column: 140 if column.startswith("tags") else 120 for column in columns},
        "compareRunCharts": [
            _pictures(view),
            *_single_pictures(view),
            *(_bar(name) for name in metrics),
            _scatter(),
            *_parallel(view),
            *(_line(name) for name in metrics),
        ],
        "compareRunSections": _sections(view),
        "isAccordionReordered": True,  # keep our order of sections
        "hideEmptyCharts": True,
    }


def _sections(view: View) -> list[dict[str, Any]]:
    return [
        _section(PICTURES, "Samples at the weight that counts", columns=1, height_px=820),
        _section(RESULTS, "What came out: the checkpoint that each recipe kept", columns=2, height_px=330),
        *([_section(SETTINGS, "Settings against what came out", columns=1, height_px=420)] if view.axes else []),
        _section(CURVES, "How each cooked: over exposures per image", columns=3, height_px=360),
    ]


def _pictures(view: View) -> dict[str, Any]:
    return {
        **_card("IMAGE", "lorasweep-pictures", PICTURES),
        "imageKeys": list(view.picture_keys),
        "step": view.grid_step,
        "showRunParams": False,
    }


def _single_pictures(view: View) -> list[dict[str, Any]]:
    """The cards that the UI would add for each key, taken out: the grid has them all."""
    return [
        {**_card("IMAGE", f"lorasweep-{key}", PICTURES), "imageKeys": [key], "deleted": True}
        for key in view.picture_keys
    ]


def _bar(metric: str) -> dict[str, Any]:
    return {**_card("BAR", f"lorasweep-bar-{metric}", RESULTS), "metricKey": metric, "displayName": metric}


def _scatter() -> dict[str, Any]:
    """The trade-off: identity against overcooking; best is the top left."""
    return {
        **_card("SCATTER", "lorasweep-trade", RESULTS),
        "xaxis": {"key": SCORE, "type": "METRIC"},
        "yaxis": {"key": IDENTITY, "type": "METRIC"},
        "runsCountToCompare": 100,
    }


def _parallel(view: View) -> list[dict[str, Any]]:
    """Params against the metric, when any param differs."""
    card = {
        **_card("PARALLEL", "lorasweep-parallel", SETTINGS),
        "selectedParams": list(view.axes),
        "selectedMetrics": [view.metric],
        "showAllRuns": False,
    }
    return [card] if view.axes else []


def _line(metric: str) -> dict[str, Any]:
    """A curve over exposures: overcooking follows them, whatever the batch."""
    bounded = metric in (UTILITY, SCORE, IDENTITY)
    return {
        **_card("LINE", f"lorasweep-{metric}", CURVES),
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


def _card(kind: str, uuid: str, section: str) -> dict[str, Any]:
    return {
        "type": kind,
        "uuid": uuid,
        "metricSectionId": section,
        "runsCountToCompare": 10,
        "deleted": False,
        "isGenerated": True,
    }


def _section(uuid: str, name: str, *, columns: int, height_px: int) -> dict[str, Any]:
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
