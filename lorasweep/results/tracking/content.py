"""What one MLflow run should show, as plain records: a function of the files on disk, nothing else.

    run folder  ->  RunContent  ->  `push`

    events.jsonl   points over steps (`train/...`, `rung/...`, `system/...`), pictures at rungs
    metrics.json   the trial's own numbers, the verdict
    recipe.yaml    the params that tell this trial from its siblings

Knows nothing about mlflow, nor about what a store already holds.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal
from urllib.parse import quote

from lorasweep.core.records import Status, digest
from lorasweep.core.run_folder import (
    ADAPTER_FILE,
    INDEX_FILE,
    PLAN_FILE,
    PROVENANCE_FILE,
    RECIPE_FILE,
    RESULT_FILE,
    RunFolder,
)
from lorasweep.results import params
from lorasweep.results.ratings import Rated
from lorasweep.results.tracking import notes
from lorasweep.results.tracking.reading import SweepFiles, TrialFiles
from lorasweep.trial.judge.score import IDENTITY, SCORE, UTILITY

DatasetUse = Literal["training", "held_out"]
RunStatus = Literal["SCHEDULED", "RUNNING", "FINISHED", "FAILED", "KILLED"]
RUN_STATUS: dict[Status, RunStatus] = {
    Status.WAITING: "SCHEDULED",
    Status.RUNNING: "RUNNING",
    Status.COMPLETED: "FINISHED",
    Status.PRUNED: "KILLED",
    Status.CANCELLED: "KILLED",
    Status.DIVERGED: "FAILED",
    Status.OUT_OF_MEMORY: "FAILED",
    Status.CRASHED: "FAILED",
    Status.INVALID: "FAILED",
}
# The plan's word for a part of the images -> MLflow's for what they are there for.
DATASETS: dict[str, DatasetUse] = {"train": "training", "held_out": "held_out"}
RETOLD = ("step", "system")  # streams of which a resumed trial tells some steps again, give or take a rounding
HEADLINE = (UTILITY, SCORE, IDENTITY)
PREFIX = {"rung": "rung/", "system": "system/"}  # by kind of event; MLflow has a tab for system/...
PLACE = "lorasweep.place"  # the rank in five digits, since tags are ordered as texts
FINAL = "final"  # stream of the trial's own numbers
KEY_LETTERS = 40  # of a prompt, in the key of the image grid
NAMED_AT_MOST = 40  # prompts: the saved view, which MLflow limits, has all keys
_NOT_IN_KEYS = r"[^A-Za-z0-9_\-. ]"  # of pictures; MLflow allows `/` too, and writes `~` for it
_IN_QUOTES = r"['\\]"
KEPT_STEP = 0  # of the numbers of the checkpoint that was kept
DIGITS = 6  # significant ones
SCORE_DIGITS = 4  # decimals of what overcook/... says, which lies in 0..1 or counts steps
DOCUMENTS = (RECIPE_FILE, PLAN_FILE, RESULT_FILE, PROVENANCE_FILE, ADAPTER_FILE)


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
        started_ms, ended_ms: None when it has not happened.
        tags, params: MLflow's; when a param gets another value, the run is made anew.
        points: by stream; within a stream steps ascend, and all points of a step are known at once.
    """

    key: str  # says which sweep and trial this is, the same for ever; how a run is found again
    name: str  # for people
    status: RunStatus  # MLflow's own word
    started_ms: int | None = None
    ended_ms: int | None = None
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    points: dict[str, tuple[Point, ...]] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()  # ascending steps
    artifacts: tuple[Artifact, ...] = ()  # sent again when the file changes
    datasets: tuple[DatasetLabel, ...] = ()  # one per use at most; none when there is no plan to read them from


def trial_content(trial: TrialFiles, sweep: SweepFiles, telling: Sequence[str]) -> RunContent:
    """Say what MLflow should show of a trial; `telling` are the `params.telling_keys` of its sweep."""
    status = trial.status
    arm = sweep.arm(str(status.get("arm", "")))
    samples = list(_samples(trial, named=sweep.shares_prompts))
    documents = [Artifact(file=trial.folder / name) for name in DOCUMENTS if (trial.folder / name).exists()]
    chosen = params.run_params(trial.recipe, arm, telling) if trial.recipe else {}
    chosen = {metric_key(key): value for key, value in chosen.items()}  # people's tags are keys of replacements
    if "steps" in trial.plan:
        chosen["steps"] = str(trial.plan["steps"])
    chosen |= {name: str(status[key]) for name, key in (("node", "node"), ("gpu", "device")) if status.get(key)}
    return RunContent(
        key=trial_key(sweep, trial),
        name=_name(trial, sweep),
        status=RUN_STATUS[trial.state],
        started_ms=milliseconds(status.get("started_at")),
        ended_ms=milliseconds(status.get("ended_at")) if trial.state.is_final else None,
        tags=_tags(trial, sweep, arm),
        params=chosen,
        points={
            **points(trial),
            **rating_points(trial.rated),
            **rating_points(sweep.rated, arm=str(status.get("arm", ""))),
        },
        pictures=tuple(each for each in samples if isinstance(each, Picture)),
        artifacts=(*documents, *(each for each in samples if isinstance(each, Artifact))),
        datasets=tuple(datasets(trial)),
    )


