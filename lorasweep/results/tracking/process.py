"""Mirroring beside a sweep: a process of its own that looks at the sweep folder, and that nobody waits for.

    driver                                    python -m lorasweep.results.tracking.process
    Mirror.start()                            sync, rest, sync, ...
    Mirror.finish()  -- "finish" on stdin ->  sync once more, one JSON line on stdout, exit
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
import time
from dataclasses import asdict
from pathlib import Path

from lorasweep.core.errors import InputError
from lorasweep.core.printable import command
from lorasweep.core.records import TrackingOptions, from_dict, to_dict
from lorasweep.core.run_folder import MIRROR_LOG_FILE
from lorasweep.results.tracking.address import address_problem, masked, masked_stderr, tracking_uri
from lorasweep.sweep.ranking.announce import MirrorReport

NICENESS = 5  # trials come first on a busy CPU
REST_S = 3.0  # between two syncs, at least; a sync takes tenths of a second of CPU
REST_SHARE = 10  # and so many times as long as a sync takes
REST_AFTER_FAILURE_S = 10.0

_FINISH = "finish\n"


class Mirror:
    """The driver's side; imports no mlflow. Once it is made, no method raises, or blocks but for `finish`."""

    def __init__(self, sweep_folder: Path, options: TrackingOptions) -> None:
        """Check the address of the store, which need not answer.

        Raises:
            InputError: it is none.
        """
        self._folder = sweep_folder.resolve()
        self._options = options
        self._child: subprocess.Popen[str] | None = None
        self._broken = ""
        if options.name != "none" and (wrong := address_problem(tracking_uri())):
            raise InputError(wrong, subject="the MLflow store")

    def start(self) -> None:
        """Start the child, whose first sync begins at once; nothing when tracking is off or it is running."""
        if self._options.name == "none" or self._child is not None:
            return
        command = [sys.executable, "-m", __spec__.name, str(self._folder), json.dumps(to_dict(self._options))]
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with open(self._folder / MIRROR_LOG_FILE, "ab") as log:
                self._child = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                    start_new_session=True,  # Ctrl-C is the driver's to interpret
                )
        except OSError as error:
            self._broken = f"the mirror process could not start: {error}"

    def finish(self, timeout_s: float) -> MirrorReport:
        """Ask for a last sync and wait for it, at most `timeout_s`; the child is gone afterwards."""
        if self._options.name == "none":
            return MirrorReport()
        self.start()
        if self._child is None:
            return self._incomplete(self._broken)
        try:
            said, _ = self._child.communicate(_FINISH, timeout_s)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.communicate()
            return self._incomplete(f"MLflow did not take everything within {timeout_s:g} s")
        return self._report(said)

    def _report(self, said: str) -> MirrorReport:
        assert self._child is not None
        try:
            report = json.loads(said)
        except json.JSONDecodeError:
            log = self._folder / MIRROR_LOG_FILE
            return self._incomplete(f"the mirror process ended with exit code {self._child.returncode}; see {log}")
        if problems := report["problems"]:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            return self._incomplete(f"{problems[0]}{more}")
        return MirrorReport(True, f"{report['runs']} runs in {report['store']}")

    def _incomplete(self, reason: str) -> MirrorReport:
        return MirrorReport(
            False,
            f"incomplete: {reason}. The results are whole in the run folders; "
            f"bring MLflow up to date with: {command('lorasweep', 'sync', self._folder.name)}",
        )


# ------------------------------------------------------------------------------------------- the child


def main(arguments: list[str]) -> int:
    """Sync until told to finish; returns the exit code."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the driver's to interpret: it says when to end
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(os, "nice"):  # Windows has none
        os.nice(NICENESS)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    # Libraries that print must not be taken for the report.
    stdout, sys.stdout = sys.stdout, sys.stderr
    asked = threading.Event()
    threading.Thread(target=_listen, args=(asked,), name="mirror-ear", daemon=True).start()

    from lorasweep.results.tracking.mirror import SweepMirror
    from lorasweep.results.tracking.store import quieten

    quieten()
    mirror = SweepMirror(Path(arguments[0]), from_dict(TrackingOptions, json.loads(arguments[1])))
    while True:
        last, started = asked.is_set(), time.monotonic()
        report = mirror.sync()
        for problem in report.problems:
            logging.getLogger(__name__).warning("%s", problem)
        if last:
            stdout.write(json.dumps({**asdict(report), "store": masked(tracking_uri())}) + "\n")
            stdout.flush()
            return 1 if report.problems else 0
        pause_s = max(REST_S, REST_SHARE * (time.monotonic() - started))
        asked.wait(REST_AFTER_FAILURE_S if report.problems else pause_s)


def _listen(asked: threading.Event) -> None:
    """Hear the driver ask for the end, or end the process when the driver is gone."""
    if sys.stdin.readline() != _FINISH:
        os._exit(1)  # even in the middle of a request that hangs
    asked.set()


if __name__ == "__main__":
    with masked_stderr():
        code = main(sys.argv[1:])
    sys.stderr.flush()
    # MLflow's queues and pools may hang at the interpreter's own exit, and everything is written by now.
    os._exit(code)
