"""The figures of the proof. matplotlib, PNG, colours that colour-blind people can tell apart.

Takes the analysis and the checkpoints; writes files. Knows nothing about how they came about.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402 - after the backend is chosen
import numpy as np  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

from benchmarks.overcooking import areas, stopping  # noqa: E402
from benchmarks.overcooking.following import followed  # noqa: E402
from benchmarks.overcooking.page import span  # noqa: E402
from benchmarks.overcooking.table import Checkpoint  # noqa: E402
from lorasweep.trial.judge.symptoms import SYMPTOMS  # noqa: E402

# Okabe and Ito's palette (2008).
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
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


def roc(checkpoints: Sequence[Checkpoint], found: Mapping[str, Any], path: Path) -> None:
    """ROC curves of O: as shipped, and with limits from other identities, with and without the reader."""
    truth = areas.labels(checkpoints)
    drawn = {
        areas.CALIBRATED: (BLUE, "-"),
        areas.CALIBRATED_BLIND: (BLUE, "--"),
        areas.SHIPPED: (RED, "-"),
        areas.BLIND: (RED, "--"),
    }
    with _saved(path, figsize=(6.4, 5.6)) as axes:
        for name, values in areas.variants(checkpoints).items():
            if name not in drawn or not np.isfinite(values).any():
                continue
            false_rate, true_rate = _curve(np.nan_to_num(values), truth)
            colour, line = drawn[name]
            axes.plot(
                false_rate,
                true_rate,
                line,
                color=colour,
                lw=2.2,
                label=f"{name}: {span(found['auroc'][name])}",
            )
        axes.plot([0, 1], [0, 1], ":", color="grey", lw=1)
        axes.set(
            xlabel="healthy checkpoints called overcooked",
            ylabel="overcooked checkpoints called overcooked",
            title="Does O tell overcooked from healthy?",
        )
        axes.legend(loc="lower right", fontsize=9, frameon=False)


def bars(found: Mapping[str, Any], path: Path) -> None:
    """Area of O, and by themselves of the metrics of which something is claimed, with intervals over runs."""
    claimed = {symptom.metric for symptom in SYMPTOMS}
    rows = [
        (name, row)
        for name, row in found["auroc"].items()
        if _finite(row) and (name.startswith("O") or name in claimed or followed(name)[0])
    ]
    rows.sort(key=lambda row: row[1]["value"])
    with _saved(path, figsize=(8, 0.27 * len(rows) + 1.4)) as axes:
        for place, (name, row) in enumerate(rows):
            colour = BLUE if name.startswith("O") else "#777777"
            axes.plot([row["low"], row["high"]], [place, place], color=colour, lw=2)
            axes.plot(row["value"], place, "o", color=colour, ms=6)
        axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=9)
        axes.axvline(0.5, color="grey", lw=1, ls=":")
        axes.axvline(0.95, color=GREEN, lw=1, ls="--")
        axes.text(0.95, len(rows) - 0.3, "goal 0.95", color=GREEN, ha="center", fontsize=9)
        axes.set(xlabel="area under the ROC curve, 95 % interval over runs", ylim=(-0.8, len(rows) + 0.2))


def regrets(found: Mapping[str, Any], path: Path) -> None:
    """Regret of every stopper, with intervals over runs."""
    table = found["stopping"]["stoppers"]
    rows = sorted(((name, row["regret"]) for name, row in table.items()), key=lambda row: -row[1]["value"])
    with _saved(path, figsize=(8.6, 4.0)) as axes:
        for place, (name, row) in enumerate(rows):
            colour = BLUE if name.startswith(stopping.OURS) else "#777777"
            axes.plot([row["low"], row["high"]], [place, place], color=colour, lw=2.4)
            axes.plot(row["value"], place, "o", color=colour, ms=8)
            _above(axes, row["value"], place, f"{row['value']:.3f}")
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.axvline(0, color="black", lw=0.8)
        axes.set_ylim(-0.6, len(rows) - 0.3)
        axes.set(
            xlabel="true utility lost against the run's best",
            title=f"Where to stop: regret over {found['stopping']['runs']} runs",
        )


_RESPONSES = {
    "O": ("o-", BLUE, "O, measured"),
    "harm": ("s--", ORANGE, "harm, true"),
    "identity": ("^:", GREEN, "identity, true"),
}


def responses(found: Mapping[str, Any], path: Path) -> None:
    """Dose and response: O beside the true harm, by step and by dial."""
    doses = {dial: rows for dial, rows in found["dose"].items() if len(rows) > 1}
    if not doses:
        return
    columns = min(4, len(doses))
    lines = math.ceil(len(doses) / columns)
    size = (3.0 * columns, 2.8 * lines)
    with _saved(path, nrows=lines, ncols=columns, figsize=size, sharey=True, squeeze=False) as grid:
        for axes, (dial, rows) in zip(grid.flat, doses.items(), strict=False):
            places = range(len(rows))
            for key, (style, colour, label) in _RESPONSES.items():
                axes.plot(places, [row[key] for row in rows.values()], style, color=colour, lw=2, label=label)
            axes.set_xticks(list(places), list(rows), fontsize=8, rotation=30 if len(rows) > 5 else 0)
            axes.set(title=dial, ylim=(-0.03, 1.03))
        for axes in list(grid.flat)[len(doses) :]:
            axes.axis("off")
        grid.flat[0].legend(fontsize=8, frameon=False)


def scatter(checkpoints: Sequence[Checkpoint], path: Path) -> None:
    """O with limits from other identities against the true harm, one point per checkpoint."""
    values = areas.variants(checkpoints)[areas.CALIBRATED]
    if not np.isfinite(values).any():
        values = areas.variants(checkpoints)[areas.SHIPPED]
    marks = dict(zip(sorted({c.identity for c in checkpoints}), "os^Dv", strict=False))
    colours = dict(zip(marks, (BLUE, ORANGE, GREEN, PURPLE, SKY), strict=False))
    with _saved(path, figsize=(6.2, 5.2)) as axes:
        for identity, mark in marks.items():
            mine = [place for place, c in enumerate(checkpoints) if c.identity == identity]
            axes.scatter(
                [checkpoints[place].truth.harm for place in mine],
                values[mine],
                marker=mark,
                color=colours[identity],
                s=34,
                alpha=0.75,
                label=identity,
            )
        axes.axvline(0.5, color="grey", lw=1, ls=":")
        axes.axhline(0.5, color="grey", lw=1, ls=":")
        axes.set(
            xlabel="true harm O* (0.5: a limit is reached)",
            ylabel="O, measured",
            title="Measured against true",
        )
        axes.legend(title="identity", fontsize=9, frameon=False)


@contextlib.contextmanager
def _saved(path: Path, **options: Any) -> Iterator[Any]:
    """Axes of a new figure in one style, options as for `plt.subplots`; saved after the block."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(layout="constrained", **options)
        try:
            yield axes
            figure.savefig(path)
        finally:
            plt.close(figure)


def _above(axes: Axes, x: float, y: float, text: str) -> None:
    axes.annotate(text, (x, y), (0, 8), textcoords="offset points", ha="center", fontsize=9)


def _curve(values: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates as the threshold falls, ties taken together."""
    from sklearn.metrics import roc_curve

    false_rate, true_rate, _ = roc_curve(truth, values)
    return false_rate, true_rate


def _finite(row: Mapping[str, Any]) -> bool:
    return all(math.isfinite(row[key]) for key in ("value", "low", "high"))