def trial_key(sweep: SweepFiles, trial: TrialFiles) -> str:
    """Say which folder it is, in words that MLflow's filters take between single quotes: people rename folders."""
    return f"{sweep.identity}/{re.sub(_IN_QUOTES, lambda found: quote(found[0]), trial.folder.name)}"


def milliseconds(time: Any) -> int | None:
    """Turn Unix seconds into milliseconds; None for anything else."""
    return int(time * 1000) if isinstance(time, int | float) else None


def _name(trial: TrialFiles, sweep: SweepFiles) -> str:
    """Return the arm, and the seed when the sweep has several; a single run is named by its folder."""
    arm, seed = trial.status.get("arm"), trial.status.get("seed")
    if not arm or not sweep.manifest:
        return trial.folder.name
    seeds = {each.get("seed") for each in sweep.manifest.get("trials") or ()}
    return f"{arm} seed {seed}" if len(seeds) > 1 else str(arm)


def _tags(trial: TrialFiles, sweep: SweepFiles, arm: Mapping[str, Any]) -> dict[str, str]:
    status, rank = trial.status, sweep.rank(trial.status.get("number"))
    sentence = str(trial.verdict.get("sentence", ""))
    found = {
        "lorasweep.sweep": sweep.name,
        "lorasweep.trial": trial.folder.name,
        "lorasweep.arm": status.get("arm"),
        "lorasweep.status": trial.state.value,
        "lorasweep.fingerprint": status.get("fingerprint"),
        "lorasweep.verdict": trial.verdict.get("state") or sentence,
        **{f"lorasweep.{when}": trial.verdict.get(when) for when in ("done_at", "burned_at")},
        "lorasweep.rank": None if rank is None else str(rank),
        "lorasweep.front": "yes" if rank is not None and sweep.is_on_front(status.get("arm")) else None,
        PLACE: None if rank is None else f"{rank:05d}",
        "lorasweep.reused_from": status.get("reused_from"),
        "lorasweep.retry": str(int(status.get("attempt") or 1) - 1),
        "mlflow.source.name": f"lorasweep sweep {sweep.name}" if sweep.manifest else "lorasweep train",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": (trial.provenance.get("git") or {}).get("commit"),
        "mlflow.note.content": notes.trial_note(
            sweep.name,
            sweep.manifest,
            arm,
            sentence=sentence,
            reason=str(status.get("reason") or ""),
            missing=trial.result.get("missing") or {},
        ),
    }
    return {key: str(value) for key, value in found.items() if value not in (None, "")}


# ---------------------------------------------------------------------------------------------- points


def points(trial: TrialFiles) -> dict[str, tuple[Point, ...]]:
    """Stream the numbers: one stream per kind of event, and the final metrics of a trial that is over.

    A trial's own numbers are those of the checkpoint that it kept, which need not be its last: they go by
    their plain names, once, at step 0, where MLflow draws bars. What was measured on the way goes by
    `rung/...` over steps, so that no curve ends in a jump back to what was kept.
    """
    streams: dict[str, dict[tuple[str, int], Point]] = {FINAL: {}, "rung": {}, "step": {}, "system": {}}
    for event in trial.events:
        if (kind := event.get("kind")) in streams and kind != FINAL:
            for point in _numbers(_told(event), event["step"], milliseconds(event.get("time")) or 0):
                # A resumed trial repeats steps with equal values: the first telling stands.
                streams[kind].setdefault((point.key, point.step), point)
    if trial.state.is_final:
        ended_ms = milliseconds(trial.status.get("ended_at")) or 0
        kept = trial.result.get("metrics") or {}
        # What is sent first is what "Compare" draws before anybody chooses.
        kept = {name: kept[name] for name in HEADLINE if name in kept} | kept
        for point in _numbers(kept, KEPT_STEP, ended_ms):
            streams[FINAL][point.key, point.step] = point
    return {
        name: tuple(sorted(stream.values(), key=lambda point: point.step)) for name, stream in streams.items() if stream
    }


