"""Where workers live, one module each: `build(options: LaunchOptions, **knobs) -> Launcher`.

    loop.py  <->  Launcher  ->  Member, one per trial at a time  ->  the process that trains

The keyword-only arguments of `build` are the launcher's own knobs in `conf/launcher/`; what every launcher has is in
`LauncherOptions`. A module whose workers' devices are known beforehand has also

    room(launcher: LauncherOptions, recipes, *, jobs: int) -> Room | None                     for `plan`

one whose workers train several trials at a time

    packing(launcher: LauncherOptions, recipes, *, room, learns, **knobs) -> (how many, why)          for `plan`

and one whose workers are on other machines

    ELSEWHERE = True                                          so `train` has its one trial cooked there as well
    where(launcher: LauncherOptions) -> str                   for `plan`: what would run where; nobody is asked
    look(launcher: LauncherOptions) -> list[FoundMachine]            for `doctor`: what is there
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from lorasweep.core.records import LauncherOptions, Recipe

Message = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """What a launcher is asked for."""

    trial_module: str  # has TrialResources, cooking, train and draw_base_samples
    jobs: int  # how many trials there can be at the same time, so that more workers would idle
    gpus_wanted: bool = True  # whether any trial may be trained on a GPU
    recipes: Sequence[Recipe] = ()  # those that are known, for what must be where they are trained
    learns: bool = False  # whether what is asked for next depends on what came out
    sharers: int = 1  # launchers like this one whose workers have a device together
    log_folder: Path  # of what workers print
    launcher: LauncherOptions = LauncherOptions()


@dataclass(frozen=True)
class Place:
    """Where a worker is, for people and for counting failures."""

    node: str = ""  # as the person calls the machine; "" for this one
    device: str = ""  # the GPU's model, or "CPU"; "" for this machine's


@dataclass(frozen=True, kw_only=True)
class WorkerExit:
    """How a worker ended."""

    cause: str  # for people
    starved: bool = False  # the kernel killed it for want of memory
    lost: bool = False  # its machine went away: nothing that its trial did
    for_good: bool = False  # its machine is not waited for any longer


@dataclass(frozen=True, kw_only=True)
class FoundMachine:
    """What was found of one machine."""

    node: str  # as the person calls it
    told: str = ""  # what is there, in a few words
    problem: str = ""  # why it cannot be used; empty when it can
    hint: str = ""  # the next step


class Member(Protocol):
    """A worker, or its place for one of several trials, as the loop sees it.

    The loop alone writes `job`, `ready`, `stopping` and `leaving`.
    """

    place: Place | None  # None: there is none yet, and its silence means nothing
    job: Any  # whatever it was given
    ready: bool  # it has loaded its code and waits for a job
    stopping: bool  # it was asked to stop its job
    leaving: bool  # it said that it will end itself
    log: Path

    def send(self, **message: Any) -> bool:
        """Send; False when the worker is gone (its death will come through `Launcher.listen`)."""

    def death(self) -> WorkerExit:
        """Find out how a dead worker ended."""

    def kill(self) -> None:
        """End it now; nothing of it reaches a run folder afterwards."""


class Launcher(Protocol):
    """A context manager over workers, all ended on the way out."""

    members: Sequence[Member]
    jobs: int  # of the `LaunchOptions`; may be lowered before it is entered

    def reach(self) -> None:
        """Find out what workers there will be, before anything is started.

        Raises:
            ConfigError: with every machine that cannot be used.
        """

    def __enter__(self) -> Self:
        """Start the workers; they need not be there yet."""

    def __exit__(self, *_: object) -> None:
        """End them, and what `reach` began; it need not have been entered."""

    def listen(self, timeout_s: float) -> list[tuple[Any, Message | None]]:
        """Wait for news.

        Returns:
            (member, message) in order of arrival per member, whose files are in the run folder by then;
            (member, None) last, when it died.
        """

    def end_hung(self) -> None:
        """Kill the workers of which nothing was heard for too long."""

    def replace(self, member: Any) -> None:
        """Put a fresh worker in the place of a dead one."""

    def remove(self, member: Any) -> None:
        """Do without a worker from now on."""

    def waiting(self) -> str:
        """Tell what is waited for that is not here yet, for people; empty when nothing is."""


def last_line(log: Path) -> str:
    """Return the last line of a worker's log; empty when there is none."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
