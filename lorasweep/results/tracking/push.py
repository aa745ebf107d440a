"""Bring one MLflow run to what its files say, sending only what is missing: RunContent -> store.

Every sending may be interrupted anywhere and done again. Metrics and pictures are the two things that a
repeated sending would double, so a mark that this process did not write itself is first compared with what
the store holds. Knows nothing about sweeps or run folders.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from lorasweep.core.errors import LorasweepError
from lorasweep.results.tracking.content import Artifact, DatasetLabel, Picture, Point, RunContent
from lorasweep.results.tracking.store import Store
from lorasweep.results.tracking.sync_state import Mark, read_mark
from lorasweep.results.tracking.view import TAG_PREFIX, View, envelope, is_persons_own, share_key

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Run

KEY_TAG = "lorasweep.key"
POINTS_PER_BATCH = 900  # MLflow takes 1000 metrics at once
KEYS_PER_BATCH = 90  # and 100 params or tags
TAG_CHARACTERS = 5000  # MLflow's limit for tags is 8000 bytes
TERMINAL = ("FINISHED", "FAILED", "KILLED")
# How MLflow names the two files of a logged image.
_PICTURE_FILE = re.compile(r"(?P<key>.+)\+step\+(?P<step>\d+)\+timestamp\+\d+\+(?P<uuid>[0-9a-f-]+)(?:\+compressed)?")


class ContentChanged(LorasweepError):
    """The files contradict what MLflow already holds and cannot change."""


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
        self._trusted: set[str] = set()  # runs whose marks are known to agree with the store

    def ensure(self, content: RunContent, mark_file: Path, *, parent_id: str | None = None) -> tuple[Mark, bool]:
        """Find or make the run, by its mark or else by its key.

        Returns:
            The mark, and whether the run was made just now.
        """
        mark = read_mark(mark_file)
        if mark is not None and mark.tracking_uri == self.store.shown:
            if mark.run_id in self._trusted or self._is_ours(mark.run_id, content.key):
                return mark, False
        run = self._find(content.key)
        created = run is None
        run = run or self._create(content, parent_id)
        mark = Mark(
            run_id=run.info.run_id,
            experiment_id=run.info.experiment_id,
            tracking_uri=self.store.shown,
            params=dict(run.data.params),
        )
        mark.write(mark_file)
        if created:
            self._trusted.add(mark.run_id)
        return mark, created

    def push(self, content: RunContent, mark_file: Path, *, parent_id: str | None = None) -> Pushed:
        """Send what the run lacks; a terminal status goes last, so that FINISHED means that all is there.

        Args:
            content: what the run should show.
            mark_file: `mlflow.json` beside the files; rewritten after every batch.
            parent_id: MLflow run id of the sweep, for a trial.

        Raises:
            ContentChanged: a param has another value now; everything else was sent.
        """
        mark, created = self.ensure(content, mark_file, parent_id=parent_id)
        trusted = mark.run_id in self._trusted
        self._trusted.discard(mark.run_id)  # until this push is through
        before = repr(mark)
        try:
            self._push_status(content, mark, terminal=False)
            self._push_words(content, mark, parent_id)
            conflict = self._push_params(content, mark)
            self._push_datasets(content, mark)
            for _ in self._push_points(content, mark, trusted=trusted):
                mark.write(mark_file)
            for _ in self._push_pictures(content, mark, trusted=trusted):
                mark.write(mark_file)
            self._push_artifacts(content, mark)
            self._push_status(content, mark, terminal=True)
        finally:
            sent = repr(mark) != before
            if sent:
                mark.write(mark_file)
        self._trusted.add(mark.run_id)
        if conflict:
            raise ContentChanged(conflict)
        return Pushed(mark.run_id, created, sent or created)

    # ----------------------------------------------------------------------------------------- the run

    def _is_ours(self, run_id: str, key: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise
        return run.info.lifecycle_stage == "active" and run.data.tags.get(KEY_TAG) == key

    def _find(self, key: str) -> Run | None:
        found = self._client.search_runs(
            [self.store.experiment_id],
            filter_string=f"tags.`{KEY_TAG}` = '{key}'",
            order_by=["attributes.start_time ASC"],
            max_results=1,
        )
        return found[0] if found else None

    def _create(self, content: RunContent, parent_id: str | None) -> Run:
        tags = {KEY_TAG: content.key} | ({"mlflow.parentRunId": parent_id} if parent_id else {})
        return self._client.create_run(
            self.store.experiment_id, start_time=content.started_ms, tags=tags, run_name=content.name
        )

    def _push_status(self, content: RunContent, mark: Mark, *, terminal: bool) -> None:
        if content.status == mark.status or (content.status in TERMINAL) != terminal:
            return
        if terminal:
            self._client.set_terminated(mark.run_id, content.status, end_time=content.ended_ms)
        else:
            self._client.update_run(mark.run_id, status=content.status)
        mark.status = content.status

    # ------------------------------------------------------------------------------------ words, params

    def _push_words(self, content: RunContent, mark: Mark, parent_id: str | None) -> None:
        from mlflow.entities import RunTag

        if content.name != mark.name:
            self._client.update_run(mark.run_id, name=content.name)
            mark.name = content.name
        wanted = {key: value[:TAG_CHARACTERS] for key, value in content.tags.items()}
        if parent_id:
            wanted["mlflow.parentRunId"] = parent_id
        changed = [RunTag(key, value) for key, value in wanted.items() if mark.tags.get(key) != value]
        for start in range(0, len(changed), KEYS_PER_BATCH):
            self._client.log_batch(mark.run_id, tags=changed[start : start + KEYS_PER_BATCH])
        for key in mark.tags.keys() - wanted.keys():
            self._client.delete_tag(mark.run_id, key)
        mark.tags = wanted

    def _push_params(self, content: RunContent, mark: Mark) -> str:
        """Send new params; returns a sentence about those that contradict, "" when none does."""
        from mlflow.entities import Param

        new = [Param(key, value) for key, value in content.params.items() if key not in mark.params]
        for start in range(0, len(new), KEYS_PER_BATCH):
            self._client.log_batch(mark.run_id, params=new[start : start + KEYS_PER_BATCH])
        mark.params |= {param.key: param.value for param in new}
        changed = [
            f"{key} was {mark.params[key]}, is now {value}"
            for key, value in content.params.items()
            if mark.params[key] != value
        ]
        if not changed:
            return ""
        return f"the recipe changed after it was mirrored ({'; '.join(changed)}); MLflow keeps the old values"

    def _push_datasets(self, content: RunContent, mark: Mark) -> None:
        unsent = [label for label in content.datasets if mark.datasets.get(label.use) != label.digest]
        if not unsent:
            return
        self._client.log_inputs(mark.run_id, [_dataset_input(label) for label in unsent])
        mark.datasets |= {label.use: label.digest for label in unsent}

    # ------------------------------------------------------------------------------------------- points

    def _push_points(self, content: RunContent, mark: Mark, *, trusted: bool) -> Iterator[None]:
        """Send the points above the mark; yields whenever the mark has moved."""
        from mlflow.entities import Metric

        steps = [
            (stream, step, list(points))
            for stream, all_points in content.points.items()
            for step, points in groupby(all_points, key=lambda point: point.step)
            if step > mark.points.get(stream, -1)
        ]
        held = set() if trusted else self._held_points(mark.run_id, steps)
        for batch in _batches(steps):
            metrics = [
                Metric(point.key, point.value, point.time_ms, point.step)
                for stream, _, points in batch
                for point in points
                if (point.key, point.step) not in held
            ]
            if metrics:
                self._client.log_batch(mark.run_id, metrics=metrics)
            mark.points |= {stream: step for stream, step, _ in batch}
            yield

    def _held_points(self, run_id: str, steps: list[tuple[str, int, list[Point]]]) -> set[tuple[str, int]]:
        """List at which steps the store already has these keys; a step is told once."""
        keys = {point.key for _, _, points in steps for point in points}
        return {(key, metric.step) for key in keys for metric in self._client.get_metric_history(run_id, key)}

    # ----------------------------------------------------------------------------------------- pictures

    def _push_pictures(self, content: RunContent, mark: Mark, *, trusted: bool) -> Iterator[None]:
        """Send the pictures above the mark; yields whenever the mark has moved."""
        last = -1 if mark.pictures is None else mark.pictures
        unsent = [picture for picture in content.pictures if picture.step > last]
        held = set() if trusted or not unsent else self._held_pictures(mark.run_id)
        for step, pictures in groupby(unsent, key=lambda picture: picture.step):
            for picture in pictures:
                if (picture.key, picture.step) not in held:
                    self._push_picture(mark.run_id, picture)
            mark.pictures = step
            yield

    def _push_picture(self, run_id: str, picture: Picture) -> None:
        with Image.open(picture.file) as image:
            self._client.log_image(
                run_id,
                image.convert("RGB"),
                key=picture.key,
                step=picture.step,
                timestamp=picture.time_ms,
                synchronous=True,  # the default loses images when the process ends
            )

    def _held_pictures(self, run_id: str) -> set[tuple[str, int]]:
        """List the (key, step) that the store has; one of which a kill left only a half is removed."""
        halves: dict[tuple[str, int, str], list[str]] = defaultdict(list)
        for listed in self._client.list_artifacts(run_id, "images"):
            if match := _PICTURE_FILE.match(Path(listed.path).name):
                halves[match["key"].replace("~", "/"), int(match["step"]), match["uuid"]].append(listed.path)
        whole = {(key, step) for (key, step, _), files in halves.items() if len(files) == 2}
        for files in halves.values():
            if len(files) < 2:
                self._delete_artifact(run_id, files[0])
        return whole

    def _delete_artifact(self, run_id: str, path: str) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        uri = self._client.get_run(run_id).info.artifact_uri
        get_artifact_repository(uri, tracking_uri=self.store.uri).delete_artifacts(path)

    # ---------------------------------------------------------------------------------------- artifacts

    def _push_artifacts(self, content: RunContent, mark: Mark) -> None:
        """Send files that are new or changed; a second sending replaces the first."""
        for artifact in content.artifacts:
            name, stamp = _stamped(artifact)
            if mark.artifacts.get(name) != stamp:
                self._client.log_artifact(mark.run_id, str(artifact.file), artifact.folder or None)
                mark.artifacts[name] = stamp


def push_view(store: Store, view: View, *, created_ms: int) -> None:
    """Save a view of the experiment, unless a person has saved changes over it."""
    key, value = TAG_PREFIX + share_key(view.sweep), envelope(view, created_ms=created_ms)
    held = store.client.get_experiment(store.experiment_id).tags.get(key)
    if held is None or (held != value and not is_persons_own(held)):
        store.client.set_experiment_tag(store.experiment_id, key, value)


def _dataset_input(label: DatasetLabel) -> DatasetInput:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps({"uri": label.source})
    dataset = Dataset(name=label.name, digest=label.digest, source_type="local", source=source)
    return DatasetInput(dataset, tags=[InputTag("mlflow.data.context", label.use)])


def _stamped(artifact: Artifact) -> tuple[str, list[int]]:
    stat = artifact.file.stat()
    folder = f"{artifact.folder}/" if artifact.folder else ""
    return folder + artifact.file.name, [stat.st_size, stat.st_mtime_ns]


def _batches(steps: list[tuple[str, int, list[Point]]]) -> Iterator[list[tuple[str, int, list[Point]]]]:
    """Cut into batches of whole steps, so that the mark can speak of whole steps."""
    batch: list[tuple[str, int, list[Point]]] = []
    count = 0
    for step in steps:
        if batch and count + len(step[2]) > POINTS_PER_BATCH:
            yield batch
            batch, count = [], 0
        batch.append(step)
        count += len(step[2])
    if batch:
        yield batch
