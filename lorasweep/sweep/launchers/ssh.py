"""Worker processes on machines that ssh reaches: no open port, no cluster, no shared disk.

`ssh HOST python -m lorasweep.sweep.remote.host` with the user's own ssh, its config, keys and known hosts. Nothing is
installed there: lorasweep, torch and the rest must be, in the versions of this machine.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from lorasweep.core.ranges import Text, apart
from lorasweep.core.records import LauncherOptions
from lorasweep.sweep.launchers import FoundMachine, LaunchOptions
from lorasweep.sweep.remote.line import Line
from lorasweep.sweep.remote.member import One, RemoteLauncher, Ship, Shipping, greet

ELSEWHERE = True
# Nobody is asked for a password; a machine that is silent for a minute is gone.
OPTIONS = ("BatchMode=yes", "ConnectTimeout=3", "ServerAliveInterval=15", "ServerAliveCountMax=4")

# A sweep file may be a stranger's: neither name may be an option of ssh or a piece of shell.
Host = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][\w.@%-]*(:\d+)?$", title="be HOST, USER@HOST or HOST:PORT")]
_SOME = Field(min_length=1, title="name at least one machine", examples=[["gpu1"]])
Hosts = Annotated[tuple[Host, ...], _SOME, apart("machine")]
Program = Annotated[str, Field(pattern=r"^[\w.~/][\w.~/+-]*$", title="be a program or its path")]


def build(
    options: LaunchOptions, *, hosts: Hosts, python: Program, home: Text, ship: Ship, ship_base: bool, pack: One = 1
) -> RemoteLauncher:
    """Make the launcher; entering it starts the workers."""
    shipping = Shipping(ship=ship, ship_base=ship_base)
    return RemoteLauncher(options, hosts, lambda node: dial(node, python, home), shipping, "launcher.hosts")


def where(launcher: LauncherOptions) -> str:
    """Tell what would run where; nobody is asked."""
    each = f"{launcher.workers} workers" if launcher.workers else "a worker per GPU, or per CPU core,"
    hosts = launcher.options["hosts"]
    return f"{each} on each of {', '.join(hosts)}, over ssh; `lorasweep doctor` with the same launcher=... asks them"


def look(launcher: LauncherOptions) -> list[FoundMachine]:
    """Ask every machine what it has."""
    python, home = launcher.options["python"], launcher.options["home"]
    answers = greet(launcher.options["hosts"], lambda node: dial(node, python, home))
    for line, _, _ in answers:
        if line is not None:
            line.hang_up()
    return [found for _, _, found in answers]


def dial(node: str, python: str, home: str) -> Line:
    """Start a host on a machine.

    Raises:
        LineLost: there is no ssh here.
    """
    return _SshLine(command(node, python, home), python)


def command(node: str, python: str, home: str) -> Sequence[str]:
    """Return the command that starts a host; `python` is not quoted, so that the shell there knows its `~`."""
    host, _, port = node.partition(":")
    options = [word for option in OPTIONS for word in ("-o", option)]
    there = f"exec {python} -m lorasweep.sweep.remote.host --home {shlex.quote(home)}"
    return ["ssh", "-T", *options, *(("-p", port) if port else ()), "--", host, there]


# What ssh or a shell says, what that means, and the next step.
_MEANINGS = (
    ("host key verification failed", "its host key is not known here", "connect once by hand and compare: ssh {host}"),
    ("identification has changed", "its host key is another one than it was", "find out why: ssh {host}"),
    (
        "permission denied",
        "it lets nobody in without a password",
        "a key of yours must be known: ssh-copy-id {host}",
    ),
    ("no module named", "lorasweep is not installed for {python} there", "install it, or launcher.python=ITS/PYTHON"),
    ("not found|no such file", "there is no {python} there", "launcher.python=PATH, e.g. of a virtual environment"),
)


class _SshLine(Line):
    """A line whose complaints are in people's words."""

    def __init__(self, words: Sequence[str], python: str) -> None:
        *_, option, port, _, host, _ = words
        self._names = {"host": f"-p {port} {host}" if option == "-p" else host, "python": python}
        super().__init__(words)

    def complaint(self) -> str:
        """Tell what ssh said, in our words where it is usual, and the next step."""
        said = super().complaint()
        for pattern, meaning, hint in _MEANINGS:
            if re.search(pattern, said, re.IGNORECASE):
                return f"{meaning.format(**self._names)} ({said}); {hint.format(**self._names)}"
        return f"{said}; try by hand: ssh {self._names['host']}"
