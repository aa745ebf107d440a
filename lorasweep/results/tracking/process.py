"""Mirroring beside a sweep: a process of its own that the driver pokes and never waits for.

    driver                                    python -m lorasweep.results.tracking.process
    Mirror.poke()    -- "poke" on stdin ->    sync (pokes that arrive meanwhile count as one)
    Mirror.finish()  -- "finish" --------->   sync once more, one JSON line on stdout, exit
    (driver dies)    -- end of stdin ----->   exit at once; the next sync goes on from there

The driver imports no mlflow, and nothing that happens to MLflow reaches it: a store that is slow, down or
gone costs at most the timeout of `finish`. What the child has to say besides goes to `<sweep>/mirror.log`.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from lorasweep.core.records import TrackingOptions, from_dict, to_dict
from lorasweep.results.tracking.address import address_problem, masked, masked_stderr, tracking_uri

LOG_FILE = "mirror.log"
NICENESS = 5  # trials come first on a busy CPU
REST_S = 3.0  # between two syncs; a sync takes tenths of a second of CPU
REST_AFTER_FAILURE_S = 10.0
GOODBYE_S = 2.0  # for a child that has said its last word to be gone

_POKE, _FINISH = "poke\n", "finish\n"


@dataclass(frozen=True)
class MirrorReport:
    """How the mirroring of a sweep ended.

    Attributes:
        ok: whether MLflow shows everything.
        message: for people: where to look, or what is missing and the command that repairs it.
    """

    ok: bool
    message: str


class Mirror:
    """The driver's side. No method raises, blocks (but `finish`, up to its timeout) or imports mlflow."""

    def __init__(self, sweep_folder: Path, options: TrackingOptions) -> None:
        self._folder = sweep_folder.resolve()
        self._options = options
        self._child: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._last_words: list[str] = []
        self._broken = ""

    def start(self) -> None:
        """Start the child, whose first sync begins at once; nothing when tracking is off or it is running."""
        if self._options.name == "none" or self._child is not None:
            return
        if wrong := address_problem(tracking_uri()):  # the results are not in danger, but it is known now
            self._broken = str(wrong)
            print(f"warning  {wrong}: nothing is mirrored", file=sys.stderr)
            return
        command = [sys.executable, "-m", __spec__.name, str(self._folder), json.dumps(to_dict(self._options))]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with open(self._folder / LOG_FILE, "ab") as log:
                self._child = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env=environment,
                    start_new_session=True,  # Ctrl-C is the driver's to interpret
                )
        except OSError as error:
            self._broken = f"the mirror process could not start: {error}"
            return
        assert self._child.stdin is not None
        os.set_blocking(self._child.stdin.fileno(), False)  # a child that does not read must not stop us
        # A thread reads, because a timeout cannot be put on a pipe portably.
        self._reader = threading.Thread(target=self._read, name="mirror-reader", daemon=True)
        self._reader.start()

    def poke(self) -> None:
        """Say that something changed in the sweep folder."""
        self._tell(_POKE)

    def finish(self, timeout_s: float) -> MirrorReport:
        """Ask for a last sync and wait for it, at most `timeout_s`; the child is gone afterwards."""
        if self._options.name == "none":
            return MirrorReport(True, "")
        if not self._broken:
            self.start()
        if self._child is None or self._reader is None:
            return self._incomplete(self._broken)
        self._tell(_FINISH)
        self._reader.join(timeout_s)
        slow = self._reader.is_alive()
        self._end_child()
        if slow:
            return self._incomplete(f"MLflow did not take everything within {timeout_s:g} s")
        return self._report()

    def _tell(self, word: str) -> None:
        if self._child is None or self._child.stdin is None:
            return
        try:
            os.write(self._child.stdin.fileno(), word.encode())
        except (OSError, ValueError):
            pass  # gone, or not reading: `finish` will say so

    def _read(self) -> None:
        assert self._child is not None and self._child.stdout is not None
        self._last_words.extend(self._child.stdout)

    def _end_child(self) -> None:
        assert self._child is not None
        try:
            self._child.wait(GOODBYE_S if not self._reader_is_waiting() else 0)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            _close(pipe)

    def _reader_is_waiting(self) -> bool:
        return self._reader is not None and self._reader.is_alive()

    def _report(self) -> MirrorReport:
        assert self._child is not None
        try:
            said = json.loads(self._last_words[-1])
        except (IndexError, json.JSONDecodeError):
            log = self._folder / LOG_FILE
            return self._incomplete(f"the mirror process ended with exit code {self._child.returncode}; see {log}")
        if said["problems"]:
            more = f" (and {len(said['problems']) - 1} more)" if len(said["problems"]) > 1 else ""
            return self._incomplete(f"{said['problems'][0]}{more}")
        return MirrorReport(True, f"{said['runs']} runs in {said['store']}")

    def _incomplete(self, reason: str) -> MirrorReport:
        return MirrorReport(
            False,
            f"incomplete: {reason}. The results are whole in the run folders; "
            f"bring MLflow up to date with: lorasweep sync {self._folder.name}",
        )


def _close(pipe: IO[str] | None) -> None:
    try:
        if pipe is not None:
            pipe.close()
    except OSError:
        pass  # unwritten words to a dead child


# ------------------------------------------------------------------------------------------- the child


class _Wishes:
    """What the driver asked for, gathered by a thread that ends the process when the driver is gone."""

    def __init__(self) -> None:
        self.finish = False
        self._something = threading.Event()
        self._something.set()  # the first sync needs no poke
        self._finish_asked = threading.Event()
        threading.Thread(target=self._listen, name="mirror-wishes", daemon=True).start()

    def wait(self) -> None:
        """Wait for a poke or the end; several pokes are one."""
        self._something.wait()
        self._something.clear()
        self.finish = self._finish_asked.is_set()

    def rest(self, seconds: float) -> None:
        """Wait a while, less when the driver wants to finish."""
        self._finish_asked.wait(seconds)

    def _listen(self) -> None:
        for word in sys.stdin:
            if word == _FINISH:
                self._finish_asked.set()
            self._something.set()
        if not self._finish_asked.is_set():
            os._exit(1)  # even in the middle of a request that hangs


def main(arguments: list[str]) -> int:
    """Sync whenever poked, until told to finish; returns the exit code."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the driver's to interpret: it says when to end
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(os, "nice"):  # Windows has none
        os.nice(NICENESS)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    # Libraries that print must not be taken for the report.
    stdout, sys.stdout = sys.stdout, sys.stderr
    folder, options = Path(arguments[0]), from_dict(TrackingOptions, json.loads(arguments[1]))
    wishes = _Wishes()

    from lorasweep.results.tracking.mirror import SweepMirror
    from lorasweep.results.tracking.store import quieten

    quieten()
    mirror = SweepMirror(folder, options)
    while True:
        wishes.wait()
        report = mirror.sync()
        for problem in report.problems:
            logging.getLogger(__name__).warning("%s", problem)
        if wishes.finish:
            stdout.write(json.dumps({**asdict(report), "store": masked(tracking_uri())}) + "\n")
            stdout.flush()
            return 1 if report.problems else 0
        wishes.rest(REST_AFTER_FAILURE_S if report.problems else REST_S)


if __name__ == "__main__":
    with masked_stderr():
        code = main(sys.argv[1:])
    sys.stderr.flush()
    # MLflow's queues and pools may hang at the interpreter's own exit, and everything is written by now.
    os._exit(code)
