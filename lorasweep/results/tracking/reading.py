"""Read what a sweep folder holds, tolerating what is not there yet: a mirror is often ahead of the writer.

    outputs/<sweep>/{sweep.yaml, leaderboard.json, <trial>/...}  ->  SweepFiles, TrialFiles

A file that is absent reads as empty, and so does one that cannot be parsed or was changed into something else, which
`damage` names: its writer replaces it whole. Knows nothing about mlflow.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasweep.core import files
from lorasweep.core.records import Status, to_dict
from lorasweep.core.run_folder import (
    ADAPTER_FILE,
    EVENTS_FILE,
    INDEX_FILE,
    LEADERBOARD_FILE,
    MIRROR_ID_FILE,
    NO_INDEX,
    PLAN_FILE,
    PROVENANCE_FILE,
    RECIPE_FILE,
    RESULT_FILE,
    STATUS_FILE,
    RunFolder,
    SweepFolder,
    pictures_in,
    raters,
    ratings_file,
    steps_in,
)
from lorasweep.results.ratings import Rated, read_rated
from lorasweep.sweep.manifest import read_manifest

# What decides a run's content; when none of them changed, the run is not read again.
_TRIAL_FILES = (
    STATUS_FILE, EVENTS_FILE, RESULT_FILE, RECIPE_FILE, PLAN_FILE, PROVENANCE_FILE, ADAPTER_FILE,
)  # fmt: skip
Pictures = Sequence[tuple[Path, Mapping[str, Any]]]  # each one's file, and what was asked for it
_TO_PROMPTS = ("dataset", "captions", "base")  # of a recipe: what prompts are written from
_OF_IMAGE = {"file": str, "split": str, "sha256": str, "caption": str, "repeats": int}  # what is read of a plan's


@dataclass(frozen=True)
class SweepFiles:
    """A sweep folder as it was when it was read."""

    folder: Path
    identity: str  # of this folder for its whole life, wherever it is moved; a folder made anew has a new one
    manifest: Mapping[str, Any]
    leaderboard: Mapping[str, Any]
    trials: tuple[Path, ...]  # run folders, by name
    rated: Sequence[Rated] = ()  # what people said of its arms
    damage: str = ""  # what is not read, and why

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.folder.name

    def arm(self, name: str) -> dict[str, Any]:
        """Return the manifest's entry of an arm; empty for a single `train` run."""
        return next((dict(arm) for arm in self.manifest.get("arms") or () if arm.get("name") == name), {})

    @property
    def shares_prompts(self) -> bool:
        """Tell whether all trials draw the same prompts, as far as is declared; single runs may be of anything."""
        space = self.manifest.get("space") or ()
        arms = [arm for arm in self.manifest.get("arms") or () if arm.get("recipe")]  # points of the space have none
        beside = [str(override) for arm in arms for override in arm.get("overrides") or ()] if space else []
        told = {re.split(r"\W", text.lstrip("+~"), maxsplit=1)[0] for text in (*space, *beside)}
        same = all(each["recipe"].get(part) == arms[0]["recipe"].get(part) for each in arms for part in _TO_PROMPTS)
        return bool(space or arms) and same and told.isdisjoint(_TO_PROMPTS)

    @property
    def declared(self) -> int:
        """How many trials there will be; as many as there are now when nothing declares it."""
        known = len(self.manifest.get("trials") or self.trials)
        return max(known, int(self.manifest.get("total") or 0))

    def rank(self, number: Any) -> int | None:
        """Return a trial's place on the leaderboard, from 1; None when it has none."""
        rank = self._rows().get(number, {}).get("rank")
        return None if rank is None else int(rank)

    def is_on_front(self, arm: Any) -> bool:
        """Tell whether an arm is one that no other beats in all objectives; none is where there is one objective."""
        rows = self.leaderboard.get("arms")
        rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        return any(row.get("front") for row in rows if row.get("arm") == arm)

    def is_ranked(self, trials: Iterable[TrialFiles]) -> bool:
        """Tell whether the leaderboard knows how each trial ended: it is written a little later than they are."""
        rows = self._rows()
        told = [(rows.get(trial.status.get("number")), trial.status.get("status")) for trial in trials]
        return all(row is not None and row.get("status", status) == status for row, status in told)

    def _rows(self) -> dict[Any, Mapping[str, Any]]:
        """Return the leaderboard by trials' numbers."""
        return {row.get("number"): row for row in self.leaderboard.get("trials", ())}


@dataclass(frozen=True)
class TrialFiles:
    """A run folder as it was when it was read."""

    folder: Path
    signature: tuple[tuple[int, int], ...]  # from before the files were read
    status: Mapping[str, Any]
    recipe: Mapping[str, Any]
    plan: Mapping[str, Any]
    result: Mapping[str, Any]  # metrics.json
    provenance: Mapping[str, Any]
    events: tuple[Mapping[str, Any], ...]
    pictures: Mapping[int, Pictures]  # step -> what its index holds
    rated: Sequence[Rated] = ()  # what people said of its steps
    damage: str = ""  # what is not read, and why

    @property
    def state(self) -> Status:
        """Where the trial stands; WAITING when nobody has said."""
        return Status(self.status.get("status", Status.WAITING))

    @property
    def verdict(self) -> Mapping[str, Any]:
        """What the score says in words; may be empty."""
        verdict: Mapping[str, Any] = self.result["verdict"]
        return verdict


