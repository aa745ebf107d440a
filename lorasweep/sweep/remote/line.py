"""Calls to a process over two pipes, in JSON and bytes: nothing that the other machine answers is run or unpickled.

    Line(["ssh", "gpu1", ...]).call("read", path="events.jsonl", offset=0, size=10)  ->  answer, bytes
    serve(host, methods, source, sink)                     in that process: answers by methods of `host`

A frame is two lengths (JSON, bytes), then both. Whatever a login shell prints before `MARK` is skipped. Knows
nothing about workers.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import struct
import subprocess
import tempfile
import threading
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from typing import IO, Any

from lorasweep.sweep.workers import stop

MARK = b"lorasweep host 1\n"  # the number is that of the methods and messages
LONGEST_NOISE, LONGEST_JSON, LONGEST_DATA = 2**18, 2**26, 2**26  # bytes
ANSWER_S = 60.0  # after which a process that should answer is gone; logins and the start of Python included
_LENGTHS = struct.Struct(">II")


class LineLost(Exception):
    """The process at the other end is gone, or as good as gone."""


class HostError(Exception):
    """The process at the other end cannot do what it was asked."""


class Line:
    """The caller's end; its methods may be called from several threads."""

    def __init__(self, command: Sequence[str]) -> None:
        """Start the process.

        Raises:
            LineLost: there is no such program here.
        """
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the line
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._errors}
        try:
            with stop.blocked():  # Ctrl-C is the driver's to answer
                self.process: Any = subprocess.Popen(command, **pipes, start_new_session=True)
        except OSError as error:
            raise LineLost(f"{command[0]} cannot be started: {error.strerror}") from error
        self._sending = threading.Lock()
        self._numbers = itertools.count()
        self._answers: dict[int, Future[tuple[Any, bytes]]] = {}
        self._lost = ""  # why
        threading.Thread(target=self._listen, name="line", daemon=True).start()

    def call(self, method: str, data: bytes = b"", **arguments: Any) -> tuple[Any, bytes]:
        """Call a method of the other end.

        Raises:
            HostError: it refuses; the message says why.
            LineLost: it is gone, or does not answer in time. It may have done what it was asked.
        """
        number = next(self._numbers)
        answer = self._answers[number] = Future()
        try:
            if self._lost:
                raise LineLost(self._lost)
            with self._sending:
                write_frame(self.process.stdin, [number, method, arguments], data)
            return answer.result(ANSWER_S)
        except TimeoutError:
            raise LineLost(f"it gave no sign of life for {ANSWER_S:.0f} s") from None
        except (OSError, ValueError) as error:  # a pipe that is closed
            raise LineLost(self._lost or self.complaint()) from error
        finally:
            del self._answers[number]

    def hang_up(self) -> None:
        """Let the other end know that nobody will call again; it ends by itself."""
        if not self._sending.acquire(timeout=1.0):  # somebody is stuck in writing
            self.kill()
            return
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self._sending.release()

    def kill(self) -> None:
        """End the process now."""
        self.process.kill()
        self.process.wait()

    def complaint(self) -> str:
        """The last line that the process printed as an error; its exit code when it printed none."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip()[:300] if lines else f"the connection ended (exit code {self.process.poll()})"

    def _listen(self) -> None:
        why = ""
        try:
            _skip_to_mark(self.process.stdout)
            while True:
                (number, content, refusal), data = read_frame(self.process.stdout)
                answer = self._answers.get(number)
                if answer is not None and refusal is None:
                    answer.set_result((content, data))
                elif answer is not None:
                    answer.set_exception(HostError(str(refusal)))
        except (EOFError, OSError):
            pass
        except Exception as error:  # whatever a stranger sends that is no frame
            self.process.kill()
            why = f"it answers nonsense: {error}"
        self._lost = why or self.complaint()
        for answer in list(self._answers.values()):
            if not answer.done():
                answer.set_exception(LineLost(self._lost))


def serve(host: Any, methods: Collection[str], source: IO[bytes], sink: IO[bytes]) -> None:
    """Answer calls until the caller hangs up; `take`, which waits, in a thread of its own."""
    sending = threading.Lock()

    def answer(number: int, method: str, arguments: dict[str, Any], data: bytes) -> None:
        refusal: str | None = None
        found: Any = None
        try:
            if method not in methods:
                raise HostError(f"no such method: {method}")
            found = getattr(host, method)(**arguments, **({"data": data} if data else {}))
        except Exception as error:
            refusal = str(error) if isinstance(error, HostError) else f"{type(error).__name__}: {error}"
        content, out = (None, found) if isinstance(found, bytes) else (found, b"")
        with sending, contextlib.suppress(OSError):
            write_frame(sink, [number, content, refusal], out)

    sink.write(MARK)
    sink.flush()
    with contextlib.suppress(EOFError, OSError):
        while True:
            (number, method, arguments), data = read_frame(source)
            if method == "take":
                threading.Thread(target=answer, args=(number, method, arguments, data), daemon=True).start()
            else:
                answer(number, method, arguments, data)


def write_frame(sink: IO[bytes], content: Any, data: bytes = b"") -> None:
    """Write JSON and bytes, and flush."""
    text = json.dumps(content).encode()
    sink.write(_LENGTHS.pack(len(text), len(data)) + text)
    sink.write(data)
    sink.flush()


def read_frame(source: IO[bytes]) -> tuple[Any, bytes]:
    """Read what `write_frame` wrote.

    Raises:
        EOFError: there is none.
        ValueError: it is too long, or no JSON.
    """
    text, data = _LENGTHS.unpack(_exactly(source, _LENGTHS.size))
    if text > LONGEST_JSON or data > LONGEST_DATA:
        raise ValueError(f"a frame of {text} and {data} bytes")
    return json.loads(_exactly(source, text)), _exactly(source, data)


def _exactly(source: IO[bytes], size: int) -> bytes:
    data = source.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _skip_to_mark(source: IO[bytes]) -> None:
    name, noise = MARK.rpartition(b" ")[0], 0
    while noise < LONGEST_NOISE and (line := source.readline(LONGEST_NOISE)):
        if name in line:
            if not line.endswith(MARK):
                raise ValueError(f"its lorasweep speaks another protocol ({line[-20:]!r})")
            return
        noise += len(line)
    raise EOFError
