"""Read what a sweep folder holds, tolerating what is not there yet: a mirror is often ahead of the writer.

    outputs/<sweep>/{sweep.yaml, leaderboard.json, <trial>/...}  ->  SweepFiles, TrialFiles

A file that is absent reads as empty, and so does one that cannot be parsed (its writer replaces it whole,
so that is damage, which is for `lorasweep status` to report). Knows nothing about mlflow.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lorasweep.core import files
from lorasweep.core.records import Status

IDENTITY_FILE = ".mirror_id"
MARK_FILE = "mlflow.json"
# What decides a run's content; when none of them changed, the run is not read again.
_TRIAL_FILES = (
    "status.json", "events.jsonl", "metrics.json", "recipe.yaml", "plan.json", "provenance.json",
    "adapter.safetensors",
)  # fmt: skip


@dataclass(frozen=True)
class SweepFiles:
    """A sweep folder as it was when it was read."""

    folder: Path
    identity: str  # of this folder for its whole life, wherever it is moved; a folder made anew has a new one
    manifest: Mapping[str, Any]
    leaderboard: Any
    trials: tuple[Path, ...]  # run folders, by name

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.folder.name

    def arm(self, name: str) -> dict[str, Any]:
        """The manifest's entry of an arm; empty for a single `train` run."""
        return next((dict(arm) for arm in self.manifest.get("arms") or () if arm.get("name") == name), {})

    @property
    def declared(self) -> int:
        """How many trials there will be; as many as there are now when nothing declares it."""
        known = len(self.manifest.get("trials") or self.trials)
        return max(known, int(self.manifest.get("total") or 0))

    def rank(self, number: Any) -> int | None:
        """A trial's place on the leaderboard, from 1; None when it has none."""
        rank = self._rows().get(number, {}).get("rank")
        return None if rank is None else int(rank)

    def is_ranked(self, trials: Iterable[TrialFiles]) -> bool:
        """Whether the leaderboard knows how each trial ended: it is written a little later than they are."""
        rows = self._rows()
        told = [(rows.get(trial.status.get("number")), trial.status.get("status")) for trial in trials]
        return all(row is not None and row.get("status", status) == status for row, status in told)

    def _rows(self) -> dict[Any, Mapping[str, Any]]:
        """The leaderboard by trials' numbers."""
        found = self.leaderboard
        rows = found.get("trials", ()) if isinstance(found, dict) else found or ()
        return {row.get("number"): row for row in rows}


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

    @property
    def state(self) -> Status:
        """Where the trial stands; WAITING when nobody has said."""
        return Status(self.status.get("status", Status.WAITING))

    @property
    def verdict(self) -> Mapping[str, Any]:
        """What the score says in words; may be empty."""
        verdict = self.result.get("verdict")
        return verdict if isinstance(verdict, dict) else {}


def read_sweep(folder: Path) -> SweepFiles:
    """Read a sweep folder; its identity is made on the first call.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    trials = sorted(
        path for path in folder.iterdir() if (path / "status.json").exists() or (path / "recipe.yaml").exists()
    )
    return SweepFiles(
        folder=folder,
        identity=_identity(folder),
        manifest=_with_asked(_mapping(read_yaml(folder / "sweep.yaml")), folder),
        leaderboard=_json(folder / "leaderboard.json"),
        trials=tuple(trials),
    )


def _with_asked(manifest: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """Add the points and repeats that a search came to hold since the sweep was declared."""
    rows = list(files.read_jsonl(folder / "asked.jsonl")) if manifest else []
    if not rows:
        return manifest
    points = [
        {"name": row["arm"], "note": "", "overrides": row["overrides"], "recipe": {}}
        for row in rows
        if row.get("params") is not None
    ]
    trials = [
        {"number": row["number"] + offset, "arm": row["arm"], "seed": seed}
        for row in rows
        for offset, seed in enumerate(row["seeds"])
    ]
    arms, declared = manifest.get("arms") or [], manifest.get("trials") or []
    return {**manifest, "arms": [*arms, *points], "trials": [*declared, *trials]}


def read_trial(folder: Path) -> TrialFiles:
    """Read a run folder."""
    return TrialFiles(
        folder=folder,
        signature=signature(folder),
        status=_mapping(_json(folder / "status.json")),
        recipe=_mapping(read_yaml(folder / "recipe.yaml")),
        plan=_mapping(_json(folder / "plan.json")),
        result=_mapping(_json(folder / "metrics.json")),
        provenance=_mapping(_json(folder / "provenance.json")),
        events=tuple(files.read_jsonl(folder / "events.jsonl")),
    )


def signature(trial_folder: Path) -> tuple[tuple[int, int], ...]:
    """Sizes and times of a run folder's files; equal ones mean that nothing changed."""
    found = []
    for name in _TRIAL_FILES:
        try:
            stat = os.stat(trial_folder / name)
            found.append((stat.st_size, stat.st_mtime_ns))
        except FileNotFoundError:
            found.append((-1, -1))
    return tuple(found)


def read_yaml(path: Path) -> Any:
    """Read YAML as data; None when absent or broken."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one is ten times faster
    try:
        return yaml.load(path.read_text(encoding="utf-8"), loader)  # noqa: S506 - both loaders are safe
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None


def _json(path: Path) -> Any:
    try:
        return files.read_json(path)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return None


def _mapping(data: Any) -> Mapping[str, Any]:
    return data if isinstance(data, dict) else {}


def _identity(folder: Path) -> str:
    path = folder / IDENTITY_FILE
    if not path.exists():
        files.write_text(path, uuid.uuid4().hex + "\n")
    return path.read_text(encoding="utf-8").strip()
