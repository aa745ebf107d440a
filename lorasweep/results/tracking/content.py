"""What one MLflow run should show, as plain records: a function of the files on disk, nothing else.

    run folder  ->  RunContent  ->  `push`

Knows nothing about mlflow, nor about what a store already holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

DatasetUse = Literal["training", "held_out"]
RunStatus = Literal["SCHEDULED", "RUNNING", "FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One number at one step; `time_ms` comes from the files, so that reading twice gives equal points."""

    key: str
    value: float  # finite
    step: int
    time_ms: int


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image of MLflow's image grid, which lines up runs by `key` and moves through `step`."""

    file: Path
    key: str
    step: int
    time_ms: int


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A file and the folder that holds it among the run's artifacts ("" is their root)."""

    file: Path
    folder: str = ""


@dataclass(frozen=True, kw_only=True)
class DatasetLabel:
    """The images that a run was trained on or judged by, as MLflow's "Dataset" column shows them."""

    use: DatasetUse  # MLflow's context
    name: str
    digest: str  # at most 36 characters
    source: str


@dataclass(frozen=True, kw_only=True)
class RunContent:
    """One MLflow run.

    Attributes:
        key: says which sweep and trial this is, the same for ever; how a run is found again.
        name: for people.
        status: MLflow's own word.
        started_ms, ended_ms: None when it has not happened.
        tags, params: MLflow's; when a param gets another value, the run is made anew.
        points: by stream; within a stream steps ascend, and all points of a step are known at once.
        pictures: ascending steps.
        artifacts: sent again when the file changes.
        datasets: one per use at most; none when there is no plan to read them from.
    """

    key: str
    name: str
    status: RunStatus
    started_ms: int | None = None
    ended_ms: int | None = None
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    points: dict[str, tuple[Point, ...]] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    datasets: tuple[DatasetLabel, ...] = ()
