"""How plans, runs and sweeps look in a notebook and on a terminal: the same words and numbers as HTML and as text.

    run folder or sweep's state  ->  Shown  ->  HTML, everything put in escaped as in the report; or text

Knows nothing about what made them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorasweep.core.hydra_text import shortened
from lorasweep.core.printable import visible
from lorasweep.core.records import Status
from lorasweep.core.run_folder import RunFolder
from lorasweep.results.report.gallery import Picture, first_seed, of_kept
from lorasweep.results.report.page import as_text, templates
from lorasweep.sweep.ranking.leaderboard import HEADLINE, best_trial, number, rank_arms
from lorasweep.sweep.ranking.state import SweepState, read_record


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What is shown of something.

    Attributes:
        head, rows: a table; empty for none.
    """

    title: str  # its name, and what it is
    lines: Sequence[str] = ()  # sentences below it
    head: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = ()
    pictures: Sequence[Picture] = ()  # below it; HTML only

    def html(self) -> str:
        """Draw it for a notebook."""
        page = templates().get_template("notebook.html.j2")
        return page.render(title=self.title, lines=self.lines, head=self.head, rows=self.rows, shown=self.pictures)

    def text(self) -> str:
        """Write it for a terminal, with control characters made visible."""
        cells = [self.head, *([as_text(cell) for cell in row] for row in self.rows)] if self.rows else []
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        table = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
        return "\n".join(visible(line) for line in (self.title, *self.lines, *table))


def of_run(run: RunFolder) -> Shown:
    """Show a run: how it came out, the numbers that count, and what its checkpoint draws at the judged weight."""
    record, sentence = read_record(run), run.result["verdict"].get("sentence")
    told = f"{record.status.value}  {record.reason}".rstrip() if record else Status.WAITING.value
    return Shown(
        title=f"run {run.name}",
        lines=[told, *([str(sentence)] if sentence else ()), str(run.path)],
        head=("metric", "value", "standard error"),
        rows=list(_numbers(run.result["metrics"])),
        pictures=_judged(run),
    )


def _judged(run: RunFolder) -> list[Picture]:
    """Return what the kept checkpoint draws at the judged weight, from the first seed."""
    weight = (run.recipe.get("sample") or {}).get("weight")
    return [picture for picture in first_seed(of_kept(run)) if picture.weight == weight]


def _numbers(metrics: Mapping[str, float]) -> Iterator[Sequence[object]]:
    for name in HEADLINE:
        if name in metrics:
            yield name, number(metrics[name]), number(error) if (error := metrics.get(f"{name}_se")) else ""


def of_sweep(state: SweepState) -> Shown:
    """Show a sweep: its question, how far it is, and its arms, best first, with the best one's pictures."""
    arms = rank_arms(state)
    best = best_trial(state)
    return Shown(
        title=f"sweep {state.name}",
        lines=[line for line in (state.question, f"{state.finished} of {state.total} trials are over") if line],
        head=(
            *("rank", "arm", *(["what"] if state.has_space else []), state.metric, *state.further),
            *(["front"] if state.further else []),
            *("95 % interval", "seeds", "verdict"),
        ),
        rows=[
            (
                "" if arm.rank is None else arm.rank,
                arm.arm,
                *([" ".join(map(shortened, arm.overrides))] if state.has_space else []),
                *map(number, (arm.value, *(arm.metrics.get(name) for name in state.further))),
                *(["yes" if arm.front else ""] if state.further else []),
                f"{arm.interval.low:.3f} to {arm.interval.high:.3f}" if arm.interval else "",
                arm.seeds,
                arm.sentence or arm.verdict or arm.reason,
            )
            for arm in arms
        ],
        pictures=_judged(RunFolder(Path(best.run_folder))) if best else (),
    )
