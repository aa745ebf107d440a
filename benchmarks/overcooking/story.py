"""One recipe that cooks, is done and burns, in one figure: pictures over the steps, symptoms under them.

Takes a run's checkpoints and the folder of its samples; writes a PNG.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.gridspec import GridSpec

from benchmarks.overcooking import figures, scores, stoppers
from benchmarks.overcooking.stoppers import Run
from lorasweep.core.records import PROMPT_TIERS, PromptTier
from lorasweep.trial.judge.score import SCORE, summarise
from lorasweep.trial.judge.symptoms import SYMPTOMS
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
    """The run that tells most: done, then burned, by the product and in truth; good first, ruined last."""

    def telling(run: Run) -> tuple[bool, float]:
        said = stoppers.product_verdict(run)
        both = said.done_at is not None and said.burned_at is not None and run[-1].truth.overcooked
        return both, max(checkpoint.truth.utility for checkpoint in run) + run[-1].truth.harm

    ended = [run for run in runs if run[0].ended]
    return max(ended, key=telling) if ended else None


def draw(run: Run, samples: Path, base: Path, path: Path) -> None:
    """Draw the figure.

    Args:
        run: its checkpoints, ascending.
        samples: the run's `samples/`, with a folder per rung.
        base: folder with the base's own pictures of the same prompts.
        path: the PNG.
    """
    steps = [checkpoint.step for checkpoint in run]
    strips = [_first_by_tier(base), *(_first_by_tier(samples / f"step_{step:06d}") for step in steps)]
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
        _curves(figure.add_subplot(grid[len(tiers), :]), run)
        figure.savefig(path)
        plt.close(figure)


def _curves(axes: Axes, run: Run) -> None:
    """Truth and measurement over the rungs; the base stands at place 0."""
    places = range(1, len(run) + 1)
    axes.plot([0, *places], [0.0, *(c.truth.identity for c in run)], color="black", lw=2.6, label="identity, true")
    axes.plot([0, *places], [0.0, *(c.truth.harm for c in run)], ":", color="black", lw=2.6, label="harm, true")
    scored = [_grades(c.metrics) for c in run]
    axes.plot([0, *places], [0.0, *(row[SCORE] for row in scored)], color=figures.BLUE, lw=3, label="O: overcooked")
    shown = [s for s in SYMPTOMS if max(row.get(f"overcook/{s.name}", 0.0) for row in scored) >= VISIBLE]
    for place, symptom in enumerate(shown):
        grades = [row.get(f"overcook/{symptom.name}", np.nan) for row in scored]
        colour, line = COLOURS[place % len(COLOURS)], LINES[place % len(LINES)]
        axes.plot([0, *places], [0.0, *grades], color=colour, ls=line, lw=1.6, label=symptom.says)
    _mark_verdict(axes, run)
    axes.set_xticks(
        [0, *places], ["base", *(f"{c.step}\n{c.rung['exposures_per_image']:.0f}" for c in run)], fontsize=9
    )
    axes.set(xlim=(-0.5, len(run) + 0.5), ylim=(-0.03, 1.08), xlabel="step, and exposures per image")
    axes.legend(loc="upper center", bbox_to_anchor=(0.42, -0.2), ncol=2, fontsize=9, frameon=False)


def _mark_verdict(axes: Axes, run: Run) -> None:
    said = stoppers.product_verdict(run)
    steps = [checkpoint.step for checkpoint in run]
    for step, word, colour in (
        (said.done_at, "done", figures.GREEN),
        (said.burned_at, "burned", figures.RED),
    ):
        if step is None:
            continue
        place = steps.index(step) + 1
        axes.axvline(place, color=colour, lw=2)
        axes.annotate(word, (place, 1.03), (4, 0), textcoords="offset points", color=colour, fontweight="bold")
    axes.axhline(0.5, color="grey", lw=0.8, ls=":")


def _grades(metrics: Mapping[str, float]) -> dict[str, float]:
    measured = {key: value for key, value in metrics.items() if scores.family(key) != "overcook"}
    return summarise(measured, scores.shipped()).values


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


def base_folder(home: Path, run_folder: Path) -> Path:
    """Folder of the base's own pictures for a run's prompts: the cached one that has them all."""
    wanted = {s.request.prompt for folder in run_folder.glob("samples/step_*") for s in read_index(folder)}
    for folder in sorted((home / "cache" / "base_samples").iterdir()):
        if (folder / "index.json").exists() and wanted <= {s.request.prompt for s in read_index(folder)}:
            return folder
    return home / "cache" / "base_samples"


def caption(run: Run) -> str:
    """One sentence on the figure."""
    from lorasweep.trial.judge import summary

    said = summary.sentence(stoppers.product_verdict(run), scores.shipped())
    return f"{run[0].identity}, recipe `{run[0].recipe}`: {said}"
