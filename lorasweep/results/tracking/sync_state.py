"""`mlflow.json` in a run folder: which MLflow run mirrors it, and what that run was sent.

Knows nothing about mlflow.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lorasweep.core import files


@dataclass(kw_only=True)
class SyncState:
    """What one run was sent; may be behind the store (a kill in between) but never ahead of it.

    Attributes:
        run_id, experiment_id, tracking_uri: where; the address without its secrets.
        whole: false while pictures are on their way: the one thing that a second sending would double.
        name, status, tags, params: as last sent.
        datasets: by use, the digest that was sent.
        points: by stream, the last step whose points were sent.
        pictures: the last step whose pictures were sent, or None.
        artifacts: by path among the artifacts, size and modification time of the file that was sent.
    """

    run_id: str
    experiment_id: str
    tracking_uri: str
    whole: bool = True
    name: str | None = None
    status: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    datasets: dict[str, str] = field(default_factory=dict)
    points: dict[str, int] = field(default_factory=dict)
    pictures: int | None = None
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
