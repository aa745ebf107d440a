"""What the end of an attempt means for its trial: final, or cooked again. Pure.

Takes the record before and the outcome, returns the record after. Knows nothing about files or Optuna.
"""

from __future__ import annotations

import dataclasses
import math
import re

from lorasweep.core.records import Outcome, Status
from lorasweep.core.run_folder import TrialRecord

RETRIES = 2  # further attempts after a crash, without a rung between them
ALIKE_STOPS = 3  # trials that fail alike, one after the other, stop the sweep
MEASURED = (Status.COMPLETED, Status.PRUNED)
DRIVER_GONE = "its driver is gone; run the same command to continue"
FAILURES = (Status.CRASHED, Status.INVALID, Status.OUT_OF_MEMORY)


def next_record(record: TrialRecord, outcome: Outcome, *, metric: str, now_s: float) -> TrialRecord:
    """Work out where a trial stands after an attempt.

    A crash leaves it WAITING while retries remain: the next attempt continues from its last checkpoint.
    Retries are counted between rungs, so that a long trial on a shaky machine gets there.

    Args:
        record: the RUNNING record of the attempt.
        outcome: how the attempt ended.
        metric: name of the sweep's metric.
        now_s: unix time, s.
    """
    crashed = outcome.status is Status.CRASHED
    crashes = record.crashes + crashed
    again = crashed and crashes <= RETRIES
    value = outcome.metrics.get(metric, outcome.value) if outcome.status in MEASURED else None
    if value is not None and not math.isfinite(value):
        value = None
    reason = outcome.reason
    if again:
        reason = f"attempt {record.attempt} crashed, queued again: {reason}"
    elif crashed and crashes > 1:
        reason = f"{reason} ({crashes} crashes)"
    elif outcome.status is Status.COMPLETED and value is None:
        reason = f"{metric} could not be measured: {outcome.missing.get(metric, 'no metric gives it')}"
    return dataclasses.replace(
        record,
        status=Status.WAITING if again else outcome.status,
        step=max(record.step, outcome.step),
        crashes=crashes,
        reason=reason,
        value=value,
        ended_at=None if again else now_s,
    )


def status_of_death(record: TrialRecord, *, starved: bool) -> Status:
    """Say what the death of its worker means for a trial.

    Memory may have been short for the neighbours' sake, so a kill by the kernel for want of it is a crash at
    first, like any other; when retries meet the same end, it is the trial that takes too much.
    """
    return Status.OUT_OF_MEMORY if starved and record.crashes >= RETRIES else Status.CRASHED


class FailureWatch:
    """Notices that trial after trial fails in the same way, so that the rest is not wasted."""

    def __init__(self) -> None:
        self._kind = ""
        self._count = 0

    def saw(self, record: TrialRecord) -> str:
        """Look at a trial that ended for good.

        Returns:
            Why the sweep should stop; empty when it should go on.
        """
        if record.status not in FAILURES:
            self._kind, self._count = "", 0
            return ""
        # Numbers differ between failures of one kind: bytes wanted, paths, steps.
        kind = f"{record.status} {re.sub(r'[0-9]+', '#', record.reason)}"
        self._count = self._count + 1 if kind == self._kind else 1
        self._kind = kind
        if self._count < ALIKE_STOPS:
            return ""
        return (
            f"{self._count} trials in a row ended {record.status} alike: {record.reason}. "
            "Mend the cause and run the same command to continue; it tries crashed trials again, and others "
            "once their run folder is deleted."
        )
