"""Sweeps in several threads of one program: their workers do not run the program again."""

from __future__ import annotations

import sys
import threading

from lorasweep.sweep.workers import pool


def test_workers_are_started_one_at_a_time_and_the_program_is_shown_again() -> None:
    program, entered = sys.modules["__main__"], threading.Event()

    def start() -> None:
        with pool._without_program():
            entered.set()

    other = threading.Thread(target=start)
    with pool._without_program():
        other.start()
        assert not entered.wait(0.2) and sys.modules["__main__"] is not program
    other.join()
    assert entered.is_set() and sys.modules["__main__"] is program
