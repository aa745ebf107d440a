"""Bring one MLflow run to what its files say, sending only what is missing: RunContent -> store.

Every sending may be interrupted anywhere and done again: MLflow replaces tags and artifacts, and keeps equal
params, points and datasets once. Only pictures would be doubled. A run that died while pictures were sent, or
that contradicts the files in what MLflow cannot change, is deleted and made anew: the files are the truth.
Knows nothing about sweeps or run folders.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from lorasweep.core import files
from lorasweep.core.records import digest
from lorasweep.results.tracking.content import RETOLD, Artifact, DatasetLabel, RunContent
from lorasweep.results.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput


KEY_TAG = "lorasweep.key"
BATCH = {"metrics": 900, "params": 90, "tags": 90}  # MLflow takes 1000 and 100 at once
TAG_CHARACTERS = 5000  # MLflow's limit for tags is 8000 bytes
TERMINAL = ("FINISHED", "FAILED", "KILLED")


@dataclass(frozen=True)
class Pushed:
    """What a push did."""

    run_id: str
    created: bool
    sent: bool  # anything at all


class Pusher:
    """Pushes contents into one store. Not shared between threads."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._client = store.client
        self._there: set[tuple[str, str]] = set()  # runs, with their keys, that were looked up once
        self._looked: set[str] = set()  # runs whose points were

    def ensure(self, content: RunContent, state_file: Path, *, parent_id: str | None = None) -> tuple[SyncState, bool]:
        """Find the run that mirrors a content, or make it; returns what it was sent, and whether it is new."""
        state = read_state(state_file)
        if state is not None and self._holds(state, content):
            return state, False
        for doubtful in self._client.search_runs(
            [self.store.experiment_id], filter_string=f"tags.`{KEY_TAG}` = '{content.key}'"
        ):
            self._client.delete_run(doubtful.info.run_id)
        tags = {KEY_TAG: content.key} | ({"mlflow.parentRunId": parent_id} if parent_id else {})
        run = self._client.create_run(
            self.store.experiment_id, start_time=content.started_ms, tags=tags, run_name=content.name
        )
        state = SyncState(run_id=run.info.run_id, experiment_id=run.info.experiment_id, tracking_uri=self.store.shown)
        state.write(state_file)
        self._there.add((state.run_id, content.key))
        self._looked.add(state.run_id)
        return state, True

    def push(self, content: RunContent, state_file: Path, *, parent_id: str | None = None) -> Pushed:
        """Send what the run lacks; a terminal status goes last, so that FINISHED means that all is there.

        `state_file` is the `mlflow.json` beside the files; `parent_id` the MLflow run of a trial's sweep.
        """
        state, created = self.ensure(content, state_file, parent_id=parent_id)
        before = copy.deepcopy(state)
        try:
            self._push_status(content, state, terminal=False)
            self._push_words(content, state, parent_id)
            self._push_params(content, state)
            self._push_datasets(content, state)
            self._push_points(content, state)
            self._push_artifacts(content, state)
            self._push_pictures(content, state, state_file)  # last: where a store takes no files, none is on its way
            self._push_status(content, state, terminal=True)
        finally:
            if sent := state != before:
                state.write(state_file)
        return Pushed(state.run_id, created, sent or created)

    # ----------------------------------------------------------------------------------------- the run

    def _holds(self, state: SyncState, content: RunContent) -> bool:
        """Tell whether the run of a state can be brought to a content."""
        changed = any(content.params.get(key, value) != value for key, value in state.params.items())
        if not state.whole or changed or state.tracking_uri != self.store.shown:
            return False
        if content.status in TERMINAL and _changed(content, state):
            return False  # it was judged anew; while that goes on for others, the sweep's run waits
        if _called_otherwise(content, state):
            return False
        known = (state.run_id, content.key)
        if known not in self._there and self._is_ours(*known):
            self._there.add(known)
        return known in self._there

    def _is_ours(self, run_id: str, key: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise
        return run.info.lifecycle_stage == "active" and run.data.tags.get(KEY_TAG) == key

    def _push_status(self, content: RunContent, state: SyncState, *, terminal: bool) -> None:
        if content.status == state.status or (content.status in TERMINAL) != terminal:
            return
        if terminal:
            self._client.set_terminated(state.run_id, content.status, end_time=content.ended_ms)
        else:
            self._client.update_run(state.run_id, status=content.status)
        state.status = content.status

    # ------------------------------------------------------------------------------------- what it holds

    def _log(self, state: SyncState, kind: str, found: Sequence[object]) -> None:
        for start in range(0, len(found), BATCH[kind]):
            batch: dict[str, Any] = {kind: found[start : start + BATCH[kind]]}
            self._client.log_batch(state.run_id, **batch)

    def _push_words(self, content: RunContent, state: SyncState, parent_id: str | None) -> None:
        from mlflow.entities import RunTag

        if content.name != state.name:
            self._client.update_run(state.run_id, name=content.name)
            state.name = content.name
        wanted = {key: value[:TAG_CHARACTERS] for key, value in content.tags.items()}
        if parent_id:
            wanted["mlflow.parentRunId"] = parent_id
        changed = [RunTag(key, value) for key, value in wanted.items() if state.tags.get(key) != value]
        self._log(state, "tags", changed)
        for key in state.tags.keys() - wanted.keys():
            self._client.delete_tag(state.run_id, key)
        state.tags = wanted

    def _push_params(self, content: RunContent, state: SyncState) -> None:
        from mlflow.entities import Param

        new = [Param(key, value) for key, value in content.params.items() if key not in state.params]
        self._log(state, "params", new)
        state.params |= {param.key: param.value for param in new}

    def _push_datasets(self, content: RunContent, state: SyncState) -> None:
        unsent = [label for label in content.datasets if state.datasets.get(label.use) != label.digest]
        if unsent:
            self._client.log_inputs(state.run_id, [_dataset_input(label) for label in unsent])
            state.datasets |= {label.use: label.digest for label in unsent}

    def _push_points(self, content: RunContent, state: SyncState) -> None:
        from mlflow.entities import Metric

        changed = _changed(content, state)
        unsent = [
            (stream, point)
            for stream, points in content.points.items()
            for point in points
            if point.step > state.points.get(stream, -1)
        ]
        there = self._unnoted(state.run_id, {point.key for stream, point in unsent if stream in RETOLD})
        lacking = [point for _, point in unsent if (point.key, point.step) not in there]
        self._log(state, "metrics", [Metric(each.key, each.value, each.time_ms, each.step) for each in lacking])
        for stream, points in content.points.items():
            if points:  # never back: the steps of a log that was cut come again, at other times
                state.points[stream] = max(points[-1].step, state.points.get(stream, -1))
        state.told |= {stream: told for stream, told in _told(content, state).items() if stream not in changed}

    def _unnoted(self, run_id: str, keys: Collection[str]) -> set[tuple[str, int]]:
        """Find what a mirror sent and died before it could note: told again, it has other times. Once for each run."""
        if run_id in self._looked:
            return set()
        self._looked.add(run_id)
        return {(key, point.step) for key in keys for point in self._client.get_metric_history(run_id, key)}

    def _push_artifacts(self, content: RunContent, state: SyncState) -> None:
        for artifact in content.artifacts:
            name, stamp = _stamped(artifact)
            if state.artifacts.get(name) != stamp:
                self._client.log_artifact(state.run_id, str(artifact.file), artifact.folder or None)
                state.artifacts[name] = stamp

    def _push_pictures(self, content: RunContent, state: SyncState, state_file: Path) -> None:
        # All are read first: what cannot be read leaves nothing half sent.
        unsent = [(picture, _opened(picture.file)) for picture in content.pictures if picture.step > _last(state)]
        if not unsent:
            return
        state.whole = False
        state.write(state_file)
        for picture, image in unsent:
            self._client.log_image(
                state.run_id,
                image,
                key=picture.key,
                step=picture.step,
                timestamp=picture.time_ms,
                synchronous=True,  # the default loses images when the process ends
            )
        state.pictures = unsent[-1][0].step
        state.picture_keys = sorted({*state.picture_keys, *(picture.key for picture, _ in unsent)})
        state.whole = True


def _told(content: RunContent, state: SyncState) -> dict[str, str]:
    """Digest, by stream, what was sent of a content's points but for those that a resumed trial tells anew."""
    found = {}
    for stream, points in content.points.items():
        sent = [(point.key, point.value, point.step) for point in points if point.step <= state.points.get(stream, -1)]
        if sent and stream not in RETOLD:
            found[stream] = digest(sorted(sent))
    return found


def _changed(content: RunContent, state: SyncState) -> set[str]:
    """Return the streams of which something else was sent than they say now; MLflow forgets no point."""
    return {stream for stream, told in _told(content, state).items() if state.told.get(stream, told) != told}


def _called_otherwise(content: RunContent, state: SyncState) -> bool:
    """Tell whether pictures were sent under other keys than they have now, by which the grid lines them up.

    Until 2026-11-30 keys had no prompts, and no mark told them.
    """
    sent = {picture.key for picture in content.pictures if picture.step <= _last(state)}
    return any(key not in state.picture_keys and (state.picture_keys or " " in key) for key in sent)


def _last(state: SyncState) -> int:
    return -1 if state.pictures is None else state.pictures


def _opened(file: Path) -> Image.Image:
    with Image.open(file) as image:
        return image.convert("RGB")


def _dataset_input(label: DatasetLabel) -> DatasetInput:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps({"uri": label.source})
    dataset = Dataset(name=label.name, digest=label.digest, source_type="local", source=source)
    return DatasetInput(dataset, tags=[InputTag("mlflow.data.context", label.use)])


def _stamped(artifact: Artifact) -> tuple[str, list[int]]:
    stat = artifact.file.stat()
    folder = f"{artifact.folder}/" if artifact.folder else ""
    return folder + artifact.file.name, [stat.st_size, stat.st_mtime_ns]


@dataclass(kw_only=True)
class SyncState:
    """What one run was sent; may be behind the store (a kill in between) but never ahead of it.

    Attributes:
        run_id, experiment_id, tracking_uri: where; the address without its secrets.
        name, status, tags, params: as last sent.
        artifacts: by path among the artifacts, size and modification time of the file that was sent.
    """

    run_id: str
    experiment_id: str
    tracking_uri: str
    whole: bool = True  # false while pictures are on their way: the one thing that a second sending would double
    name: str | None = None
    status: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    datasets: dict[str, str] = field(default_factory=dict)  # by use, the digest that was sent
    points: dict[str, int] = field(default_factory=dict)  # by stream, the last step whose points were sent
    told: dict[str, str] = field(default_factory=dict)  # by stream, a digest of these points
    pictures: int | None = None  # the last step whose pictures were sent, or None
    picture_keys: list[str] = field(default_factory=list)  # under which
    artifacts: dict[str, list[int]] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write atomically."""
        data = asdict(self)
        whereabouts = {key: data.pop(key) for key in ("run_id", "experiment_id", "tracking_uri")}
        files.write_json(path, {**whereabouts, "mirrored": data})


def read_state(path: Path) -> SyncState | None:
    """Read a state; None when there is none that can be read, as if nothing was mirrored."""
    try:
        data: dict[str, Any] = files.read_json(path)
        return SyncState(**{key: value for key, value in data.items() if key != "mirrored"}, **data["mirrored"])
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None
