"""What a person sees: a live table, or a line per event where there is no terminal, and the leaderboard.

Takes `SweepState` snapshots. Names come from people's files, so all goes by `core.console`, where no name is
markup or steers the terminal. Knows nothing about how trials are run.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lorasweep.core.console import text_console
from lorasweep.core.hydra_text import shortened
from lorasweep.core.printable import visible
from lorasweep.core.records import Status
from lorasweep.core.streams import make_safe
from lorasweep.sweep import comparable
from lorasweep.sweep.calibrate import controls
from lorasweep.sweep.ranking.leaderboard import ArmRow, columns, front_means, number, rank_arms, short_name, standing
from lorasweep.sweep.ranking.noise import sentence
from lorasweep.sweep.ranking.state import SweepState, TrialState
from lorasweep.trial.judge.score import SCORE

STYLES = {
    Status.WAITING: "dim",
    Status.RUNNING: "cyan",
    Status.COMPLETED: "green",
    Status.PRUNED: "yellow",
    Status.DIVERGED: "magenta",
    Status.OUT_OF_MEMORY: "red",
    Status.CRASHED: "red",
    Status.INVALID: "red",
    Status.CANCELLED: "yellow",
}
VERDICT_STYLES = {"done": "green", "overcooked": "red", "undercooked": "yellow"}
COLUMN_WIDTH = 10  # a heading or a number, and the gap
AROUND_COLUMNS = 34  # rank, value, seeds, verdict and their gaps
NAME_WIDTH = 16  # of an arm, that numbers leave it
BAR_WIDTH = 12
BARS_FROM_WIDTH = 96
REFRESH_PER_S = 4
ROWS_AROUND = 9  # terminal lines that are not trials


@contextmanager
def live(*, quiet: bool = False, console: Console | None = None) -> Iterator[Callable[[SweepState], None]]:
    """Yield what shows a sweep's newest snapshot, while the block runs; on standard output by default."""
    console = console or text_console()
    if quiet:
        yield lambda state: None
    elif not console.is_terminal:
        yield _Lines(console).show
    else:
        with ExitStack() as opened:

            @functools.cache
            def display() -> Live:
                """Begin with the first snapshot: what is said before it stands above."""
                begun = opened.enter_context(Live(console=console, refresh_per_second=REFRESH_PER_S, transient=False))
                make_safe()  # rich has taken the streams, to print above the table, and would obey colours
                return begun

            def show(state: SweepState) -> None:
                rows = max(4, console.size.height - ROWS_AROUND)
                display().update(render_state(state, max_rows=rows, width=console.width))

            yield show


def print_state(state: SweepState) -> None:
    """Print where a sweep stands."""
    console = text_console()
    console.print(render_state(state, max_rows=len(state.trials), width=console.width))


def print_leaderboard(state: SweepState) -> None:
    """Print the ranking of the arms and, below, what each verdict says."""
    console = text_console()
    console.print(render_leaderboard(state, width=console.width))


def render_state(state: SweepState, *, max_rows: int, width: int = BARS_FROM_WIDTH) -> RenderableType:
    """Make the table of at most so many trials, with the question above and the counts below.

    Bars, and then columns, are left out of a terminal of few columns, so that names stay readable.
    """
    bars = width >= BARS_FROM_WIDTH
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    many_seeds = len({trial.seed for trial in state.trials}) > 1
    table.add_column("#", justify="right", style="dim")
    table.add_column("arm", overflow="fold", min_width=8)
    if many_seeds:
        table.add_column("seed", justify="right")
    elsewhere = any(trial.node for trial in state.trials)
    if elsewhere:
        table.add_column("where", overflow="fold")
    shown, hidden = _choose(state.trials, max_rows)
    rows = [_told(trial, state.metric) for trial in shown]
    names = min(NAME_WIDTH, max((len(trial.arm) for trial in shown), default=0))
    headings = _fitting(rows, width - names - 6 - 5 * many_seeds - NAME_WIDTH * elsewhere)
    for heading in headings:
        left = heading in ("status", "steps")
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for trial, told in zip(shown, rows, strict=True):
        cells: list[RenderableType] = [str(trial.number), trial.arm]
        cells += [str(trial.seed)] if many_seeds else []
        cells += [_text(trial.node, style="dim")] if elsewhere else []
        more = {"status": _status(trial)} | ({"steps": _progress(trial)} if bars else {})
        table.add_row(*cells, *(more.get(heading, told[heading]) for heading in headings))
    parts: list[RenderableType] = [_heading(state)]
    parts.append(table)
    if hidden:
        parts.append(_text(f"  and {hidden} more", style="dim"))
    parts.append(_summary(state))
    front = [row.arm for row in rank_arms(state) if row.front] if state.further else []
    best = [_text(f"on the front, where {front_means(state)}: {', '.join(front)}")] if front else []
    below = [*_noise(state), *best, *_warned(comparable.told(state.left_out))]
    parts += [Padding(each, (0, 0, 0, 2)) for each in below]
    parts += [_text(f"  note: {note}", style="yellow") for note in state.notes]
    parts += [_text(f"  {t.number}: {t.reason}", style=STYLES[t.status]) for t in shown if t.reason]
    return Group(*parts)


