"""Progress of one recipe on stderr: a bar on a terminal, a line at every judged step in a log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lorasweep.core.streams import make_safe

if TYPE_CHECKING:
    from rich.console import Console

Report = Callable[[dict[str, Any]], bool]


@contextmanager
def shown(
    steps: int,
    *,
    quiet: bool,
    console: Console | None = None,
    on_event: Callable[[dict[str, Any]], object] | None = None,
) -> Iterator[Report]:
    """Yield a report callback that shows the events of a run.

    Args:
        steps: the run has in all.
        quiet: show nothing.
        console: stderr when None.
        on_event: hears the events instead.
    """
    if on_event is not None:
        yield lambda event: on_event(event) is not False
        return
    if quiet:
        yield lambda event: True
        return
    from lorasweep.core.console import text_console

    console = console or text_console(stderr=True, soft_wrap=True)
    if not console.is_terminal:
        yield _lines(console, steps)
        return
    with _bar(console, steps) as report:
        yield report


def _lines(console: Console, steps: int) -> Report:
    def report(event: dict[str, Any]) -> bool:
        _warn(console, event)
        if event.get("kind") == "rung":
            told = f"{event['step']}/{steps} steps  {_note(event)}".rstrip()
            console.print(told, highlight=False, markup=False, soft_wrap=True)
        return True

    return report


@contextmanager
def _bar(console: Console, steps: int) -> Iterator[Report]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        make_safe()  # rich has taken the streams, to print above the bar, and would obey colours
        task = progress.add_task("cooking", total=steps, note="")

        def report(event: dict[str, Any]) -> bool:
            # The kept checkpoint is drawn last, and is usually not the last one: the bar never goes back.
            done = max(event["step"], int(progress.tasks[task].completed))
            progress.update(task, completed=done, note=_note(event))
            _warn(console, event)
            return True

        yield report


def _warn(console: Console, event: dict[str, Any]) -> None:
    if event.get("warning"):
        console.print(f"warning  {event['warning']}", highlight=False, markup=False, soft_wrap=True)


def _note(event: dict[str, Any]) -> str:
    metrics = event.get("metrics", {})
    names = {"train/loss": "loss", "overcook/score": "overcook", "overcook/utility": "utility"}
    told = [f"{short} {metrics[name]:.3f}" for name, short in names.items() if name in metrics]
    return "judging" if event.get("kind") == "samples" else "  ".join(told)