def read_sweep(folder: Path) -> SweepFiles:
    """Read a sweep folder; its identity is made on the first call.

    Raises:
        OSError: the folder does not exist or cannot be written.
        ConfigError: its sweep.yaml cannot be read.
    """
    manifest = read_manifest(folder)
    lost = "ranks and the best adapter are left out; the sweep's command writes it anew"
    leaderboard, damage = _read(folder / LEADERBOARD_FILE, _is_leaderboard, lost)
    return SweepFiles(
        folder=folder,
        identity=_identity(folder),
        manifest={} if manifest is None else to_dict(manifest),
        leaderboard=leaderboard,
        trials=tuple(run.path for run in SweepFolder(folder).runs),
        rated=() if manifest is None else read_rated(folder),
        damage=damage,
    )


def _read(file: Path, is_whole: Callable[[Mapping[str, Any]], bool], lost: str) -> tuple[Mapping[str, Any], str]:
    """Read what a writer replaces whole; where it is something else, nothing, and a sentence with what is lost."""
    there, data = file.exists(), files.read_object(file)
    damaged = there and not is_whole(data)
    return ({}, f"{file.name} was cut or changed by hand: {lost}") if damaged else (data, "")


def _is_leaderboard(data: Mapping[str, Any]) -> bool:
    """Tell whether a leaderboard has what is read of it."""
    rows, noise = data.get("trials"), data.get("noise") or {"best": "", "tied_with_best": []}
    return (
        isinstance(rows, list)
        and all(isinstance(row, dict) and isinstance(row.get("number"), int) for row in rows)
        and all(isinstance(row.get("rank"), int | None) for row in rows)
        and isinstance(noise, dict)
        and isinstance(noise.get("best"), str)
        and isinstance(noise.get("tied_with_best"), list)
    )


def read_trial(folder: Path) -> TrialFiles:
    """Read a run folder."""
    run, before = RunFolder(folder), signature(folder)
    plan, damage = _read(folder / PLAN_FILE, _is_plan, "its images and prompts are left out")
    events = tuple(run.events())
    pictures, lost = _pictures(run)  # after the events, which announce them
    damage = damage or lost
    return TrialFiles(
        folder=folder,
        signature=before,
        status=run.status if run.record else {},
        recipe=run.recipe,
        plan=plan,
        result=run.result,
        provenance=run.provenance,
        events=events,
        pictures=pictures,
        rated=read_rated(folder),
        damage=f"{folder.name}: {damage}" if damage else "",
    )


def _pictures(run: RunFolder) -> tuple[Mapping[int, Pictures], str]:
    """Read the pictures of each step, and say which index is damaged."""
    found: dict[int, Pictures] = {}
    damage = ""
    for step in steps_in(run.samples()):
        try:
            found[step] = pictures_in(run.samples(step))
        except FileNotFoundError:
            continue
        except NO_INDEX:
            index = (run.samples(step) / INDEX_FILE).relative_to(run.path).as_posix()
            damage = damage or f"{index} was cut or changed by hand: its pictures are left out"
    return found, damage


def _is_plan(data: Mapping[str, Any]) -> bool:
    """Tell whether a plan has what is read of it."""
    images, prompts = data.get("images") or [], data.get("prompts") or {}
    return (
        bool(data)
        and isinstance(images, list)
        and all(isinstance(image, dict) for image in images)
        and all(type(image.get(key)) is kind for image in images for key, kind in _OF_IMAGE.items())
        and isinstance(prompts, dict)
        and all(isinstance(texts, list) and {*map(type, texts)} <= {str} for texts in prompts.values())
    )


def signature(trial_folder: Path) -> tuple[tuple[int, int], ...]:
    """Return sizes and times of a run folder's files; equal ones mean that nothing changed."""
    found = []
    books = [ratings_file(trial_folder, rater) for rater in raters(trial_folder)]
    for file in (*(trial_folder / name for name in _TRIAL_FILES), *books):
        try:
            stat = os.stat(file)
            found.append((stat.st_size, stat.st_mtime_ns))
        except FileNotFoundError:
            found.append((-1, -1))
    return tuple(found)


def _identity(folder: Path) -> str:
    """Read which sweep it is, and note what it is called now; a copy of one that lies beside it is another."""
    path = folder / MIRROR_ID_FILE
    known, name = _noted(path)
    namesake = folder.parent / name  # may be this very folder: by a link, or where capitals are not told apart
    if not known or (name and known == _noted(namesake / MIRROR_ID_FILE)[0] and not namesake.samefile(folder)):
        known = uuid.uuid4().hex
    if name != folder.name:
        files.write_atomic(path, lambda temporary: temporary.write_bytes(os.fsencode(f"{known}\n{folder.name}\n")))
    return known


def _noted(path: Path) -> tuple[str, str]:
    """Read the identity of a folder and what it was called; empty where there is none that can be read."""
    try:
        known, _, name = os.fsdecode(path.read_bytes()).partition("\n")
    except (FileNotFoundError, NotADirectoryError):
        return "", ""
    return (known, name.removesuffix("\n")) if re.fullmatch("[0-9a-f]{32}", known) else ("", "")
