"""Whether a recipe that was cooked twice came out the same, and where not, what may be the reason.

    two run folders  ->  Comparison

Reads files only; tensors as numpy. Knows nothing about how either was cooked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lorasweep.core.records import flatten
from lorasweep.core.run_folder import RunFolder

SHOWN = 8  # metrics, those that moved most


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two runs of one recipe."""

    before: Path  # the run folder of the first
    same: bool  # whether the adapters are equal to the bit (or, where one has none, all metrics)
    adapters: bool  # whether both have one
    largest: float | None  # the largest difference of two weights; None unless the same tensors are in both
    metrics: Mapping[str, tuple[float, float]]  # name -> (before, now), those that differ, the largest difference first
    provenance: Mapping[str, tuple[str, str]]  # what -> (before, now), those that differ

    def sentence(self) -> str:
        """Return the answer."""
        if self.same:
            return "It came out the same, to the bit." if self.adapters else "Every metric is the same."
        by = f": weights differ by up to {self.largest:.2g}" if self.largest is not None else ""
        return f"It did not come out the same{by}."

    def details(self) -> Iterator[str]:
        """Tell what differs, a line each."""
        for name, (old, new) in list(self.metrics.items())[:SHOWN]:
            yield f"  {name:<28} {old:10.6f} -> {new:10.6f}"
        if len(self.metrics) > SHOWN:
            yield f"  and {len(self.metrics) - SHOWN} more metrics"
        for what, (before, now) in self.provenance.items():
            yield f"  {what}: {before} -> {now}"
        if not self.same and not self.provenance:
            yield "  versions, code and machine are the same: is something not deterministic?"

    def document(self) -> dict[str, Any]:
        """Return the comparison for `--json`."""
        return {
            "same": self.same,
            "largest_weight_difference": self.largest,
            "differing_metrics": {name: list(pair) for name, pair in self.metrics.items()},
            "differing_provenance": {what: list(pair) for what, pair in self.provenance.items()},
        }


def compare_runs(before: Path, now: Path) -> Comparison:
    """Compare two run folders."""
    one, other = RunFolder(before).adapter, RunFolder(now).adapter
    both = one.is_file() and other.is_file()
    equal = both and one.read_bytes() == other.read_bytes()
    old, new = (RunFolder(folder).result["metrics"] for folder in (before, now))
    moved = {name: (old[name], new[name]) for name in old if name in new and old[name] != new[name]}
    metrics = dict(sorted(moved.items(), key=lambda pair: -abs(pair[1][0] - pair[1][1])))
    made_by = [flatten(RunFolder(folder).provenance) for folder in (before, now)]
    keys = dict.fromkeys((*made_by[0], *made_by[1]))
    told = {key: tuple(str(each.get(key, "(not recorded)")) for each in made_by) for key in keys}
    return Comparison(
        before=before,
        same=equal if both else not metrics,
        adapters=both,
        largest=_largest_difference(one, other) if both and not equal else None,
        metrics=metrics,
        provenance={key: (was, is_now) for key, (was, is_now) in told.items() if was != is_now},
    )


def _largest_difference(one: Path, other: Path) -> float | None:
    from safetensors.numpy import load_file

    ours, theirs = load_file(one), load_file(other)
    if {key: tensor.shape for key, tensor in ours.items()} != {k: t.shape for k, t in theirs.items()}:
        return None
    gaps = (np.abs(ours[key].astype(np.float64) - theirs[key]) for key in ours)
    return max((float(gap.max()) for gap in gaps if gap.size), default=0.0)
