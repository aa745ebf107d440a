"""One recipe that cooks, is done and burns, in one figure: pictures over the steps, symptoms under them.

Takes a run's checkpoints and its samples; writes a PNG.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.gridspec import GridSpec

from benchmarks.overcooking import figures, scores
from benchmarks.overcooking.stopping import Run, product_verdict
from lorasweep.core.records import PROMPT_TIERS, PromptTier
from lorasweep.plan.symptoms import SYMPTOMS
from lorasweep.trial.judge import summary
from lorasweep.trial.judge.score import SCORE
from lorasweep.trial.judge.verdict import Verdict
from lorasweep.trial.sample import Sample, read_index

ROWS: Final[dict[PromptTier, str]] = {
    "in_distribution": "with the trigger",
    "recombined": "trigger, new\nclothes and place",
    "class": "somebody else,\nno trigger",
    "unrelated": "a place only",
}
LINES: Final = ("-", "--", "-.", ":")
COLOURS: Final = (figures.ORANGE, figures.SKY, figures.GREEN, figures.PURPLE, figures.RED, "#8B6914")
VISIBLE: Final = 0.1  # grade that a symptom must reach to be drawn


def choose(runs: Sequence[Run]) -> Run | None:
    """Choose the run that tells most: done, then burned, by the product and in truth; good first, ruined last."""

    def telling(run: Run) -> tuple[bool, float]:
        said = product_verdict(run)
        both = said.done_at is not None and said.burned_at is not None and run[-1].truth.overcooked
        return both, max(checkpoint.truth.utility for checkpoint in run) + run[-1].truth.harm

    ended = [run for run in runs if run[0].ended]
    return max(ended, key=telling) if ended else None


def draw(run: Run, home: Path, path: Path) -> str:
    """Draw a run's checkpoints, ascending, as a figure; returns one sentence on it."""
    said, folder = product_verdict(run), home / "runs" / run[0].run
    steps = [checkpoint.step for checkpoint in run]
    folders = [_base_folder(home, folder), *(folder / "samples" / f"step_{step:06d}" for step in steps)]
    strips = [_first_by_tier(each) for each in folders]
    tiers = [tier for tier in PROMPT_TIERS if any(tier in strip for strip in strips)]
    with plt.rc_context(figures.STYLE):
        figure = plt.figure(figsize=(1.35 * len(strips) + 1.9, 1.35 * len(tiers) + 4.6))
        grid = GridSpec(
            len(tiers) + 1,
            len(strips),
            figure,
            height_ratios=[1.0] * len(tiers) + [2.6],
            hspace=0.08,
            wspace=0.05,
            left=0.16,
            right=0.985,
            top=0.95,
            bottom=0.19,
        )
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
    scored = [scores.rescored(c.metrics, c.limits) for c in run]
    axes.plot([0, *places], [0.0, *(row[SCORE] for row in scored)], color=figures.BLUE, lw=3, label="O: overcooked")
    shown = [s for s in SYMPTOMS if max(row.get(f"overcook/{s.name}", 0.0) for row in scored) >= VISIBLE]
    for place, symptom in enumerate(shown):
        grades = [row.get(f"overcook/{symptom.name}", np.nan) for row in scored]
        colour, line = COLOURS[place % len(COLOURS)], LINES[place % len(LINES)]
        axes.plot([0, *places], [0.0, *grades], color=colour, ls=line, lw=1.6, label=symptom.says)
    for step, word, mark in ((said.done_at, "done", figures.GREEN), (said.burned_at, "burned", figures.RED)):
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
