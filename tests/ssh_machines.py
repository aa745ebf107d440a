"""Machines called gpu1 and gpu2 that ssh reaches, both of them this one.

With an sshd here: one of the test's own, on loopback, with its own keys, config and known hosts. Without: a stand-in
for ssh that runs the command here, and takes options as ssh does. `PRETEND_NODE` says which machine a worker is on.
"""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from wire import THERE, Wire

from lorasweep.core.records import LauncherOptions

SSH = shutil.which("ssh")
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
NODES = ("gpu1", "gpu2")
KITCHEN = Path(__file__).parent / "unit" / "sweep"
STAND_IN = """\
while [ "$1" != -- ]; do shift; done
export PRETEND_NODE=$2; shift 2; exec sh -c "$*"
"""


def no_sshd() -> str:
    """Why no sshd can be started here; empty when one can."""
    if SSH is None or SSHD is None:
        return "no sshd is installed"
    try:
        pwd.getpwnam("sshd")
    except KeyError:
        return "root's sshd needs a user called sshd" if os.geteuid() == 0 else ""
    return ""


class Machines:
    """What a test needs of them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.home = folder / "their home"
        self._bin = folder / "bin"
        self._bin.mkdir(parents=True)
        monkeypatch.setenv("PATH", f"{self._bin}:{os.environ['PATH']}")
        self.python = self.script("python-there", f'export PYTHONPATH="{KITCHEN}"\nexec "{sys.executable}" "$@"\n')

    def script(self, name: str, text: str) -> str:
        """Put a program into the PATH; returns where it is."""
        file = self._bin / name
        file.write_text(f"#!/bin/sh\n{text}")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        return str(file)

    def options(self, *, workers: int = 1, nodes: tuple[str, ...] = NODES, **more: Any) -> LauncherOptions:
        own = {"hosts": nodes, "python": self.python, "home": str(self.home), "ship": "state", "ship_base": False}
        common = {key: more.pop(key) for key in list(more) if key not in own}
        return LauncherOptions(name="ssh", workers=workers, options={**own, **more}, **common)

    def words(self, **more: Any) -> list[str]:
        """The same as one types it."""
        launcher = self.options(**more)
        options = {**launcher.options, "workers": launcher.workers, "hosts": f"[{','.join(launcher.options['hosts'])}]"}
        return ["launcher=ssh", *(f"launcher.{key}={value}" for key, value in options.items())]


@contextmanager
def sshd(machines: Machines, cable: Wire | None = None) -> Iterator[None]:
    """Let ssh mean: to our own sshd, by our own config; `far` is a machine at the end of a cable."""
    folder = machines.folder / "ssh"
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    shutil.copy(folder / "user.pub", folder / "authorized_keys")
    host_key = (folder / "host.pub").read_text().split()[:2]
    (folder / "known_hosts").write_text(f"loopback {' '.join(host_key)}\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized_keys\n"
        "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\nMaxStartups 100\n"
    )
    (folder / "config").write_text(
        f"Host gpu1 gpu2\n  HostName 127.0.0.1\n  Port {port}\n  HostKeyAlias loopback\n"
        f"Host far\n  HostName {THERE}\n  Port {port}\n  HostKeyAlias loopback\n"
        f"Host unknown\n  HostName 127.0.0.1\n  Port {port}\n  HostKeyAlias unknown\n"
        f"Host *\n  User {getpass.getuser()}\n  IdentityFile {folder}/user\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {folder}/known_hosts\n  GlobalKnownHostsFile /dev/null\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # which sshd wants, and only a service manager makes
    machines.script("ssh", f'exec "{SSH}" -F "{folder}/config" "$@"\n')
    command = [str(SSHD), "-D", "-e", "-f", str(folder / "sshd_config")]
    with open(folder / "sshd.log", "wb") as log:
        servers = [subprocess.Popen(command, stderr=log)]
        if cable is not None:
            there = [*cable.command, *command, "-o", f"ListenAddress={THERE}"]
            servers.append(subprocess.Popen(there, stderr=log))
    try:
        for address in ("127.0.0.1", THERE)[: len(servers)]:
            for _ in range(100):
                with socket.socket() as probe:
                    if probe.connect_ex((address, port)) == 0:
                        break
                time.sleep(0.05)
        yield
    finally:
        for server in servers:
            server.terminate()
            server.wait()


@contextmanager
def reached(folder: Path, monkeypatch: pytest.MonkeyPatch, *, stand_in: bool = False) -> Iterator[Machines]:
    """The two machines, by sshd where there is one."""
    machines = Machines(folder, monkeypatch)
    if stand_in or no_sshd():
        machines.script("ssh", STAND_IN)
        yield machines
    else:
        with sshd(machines):
            yield machines
