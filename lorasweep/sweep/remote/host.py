"""The process on a worker's machine: it holds one worker as its child and answers a driver elsewhere.

    python -m lorasweep.sweep.remote.host --home FOLDER      frames on standard input and output (`line`)

It trains nothing itself, so that it hears at once how its child ends, and it ends when nobody calls any more. Every
method may be called again when its answer was lost: messages are numbered both ways, files are read by offset. A run
folder here is one attempt's, and nothing here ever writes where the driver is.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lorasweep.core import paths, registry
from lorasweep.core.errors import InputError
from lorasweep.core.records import BaseOptions, LauncherOptions, MemoryOptions, from_dict
from lorasweep.core.run_folder import BASE_SAMPLES
from lorasweep.sweep.launchers import LaunchOptions, Message
from lorasweep.sweep.remote.handshake import facts
from lorasweep.sweep.remote.line import HostError, own_streams, serve
from lorasweep.sweep.remote.shipping import Store, listing, unpack
from lorasweep.sweep.workers import stop
from lorasweep.sweep.workers.pool import WorkerPool

METHODS = frozenset(("ping", "find_base", "open", "begin", "give", "send", "take", "read"))
TICK_S = 0.25
LOG_TAIL = 2**16  # bytes of the worker's log that a driver sees
JOBS = ("cook", BASE_SAMPLES)


class Host:
    """One worker on this machine."""

    def __init__(self, home: Path) -> None:
        """Hold none yet; `home` is LORASWEEP_HOME here."""
        self._home = home
        self._store = Store(paths.cache("inputs"))
        self._scratch, self._lease = _scratch(paths.scratch())
        self._pool: WorkerPool | None = None
        self._news = threading.Condition()
        self._messages: list[tuple[int, Message]] = []
        self._count = 0  # messages so far
        self._heard = 0  # number of the driver's last message that was passed on
        self._death: dict[str, Any] | None = None
        self._job = ""
        self._base: Mapping[str, str] = {}  # what is different here of the job's base options
        self._folder: Path | None = None
        self._drawn: list[str] = []

    def ping(self) -> None:
        """Answer."""

    def find_base(self, base: Mapping[str, Any]) -> dict[str, str]:
        """Find where a base is here: at the path that it has there, or in `<home>/bases`, by its fingerprint.

        Raises:
            HostError: it is not here.
        """
        wanted = base["options"]
        module = registry.load("base", wanted["name"])
        places = [Path(wanted["path"]).expanduser(), self._home / "bases" / Path(wanted["path"]).name]
        for place in (place for place in places if place.exists()):
            options = from_dict(BaseOptions, {**wanted, "path": str(place)})
            with suppress(InputError):  # it is something else, or not whole
                if module.fingerprint(options, from_dict(MemoryOptions, base["memory"])) == base["fingerprint"]:
                    return {"path": str(place)}
        here = " or ".join(map(str, places))
        raise HostError(
            f"it has not the base {wanted['path']}: put the same files there as {here}, or launcher.ship_base=true"
        )

    def open(self, trial_module: str, launcher: Mapping[str, Any], gpu: str | None, sharers: int) -> None:
        """Start the worker, on a GPU or on none, which so many have together."""
        if self._pool is not None:
            return
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu or ""
        options = LaunchOptions(
            trial_module=trial_module,
            jobs=1,
            gpus_wanted=gpu is not None,
            sharers=sharers,
            log_folder=self._scratch,
            launcher=dataclasses.replace(from_dict(LauncherOptions, launcher), workers=1),
        )
        self._pool = WorkerPool(options).__enter__()
        threading.Thread(target=self._listen, args=(self._pool,), daemon=True).start()

    def begin(self, job: str, files: Mapping[str, int], base: Mapping[str, Any] | None) -> list[str]:
        """Prepare for a job, whose name has its attempt in it; returns what of its files is not in the store here.

        Raises:
            HostError: there is no room for them, or the base is not here.
        """
        if job != self._job:
            if self._folder is not None:
                shutil.rmtree(self._folder.parent, ignore_errors=True)
            self._job, self._folder = job, None
            self._base = {} if base is None else self.find_base(base)
        lacking = self._store.lacking(list(files))
        needed = sum(files[name] for name in lacking)
        if needed > (free := shutil.disk_usage(self._scratch).free):
            raise HostError(f"{needed / 2**30:.1f} GiB are needed in {self._home}, and {free / 2**30:.1f} are free")
        return lacking

    def give(self, name: str, offset: int, last: bool, data: bytes = b"") -> None:
        """Take a part of a file for the store."""
        self._store.give(name, offset, last, data)

    def send(self, number: int, message: Message) -> None:
        """Pass a message on to the worker, once: a repeated number is ignored."""
        if number <= self._heard or self._pool is None or not self._pool.members:
            return
        (worker,) = self._pool.members
        if message["kind"] in JOBS:
            self._folder = self._scratch / str(message["attempt"]) / message["name"]
            self._drawn = list(message["drawn"].values())
            message = unpack(message, self._store, self._folder, self._home)
            message["recipe"]["base"].update(self._base)
            worker.job = message["kind"]
        worker.send(**message)
        self._heard = number

    def take(self, after: int, wait_s: float) -> dict[str, Any]:
        """Return the messages with a number above `after`; asked again, it returns the same ones again.

        It waits until there is one that matters, or for so long. Steps do not matter, and only the newest is kept.
        """
        with self._news:
            self._messages = [each for each in self._messages if each[0] > after]
            self._news.wait_for(lambda: self._death is not None or any(map(_matters, self._messages)), wait_s)
            messages, death = list(self._messages), self._death
        tell = death is not None or any(map(_matters, messages))
        listed = listing(self._folder, self._drawn, self._home) if tell and self._folder is not None else None
        return {"messages": messages, "files": listed, "death": death, "log": self._log() if tell else None}

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Read a part of a file of the run folder; shorter, or empty, when it is not what it was."""
        file = self._home / path if path in self._drawn else (self._folder or self._scratch) / path
        try:
            with open(file, "rb") as source:
                source.seek(offset)
                return source.read(size)
        except OSError:
            return b""

    def close(self) -> None:
        """End the worker and leave nothing of its attempt."""
        if self._pool is not None:
            self._pool.__exit__()
        shutil.rmtree(self._scratch, ignore_errors=True)
        Path(self._lease.lock_file).unlink(missing_ok=True)

    def _listen(self, pool: WorkerPool) -> None:
        while self._death is None:
            for worker, message in pool.listen(TICK_S):
                if message is None:
                    death = dataclasses.asdict(worker.death())
                    death["cause"] = death["cause"].replace(str(worker.log), "its log")
                    with self._news:
                        self._death = death
                        self._news.notify_all()
                    return
                worker.ready = worker.ready or message["kind"] == "ready"
                if message["kind"] in ("outcome", "drawn"):
                    worker.job = None
                    worker.leaving = bool(message.get("leaving") or message.get("reason"))
                self._note(message)
            pool.end_hung()

    def _note(self, message: Message) -> None:
        if message["kind"] == "beat":  # this process hears the child's heart; the driver hears this process
            return
        with self._news:
            if self._messages and not _matters((0, message)) and not _matters(self._messages[-1]):
                self._messages.pop()
            self._count += 1
            self._messages.append((self._count, message))
            self._news.notify_all()

    def _log(self) -> str:
        worker = self._scratch / "worker-0.log"
        if not worker.exists():
            return ""
        with open(worker, "rb") as file:
            file.seek(max(0, worker.stat().st_size - LOG_TAIL))
            return file.read().decode(errors="replace")


def _matters(numbered: Sequence[Any]) -> bool:
    message = numbered[1]
    return not (message["kind"] == "event" and message["event"]["kind"] == "step")


def _scratch(folder: Path) -> tuple[Path, FileLock]:
    """Make a folder for this process, locked while it lives, and remove those of processes that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("*.lock"):
        with suppress(Timeout, OSError), FileLock(left, blocking=False):
            shutil.rmtree(left.with_suffix(""), ignore_errors=True)
            left.unlink()
    made = Path(tempfile.mkdtemp(dir=folder))
    lease = FileLock(made.with_suffix(".lock"))
    lease.acquire()
    return made, lease


def main() -> None:
    """Serve one driver on standard input and output, until it hangs up."""
    parser = argparse.ArgumentParser(prog="python -m lorasweep.sweep.remote.host")
    parser.add_argument("--home", required=True, help="LORASWEEP_HOME on this machine")
    home = Path(parser.parse_args().home).expanduser().absolute()
    stop.ignore()
    source, sink = own_streams()
    os.environ["LORASWEEP_HOME"] = str(home)
    host = Host(home)
    try:
        serve(host, METHODS, facts(home), source, sink)
    finally:
        host.close()


if __name__ == "__main__":
    main()
