"""The figures of the proof. matplotlib, PNG, colours that colour-blind people can tell apart.

Takes the analysis; writes files. Knows nothing about how they came about.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402 - after the backend is chosen
from matplotlib.axes import Axes  # noqa: E402

from benchmarks.overcooking import stopping  # noqa: E402
from benchmarks.overcooking.following import followed  # noqa: E402
from lorasweep.plan.symptoms import SYMPTOMS  # noqa: E402

# Okabe and Ito's palette (2008).
ORANGE, SKY, GREEN, BLUE, RED, PURPLE = ("#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7")
GREY = "#777777"
STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.dpi": 110,
}


def bars(found: Mapping[str, Any], path: Path) -> None:
    """Draw the areas of O, and of the metrics of which something is claimed, with intervals over runs."""
    claimed = {symptom.metric for symptom in SYMPTOMS}
    rows = {
        name: row
        for name, row in sorted(found["auroc"].items(), key=lambda pair: pair[1]["value"])
        if all(math.isfinite(row[key]) for key in ("value", "low", "high"))
        and (name.startswith("O") or name in claimed or followed(name)[0])
    }
    with _saved(path, figsize=(8, 0.27 * len(rows) + 1.4)) as axes:
        _intervals(axes, rows, ours="O", size=6)
        axes.tick_params(axis="y", labelsize=9)
        axes.axvline(0.5, color="grey", lw=1, ls=":")
        axes.axvline(0.95, color=GREEN, lw=1, ls="--")
        axes.text(0.95, len(rows) - 0.3, "goal 0.95", color=GREEN, ha="center", fontsize=9)
        axes.set(xlabel="area under the ROC curve, 95 % interval over runs", ylim=(-0.8, len(rows) + 0.2))


def regrets(found: Mapping[str, Any], path: Path) -> None:
    """Draw the regret of every stopper, with intervals over runs."""
    table = {name: row["regret"] for name, row in found["stopping"]["stoppers"].items()}
    rows = dict(sorted(table.items(), key=lambda pair: -pair[1]["value"]))
    with _saved(path, figsize=(8.6, 4.0)) as axes:
        _intervals(axes, rows, ours=stopping.OURS, size=8)
        for place, row in enumerate(rows.values()):
            text, above = f"{row['value']:.3f}", {"textcoords": "offset points", "ha": "center", "fontsize": 9}
            axes.annotate(text, (row["value"], place), (0, 8), **above)
        axes.axvline(0, color="black", lw=0.8)
        axes.set(
            xlabel="true utility lost against the run's best",
            ylim=(-0.6, len(rows) - 0.3),
            title=f"Where to stop: regret over {found['stopping']['runs']} runs",
        )


def _intervals(axes: Axes, rows: Mapping[str, Mapping[str, float]], *, ours: str, size: int) -> None:
    """Draw one estimate a line, from below, with its interval; ours in blue."""
    for place, (name, row) in enumerate(rows.items()):
        colour = BLUE if name.startswith(ours) else GREY
        axes.plot([row["low"], row["high"]], [place, place], color=colour, lw=2)
        axes.plot(row["value"], place, "o", color=colour, ms=size)
    axes.set_yticks(range(len(rows)), list(rows))


@contextlib.contextmanager
def _saved(path: Path, **options: Any) -> Iterator[Any]:
    """Make axes in one style, options as for `plt.subplots`; the figure is saved after the block."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(layout="constrained", **options)
        yield axes
        figure.savefig(path)
        plt.close(figure)
