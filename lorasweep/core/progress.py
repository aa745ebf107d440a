"""Progress on stderr: a bar on a terminal and in a notebook, a line now and then in a log.

    recipe_shown(steps)   yields what the events of a run go to
    sweep_shown(trials)   yields what is told how many trials are over

Knows nothing about what runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

from lorasweep.core.printable import visible

Report = Callable[[dict[str, Any]], bool]


class _Tell(Protocol):
    def __call__(self, done: int, total: int, note: str, *, milestone: bool) -> None:
        """Show how far it is; a log gets a line at a milestone only."""


@contextmanager
def recipe_shown(steps: int) -> Iterator[Report]:
    """Yield a report callback that shows the events of a run of so many steps."""
    with _shown("cooking", steps, "step") as tell:

        def report(event: dict[str, Any]) -> bool:
            if event.get("warning"):
                _warn(event["warning"])
            tell(event["step"], steps, _note(event), milestone=event.get("kind") == "rung")
            return True

        yield report


@contextmanager
def sweep_shown(trials: int) -> Iterator[Callable[[int, int, str], None]]:
    """Yield a callback that shows how many of the trials, which may become more, are over, and a note."""
    with _shown("trials", trials, "trial") as tell:
        said = -1

        def told(done: int, total: int, note: str) -> None:
            nonlocal said
            tell(done, total, note, milestone=done > said)
            said = done

        yield told


@contextmanager
def images_shown() -> Iterator[Callable[[int, int], None]]:
    """Yield a callback that shows how many images are done, of how many; nothing before it is called."""
    with ExitStack() as stack:
        tell: _Tell | None = None
        said = 0

        def told(done: int, total: int) -> None:
            nonlocal tell, said
            tell = tell or stack.enter_context(_shown("looking", total, "image"))
            tell(done, total, "", milestone=done == total or done * 10 // total > said * 10 // total)
            said = done

        yield told


@contextmanager
def _shown(what: str, total: int, unit: str) -> Iterator[_Tell]:
    from lorasweep.core.console import text_console

    console = text_console(stderr=True, soft_wrap=True)
    if not (console.is_terminal or "ipykernel" in sys.modules):

        def tell(done: int, total: int, note: str, *, milestone: bool) -> None:
            if milestone:
                console.print(f"{done}/{total} {unit}s  {note}".rstrip(), highlight=False)

        yield tell
        return
    from tqdm.auto import tqdm

    # The console's file takes the bar's own control characters.
    with tqdm(total=total, desc=what, unit=unit, file=console.file, dynamic_ncols=True) as bar:

        def move(done: int, total: int, note: str, *, milestone: bool) -> None:
            bar.total = total
            bar.set_postfix_str(note, refresh=milestone)
            # The kept checkpoint is drawn last, and is usually not the last one: the bar never goes back.
            bar.update(max(done - bar.n, 0))

        yield move


def _warn(text: str) -> None:
    from tqdm import tqdm

    tqdm.write(visible(f"warning  {text}"), file=sys.stderr)


def _note(event: dict[str, Any]) -> str:
    metrics = event.get("metrics", {})
    names = {"train/loss": "loss", "overcook/score": "overcook", "overcook/utility": "utility"}
    told = [f"{short} {metrics[name]:.3f}" for name, short in names.items() if name in metrics]
    return "judging" if event.get("kind") == "samples" else "  ".join(told)