def rating_points(rated: Iterable[Rated], *, arm: str | None = None) -> dict[str, tuple[Point, ...]]:
    """Stream what came of each person's ratings, over the lines of their answers, which only grow.

    Told of an `arm` is its strength; of None, how often each number makes the choice that the person made.
    """
    streams = {}
    for each in rated:
        found = [(f"agreement/{said.metric}", said.share) for said in each.agreements]
        if arm is not None:
            found = [("strength", one.strength) for one in each.standings if one.item == arm]
        what = "agreement" if arm is None else "strength"
        streams[f"{what} by {each.rater}"] = tuple(
            Point(
                key=metric_key(f"rating/{each.rater}/{name}"),
                value=round(value, SCORE_DIGITS),
                step=each.lines,
                time_ms=each.time_ms,
            )
            for name, value in found
        )
    return {name: stream for name, stream in streams.items() if stream}


def _told(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an event measured, by the names that it has in MLflow."""
    measured = dict(event.get("metrics") or {})
    if event["kind"] == "rung":
        measured["exposures_per_image"] = event.get("exposures_per_image")
    prefix = PREFIX.get(event["kind"], "")
    return {prefix + key: value for key, value in measured.items()}


def _numbers(metrics: Mapping[str, Any], step: int, time_ms: int) -> Iterator[Point]:
    for key, value in metrics.items():
        if isinstance(value, int | float) and math.isfinite(value):
            yield Point(key=metric_key(key), value=legible(key, value), step=int(step), time_ms=time_ms)


def legible(key: str, value: float) -> float:
    """Round to what a table's column shows and a chart may tell apart; the run folder has every digit.

    A score of 9.15234243947e-07 would be cut to "9.15234...", and a chart of such scores, all zero to anyone,
    would draw mountains.
    """
    if key.removeprefix(PREFIX["rung"]).startswith("overcook/"):
        return round(float(value), SCORE_DIGITS)
    return float(value) if float(value).is_integer() else float(f"{value:.{DIGITS}g}")


def metric_key(name: str) -> str:
    """Replace what MLflow does not allow in the name of a metric or a param."""
    return re.sub(r"[^A-Za-z0-9_\-./ ]", "_", name)


# -------------------------------------------------------------------------------------------- pictures


def _samples(trial: TrialFiles, *, named: bool) -> Iterator[Picture | Artifact]:
    """List what the indexes hold that the events announce, by step, each once; one that is gone shows nothing.

    A picture per prompt goes to the grid: at the judged weight, from the first seed. All others are artifacts.
    `named`: whether keys have the words of prompts that are not many; else they line up by tier and number alone.
    """
    weight = (trial.recipe.get("sample") or {}).get("weight", 0.7)
    announced = {e["step"]: e for e in reversed(trial.events) if e.get("kind") == "samples"}
    for step in sorted(announced.keys() & trial.pictures.keys()):
        entries, time_ms = trial.pictures[step], milliseconds(announced[step].get("time")) or 0
        path = RunFolder(trial.folder).samples(step)
        folder = path.relative_to(trial.folder).as_posix()
        yield Artifact(file=path / INDEX_FILE, folder=folder)
        seed = next((entry["seed"] for _, entry in entries if entry["weight"] == weight), None)
        named = named and len({(entry["tier"], entry["prompt"]) for _, entry in entries}) <= NAMED_AT_MOST
        places: dict[str, dict[str, int]] = defaultdict(dict)  # tier -> prompt -> place
        for file, entry in entries:
            tier = entry["tier"]
            place = places[tier].setdefault(entry["prompt"], len(places[tier]))
            if entry["weight"] == weight and entry["seed"] == seed:
                said = re.sub(_NOT_IN_KEYS, "", str(entry["prompt"])) if named else ""
                key = f"{tier}_{place} {shorten(said, KEY_LETTERS, placeholder='...')}".strip()
                yield Picture(file=file, key=key, step=step, time_ms=time_ms)
            else:
                yield Artifact(file=file, folder=folder)


def datasets(trial: TrialFiles) -> Iterator[DatasetLabel]:
    """Return the images that were trained on and those that only judged, each part with a digest of its own."""
    options = trial.recipe.get("dataset") or {}
    path = options.get("path")
    subject = (options.get("dollhouse") or {}).get("subject", "")
    for split, use in DATASETS.items():
        images = [image for image in trial.plan.get("images") or () if image.get("split") == split]
        if images:
            seen = sorted((image["sha256"], image["caption"], image["repeats"]) for image in images)
            yield DatasetLabel(
                use=use,
                name=Path(str(path)).name if path else f"dollhouse {subject}".strip(),
                digest=digest(seen)[:8],
                source=str(path or Path(images[0]["file"]).parent.parent),
            )
