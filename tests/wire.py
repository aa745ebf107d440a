"""Another machine, as far as the network goes: a namespace at the end of a cable that can be pulled. Wants root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

HERE, THERE = "198.51.100.1", "198.51.100.2"  # of no machine: kept for documentation by RFC 5737


def no_wire() -> str:
    """Why there can be none here; empty when there can."""
    return "" if os.geteuid() == 0 and shutil.which("ip") else "network namespaces want root, and ip"


class Wire:
    """A cable between this machine, `HERE`, and one that is `THERE`; it is plugged in."""

    def __init__(self) -> None:
        self._name = f"ls{os.getpid()}"
        self.command = ("ip", "netns", "exec", self._name)  # before one that is to run there
        near, far = f"{self._name}n", f"{self._name}f"
        _ip("netns", "add", self._name)
        _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", self._name)
        _ip("address", "add", f"{HERE}/24", "dev", near)
        _ip("link", "set", near, "up")
        self._there("address", "add", f"{THERE}/24", "dev", far)
        self._there("link", "set", "lo", "up")
        self._far = far
        self.plug()

    def plug(self) -> None:
        self._there("link", "set", self._far, "up")

    def pull(self) -> None:
        self._there("link", "set", self._far, "down")

    def close(self) -> None:
        _ip("link", "delete", f"{self._name}n")
        _ip("netns", "delete", self._name)

    def _there(self, *words: str) -> None:
        subprocess.run([*self.command, "ip", *words], check=True)


@contextmanager
def wire() -> Iterator[Wire]:
    made = Wire()
    try:
        yield made
    finally:
        made.close()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
