"""Draw the learning rates of a plan as a PNG: a panel for each schedule, so that people can choose by shape.

Takes what `api.plan` gives, and a path. matplotlib is imported when a picture is drawn, and only here. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorasweep.config import Arm, SweepSpec
from lorasweep.core import files
from lorasweep.core.records import Plan
from lorasweep.plan.learning_rate import Curve, curves, finds_step_size
from lorasweep.results.handles import Planned

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 3  # panels beside each other
_PANEL_INCHES = (4.6, 2.9)
_STYLES = (("#1f5fa8", "-"), ("#c2571a", "--"), ("#6a3d9a", ":"))  # of the denoiser and of text encoders
_HEADROOM = 1.3  # of the axis over the highest rate: room for the legend, and under it the cycles' names
_LABELS_AT = 0.82  # of the axis
_LONGEST_TITLE = 46  # characters of arm names in a panel's title


@dataclass(frozen=True)
class Panel:
    """One schedule, and the arms that have it."""

    names: tuple[str, ...]  # of the arms
    scheduler: str  # of all of them
    optimizers: tuple[str, ...]  # none twice, sorted
    steps: int  # of the whole training
    parts: tuple[Curve, ...]  # a curve for each part, one value per step
    cycles: tuple[int, ...]  # steps at which the rate turns from falling to rising, the first step left out
    rungs: tuple[int, ...]  # steps at which the recipe is judged


def panels(planned: Planned) -> list[Panel]:
    """Work out what there is to draw; arms with the same curves share a panel."""
    alike: dict[tuple[str, tuple[Curve, ...]], list[tuple[Arm, Plan]]] = {}
    for arm, plan in planned.arms:
        parts = tuple(curves(arm.recipe, plan.steps, points=plan.steps))
        alike.setdefault((arm.recipe.scheduler.name, parts), []).append((arm, plan))
    return [
        Panel(
            names=tuple(arm.name for arm, _ in members),
            scheduler=scheduler,
            optimizers=tuple(sorted({arm.recipe.optimizer.name for arm, _ in members})),
            steps=members[0][1].steps,
            parts=parts,
            cycles=turns(parts[0].shape),
            rungs=members[0][1].rungs,
        )
        for (scheduler, parts), members in alike.items()
    ]


def turns(rates: Sequence[float]) -> tuple[int, ...]:
    """Return steps at which a rate that was falling begins to rise: where a cycle starts anew."""
    found, falling = [], False
    for step in range(1, len(rates)):
        if rates[step] < rates[step - 1]:
            falling = True
        elif rates[step] > rates[step - 1] and falling:
            found.append(step)
            falling = False
    return tuple(found)


def draw(planned: Planned, path: Path) -> int:
    """Draw every panel into one PNG; returns how many there are."""
    found = panels(planned)
    import matplotlib

    matplotlib.use("agg", force=False)
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(found))
    rows = math.ceil(len(found) / columns)
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width * columns, height * rows + 0.5), layout="constrained", dpi=130)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, panel in zip(axes, found, strict=False):
        _draw_panel(axis, panel)
    for axis in axes[len(found) :]:
        axis.set_axis_off()
    if isinstance(planned.subject, SweepSpec):
        figure.suptitle(planned.name, fontsize=11, fontweight="bold")
    files.write_atomic(
        path, lambda temporary: figure.savefig(temporary, format="png", metadata={"Software": "lorasweep"})
    )
    return len(found)


def _draw_panel(axis: Axes, panel: Panel) -> None:
    for (color, line), curve in zip(_STYLES, panel.parts, strict=False):
        label = f"{curve.part.replace('_', ' ')}, peak {curve.highest:.3g}"
        axis.plot(range(panel.steps), curve.shape, line, color=color, linewidth=1.6, label=label)
    for number, step in enumerate(panel.cycles, start=2):
        axis.axvline(step, color="0.6", linewidth=0.8, linestyle=":")
        axis.annotate(
            f"cycle {number}",
            (step, _LABELS_AT),
            xycoords=("data", "axes fraction"),
            xytext=(2, 0),
            textcoords="offset points",
            fontsize=6.5,
            color="0.4",
        )
    for rung in panel.rungs:
        axis.plot([rung], [0.0], marker="^", markersize=4, color="0.35", clip_on=False)
    axis.set_xlim(0, panel.steps)
    axis.set_ylim(bottom=0.0, top=_HEADROOM * max(curve.highest for curve in panel.parts))
    axis.set_xlabel("optimizer step (triangles: judged)", fontsize=7)
    # Optimizers that find their own step size are given a multiplier of it, not a rate.
    multiplies = any(map(finds_step_size, panel.optimizers))
    axis.set_ylabel("multiplier of the size found" if multiplies else "learning rate", fontsize=7)
    axis.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    axis.yaxis.get_offset_text().set_fontsize(7)
    axis.tick_params(labelsize=7)
    axis.grid(True, linewidth=0.3, alpha=0.6)
    axis.legend(fontsize=6.5, loc="upper right", ncols=len(panel.parts), frameon=False)
    names = ", ".join(panel.names)
    if len(names) > _LONGEST_TITLE:
        names = f"{panel.names[0]} and {len(panel.names) - 1} more"
    axis.set_title(f"{names}\n{panel.scheduler}, {' / '.join(panel.optimizers)}", fontsize=8)
