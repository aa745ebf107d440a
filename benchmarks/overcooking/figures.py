"""The figures of the proof. matplotlib, PNG, colours that colour-blind people can tell apart.

Takes the analysis; for the story of one recipe that cooks, is done and burns, its checkpoints and samples.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402 - after the backend is chosen
import numpy as np  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.gridspec import GridSpec  # noqa: E402

from benchmarks.overcooking import stopping  # noqa: E402
from benchmarks.overcooking.areas import followed  # noqa: E402
from benchmarks.overcooking.stopping import Run, product_verdict  # noqa: E402
from lorasweep.core.records import PROMPT_TIERS, PromptTier  # noqa: E402
from lorasweep.plan.symptoms import SYMPTOMS  # noqa: E402
from lorasweep.trial.judge import summary  # noqa: E402
from lorasweep.trial.judge.score import SCORE  # noqa: E402
from lorasweep.trial.judge.verdict import Verdict  # noqa: E402
from lorasweep.trial.sample import Sample, read_index  # noqa: E402

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
ROWS: Final[dict[PromptTier, str]] = {
    "in_distribution": "with the trigger",
    "recombined": "trigger, new\nclothes and place",
    "class": "somebody else,\nno trigger",
    "unrelated": "a place only",
}
LINES: Final = ("-", "--", "-.", ":")
COLOURS: Final = (ORANGE, SKY, GREEN, PURPLE, RED, "#8B6914")
MARGINS = {"hspace": 0.08, "wspace": 0.05, "left": 0.16, "right": 0.985, "top": 0.95, "bottom": 0.19}
VISIBLE: Final = 0.1  # grade that a symptom must reach to be drawn


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


def choose(runs: Sequence[Run]) -> Run | None:
    """Choose the run that tells most: done, then burned, by the product and in truth; good first, ruined last."""

    def telling(run: Run) -> tuple[bool, float]:
        said = product_verdict(run)
        both = said.done_at is not None and said.burned_at is not None and run[-1].truth.overcooked
        return both, max(checkpoint.truth.utility for checkpoint in run) + run[-1].truth.harm

    ended = [run for run in runs if run[0].ended]
    return max(ended, key=telling) if ended else None


def story(run: Run, home: Path, path: Path) -> str:
    """Draw a run's checkpoints, ascending, as a figure; returns one sentence on it."""
    said, folder = product_verdict(run), home / "runs" / run[0].run
    steps = [checkpoint.step for checkpoint in run]
    folders = [_base_folder(home, folder), *(folder / "samples" / f"step_{step:06d}" for step in steps)]
    strips = [_first_by_tier(each) for each in folders]
    tiers = [tier for tier in PROMPT_TIERS if any(tier in strip for strip in strips)]
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(1.35 * len(strips) + 1.9, 1.35 * len(tiers) + 4.6))
        heights = [1.0] * len(tiers) + [2.6]
        grid = GridSpec(len(tiers) + 1, len(strips), figure, height_ratios=heights, **MARGINS)
        for line, tier in enumerate(tiers):
            for column, strip in enumerate(strips):
                axes = figure.add_subplot(grid[line, column])
                _picture(axes, strip.get(tier))
                if line == 0:
                    axes.set_title("base" if column == 0 else f"step {steps[column - 1]}", fontsize=10)
                if column == 0:
                    axes.set_ylabel(ROWS[tier], rotation=0, ha="right", va="center", fontsize=10)
        _curves(figure.add_subplot(grid[len(tiers), :]), run, said)
        figure.savefig(path)
        plt.close(figure)
    return f"{run[0].identity}, recipe `{run[0].recipe}`: {summary.sentence(said, run[0].limits)}"


def _curves(axes: Axes, run: Run, said: Verdict) -> None:
    """Truth and measurement over the rungs; the base stands at place 0."""
    places = range(1, len(run) + 1)
    axes.plot([0, *places], [0.0, *(c.truth.identity for c in run)], color="black", lw=2.6, label="identity, true")
    axes.plot([0, *places], [0.0, *(c.truth.harm for c in run)], ":", color="black", lw=2.6, label="harm, true")
    scored = [c.metrics for c in run]
    axes.plot([0, *places], [0.0, *(row[SCORE] for row in scored)], color=BLUE, lw=3, label="O: overcooked")
    shown = [s for s in SYMPTOMS if max(row.get(f"overcook/{s.name}", 0.0) for row in scored) >= VISIBLE]
    for place, symptom in enumerate(shown):
        grades = [row.get(f"overcook/{symptom.name}", np.nan) for row in scored]
        colour, line = COLOURS[place % len(COLOURS)], LINES[place % len(LINES)]
        axes.plot([0, *places], [0.0, *grades], color=colour, ls=line, lw=1.6, label=symptom.says)
    for step, word, mark in ((said.done_at, "done", GREEN), (said.burned_at, "burned", RED)):
        if step is not None:
            at = [c.step for c in run].index(step) + 1
            axes.axvline(at, color=mark, lw=2)
            axes.annotate(word, (at, 1.03), (4, 0), textcoords="offset points", color=mark, fontweight="bold")
    axes.axhline(0.5, color="grey", lw=0.8, ls=":")
    axes.set_xticks(
        [0, *places], ["base", *(f"{c.step}\n{c.rung['exposures_per_image']:.0f}" for c in run)], fontsize=9
    )
    axes.set(xlim=(-0.5, len(run) + 0.5), ylim=(-0.03, 1.08), xlabel="step, and exposures per image")
    axes.legend(loc="upper center", bbox_to_anchor=(0.42, -0.2), ncol=2, fontsize=9, frameon=False)


def _picture(axes: Axes, sample: Sample | None) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if sample is not None:
        axes.imshow(np.asarray(sample.open()), interpolation="nearest")


def _first_by_tier(folder: Path) -> dict[str, Sample]:
    """The first picture of each tier at the lowest seed; nothing when there is no index."""
    if not (folder / "index.json").exists():
        return {}
    found: dict[str, Sample] = {}
    for sample in read_index(folder):
        if sample.request.weight in (0.0, 0.7):
            found.setdefault(sample.request.tier, sample)
    return found


def _base_folder(home: Path, run_folder: Path) -> Path:
    """Find the base's own pictures for a run's prompts: the cached folder that has them all."""
    wanted = {s.request.prompt for folder in run_folder.glob("samples/step_*") for s in read_index(folder)}
    folders = [index.parent for index in sorted((home / "cache" / "base_samples").glob("*/index.json"))]
    there = (folder for folder in folders if wanted <= {s.request.prompt for s in read_index(folder)})
    return next(there, home / "cache" / "base_samples")