def render_leaderboard(state: SweepState, *, width: int = 120) -> RenderableType:
    """Render arms, best first, with as many columns as `width` leaves room for beside their names."""
    rows = rank_arms(state)
    names_width = max((len(row.arm) for row in rows), default=0)
    # The most telling, since a narrow terminal has room for few.
    most = max(1, (width - AROUND_COLUMNS - names_width) // COLUMN_WIDTH)
    told = columns(state.metric, state.further, (row.metrics for row in rows), most=most)
    several = any(row.seeds > 1 for row in rows)
    better = "lower is better" if state.goal == "minimize" else "higher is better"
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("rank", justify="right")
    if state.further:
        table.add_column("front", justify="center")
    table.add_column("arm", overflow="fold", min_width=8)
    table.add_column(short_name(state.metric), justify="right", style="bold")
    if several:
        table.add_column("seeds", justify="right")
    for column, _ in told:
        table.add_column(column, justify="right")
    table.add_column("verdict", no_wrap=True)
    for row in rows:
        cells: list[RenderableType] = [_rank(row), *(["*" * row.front] if state.further else []), row.arm, row.told]
        cells += [str(row.seeds)] if several else []
        cells += [number(row.metrics.get(name)) for _, name in told]
        table.add_row(*cells, _verdict(row))
    heading = _heading(state)
    reading = "; ± 95 % interval over seeds, ~ not told apart from the best" if several else ""
    front = f"; * on the front: {front_means(state)}" if state.further else ""
    caption = _text(f"by {state.metric}, {better}{reading}{front}", style="dim")
    ranked = [trial.verdict for trial in state.trials if trial.status is Status.COMPLETED]
    warnings = [
        *comparable.told(state.left_out),
        *(f"trials were {on}" for on in comparable.several_devices(trial.device for trial in state.trials)),
        *(f"trials were {by}" for by in comparable.several_calibrations(ranked)),
    ]
    return Group(
        heading, table, caption, *_noise(state), *_warned(warnings), *_sentences(rows, named=not state.has_space)
    )


def _noise(state: SweepState) -> list[RenderableType]:
    """Tell which arms cannot be told apart; none where nothing is compared: single runs, and of controls."""
    words = sentence(standing(state), again=state.again) if state.question not in ("", controls.QUESTION) else ""
    return [_text(words)] if words else []


def _warned(sentences: Sequence[str]) -> list[RenderableType]:
    return [_text(words, style="yellow") for words in sentences]


def duration(seconds: float | None) -> str:
    """Return `1:23` or `2:01:23`; empty when unknown."""
    if seconds is None:
        return ""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


# ------------------------------------------------------------------------------------------------ views


class _Lines:
    """One line when a trial changes its status, and one at every quarter of its steps."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: dict[int, tuple[Status, int, int]] = {}
        self._said: set[str] = set()

    def show(self, state: SweepState) -> None:
        for text in (state.activity, *state.notes):
            if text and text not in self._said:
                self._say(f"{state.name}: {text}")
                self._said.add(text)
        for trial in state.trials:
            quarter = 4 * trial.step // trial.steps if trial.steps and trial.status is Status.RUNNING else 0
            now = (trial.status, trial.attempt, quarter)
            if now != self._seen.get(trial.number, (Status.WAITING, 0, 0)):
                self._say(_line(trial, state))
            self._seen[trial.number] = now

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)


def _line(trial: TrialState, state: SweepState) -> str:
    name = f"{trial.arm} (seed {trial.seed})"
    parts = [f"[{state.finished}/{state.total}] {trial.number:>3} {name:<32} {trial.status.value:<13}"]
    parts.append(f"{trial.step}/{trial.steps} steps")
    if trial.node:
        parts.append(f"on {trial.node}")
    if trial.attempt > 1:
        parts.append(f"attempt {trial.attempt}")
    if trial.loss is not None:
        parts.append(f"loss {number(trial.loss)}")
    if trial.value is not None:
        parts.append(f"{short_name(state.metric)} {number(trial.value)}")
    if trial.reason:
        parts.append(trial.reason)
    return "  ".join(parts)


# ------------------------------------------------------------------------------------------------ parts


def _choose(trials: Sequence[TrialState], max_rows: int) -> tuple[list[TrialState], int]:
    """Return what matters most when not all fit: running, then finished, then waiting; shown by number."""
    urgency = {Status.RUNNING: 0, Status.WAITING: 2}
    # Among the finished the latest, among the waiting the next.
    ordered = sorted(
        trials, key=lambda t: (urgency.get(t.status, 1), t.number if t.status is Status.WAITING else -t.number)
    )
    shown = sorted(ordered[:max_rows], key=lambda trial: trial.number)
    return shown, len(trials) - len(shown)


def _told(trial: TrialState, metric: str) -> dict[str, str]:
    """Return what is said of a trial besides its name, by heading."""
    return {
        "status": _status(trial).plain,
        "steps": f"{trial.step}/{trial.steps}",
        "loss": number(trial.loss),
        "overcook": number(trial.metrics.get(SCORE)),
        short_name(metric): number(trial.value if trial.value is not None else trial.metrics.get(metric)),
        "left": duration(trial.eta_s or None),
    }


def _fitting(rows: Sequence[Mapping[str, str]], width: int) -> list[str]:
    """Name the columns that so many characters have room for, in their order; status and the metric always."""
    widths = {heading: 1 + max(len(heading), *(len(row[heading]) for row in rows)) for heading in (rows or [{}])[0]}
    for heading in ("loss", "left", "overcook", "steps"):
        if sum(widths.values()) > width:
            widths.pop(heading, None)
    return list(widths)


def _status(trial: TrialState) -> Text:
    text = "judging" if trial.judging else trial.status.spoken
    if trial.attempt > 1 and not trial.status.is_final:
        text += f" #{trial.attempt}"
    if trial.reused_from:
        text += ", reused"
    return _text(text, style=STYLES[trial.status])


def _progress(trial: TrialState) -> RenderableType:
    if trial.status is Status.WAITING and trial.step == 0:
        return _text(f"{'':<{BAR_WIDTH}} {trial.steps or ''}", style="dim")
    bar = ProgressBar(
        total=max(1, trial.steps),
        completed=trial.step,
        width=BAR_WIDTH,
        complete_style=STYLES[trial.status],
        finished_style=STYLES[trial.status],
    )
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=BAR_WIDTH)
    grid.add_column()
    grid.add_row(bar, f"{trial.step}/{trial.steps}")
    return grid


def _summary(state: SweepState) -> Text:
    parts = [f"{state.finished} of {state.total} finished", state.spoken_counts]
    if state.eta_s is not None:
        parts.append(f"about {duration(state.eta_s)} left")
    if state.driver:
        parts.append(f"driven by {state.driver}")
    if state.activity:
        parts.append(state.activity)
    return _text("  " + " · ".join(filter(None, parts)))


def _rank(row: ArmRow) -> str:
    return ("~" if row.tied and row.seeds > 1 else "") + str(row.rank or "-")


def _verdict(row: ArmRow) -> Text:
    ended = [status for status in row.statuses if status is not Status.COMPLETED]
    if row.verdict and not ended:
        return _text(row.verdict, style=VERDICT_STYLES.get(row.verdict, ""))
    words = list(dict.fromkeys(status.spoken for status in ended))
    return _text(", ".join(([row.verdict] if row.verdict else []) + words), style="yellow")


def _sentences(rows: Sequence[ArmRow], *, named: bool) -> list[RenderableType]:
    """Return how each arm came out, and what it is, where its name does not tell."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", overflow="fold", min_width=8)
    grid.add_column()
    for row in rows:
        what = "" if named else " ".join(map(shortened, row.overrides))
        text = "\n".join(filter(None, (what, row.sentence or row.reason)))
        if text:
            grid.add_row(row.arm, text)
    return [_text(), grid] if grid.row_count else []


def _heading(state: SweepState) -> Text:
    return Text.assemble((visible(state.name), "bold"), "  ", visible(state.question))


def _text(words: str = "", style: str = "") -> Text:
    """Return text whose control characters are made visible, since rich takes some of them out."""
    return Text(visible(words), style=style)
