"""Calls to a process over two pipes, in JSON and bytes: nothing that the other machine answers is run or unpickled.

    Line(["ssh", "gpu1", ...]).call("read", path="events.jsonl", offset=0, size=10)  ->  answer, bytes
    serve(host, hello, source, sink)                       in that process: answers them by methods of `host`

A frame is two lengths (JSON, bytes), then both. Whatever a login shell prints before `MARK` is skipped. The first
frame is the server's hello. Knows nothing about workers.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import struct
import subprocess
import tempfile
import threading
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from pathlib import Path
from typing import IO, Any, Protocol

from lorasweep.sweep.workers import stop

PROTOCOL = 1
MARK = b"lorasweep host "
HELLO = 0  # the number of the answer that nobody asks for
LONGEST_NOISE, LONGEST_JSON, LONGEST_DATA = 2**18, 2**26, 2**26  # bytes
ANSWER_S = 60.0  # after which a process that should answer at once is gone
WORK_S = 1800.0  # likewise of one that reads through a base's files, or is sent a part of them over a slow line
_LENGTHS = struct.Struct(">II")


class LineLost(Exception):
    """The process at the other end is gone, or as good as gone."""

    def __init__(self, why: str, *, starved: bool = False) -> None:
        """Remember `starved`: it was killed for want of memory."""
        super().__init__(why)
        self.starved = starved


class HostError(Exception):
    """The process at the other end cannot do what it was asked."""


class Connection(Protocol):
    """What a member needs of a host's process, however it is reached; as `Line` has it."""

    def hello(self, timeout_s: float) -> Any:
        """Tell what the other end says of itself."""

    def call(
        self, method: str, data: bytes = b"", *, timeout_s: float = ANSWER_S, **arguments: Any
    ) -> tuple[Any, bytes]:
        """Call a method of the other end."""

    def hang_up(self) -> None:
        """Let the other end know that nobody will call again."""

    def kill(self) -> None:
        """End the other end now."""

    @property
    def ended(self) -> bool:
        """Whether it has."""


class Line:
    """The caller's end; its methods may be called from several threads."""

    def __init__(self, command: Sequence[str]) -> None:
        """Start the process.

        Raises:
            LineLost: there is no such program here.
        """
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the line
        try:
            with stop.blocked():  # Ctrl-C is the driver's to answer
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._errors,
                    start_new_session=True,
                )
        except OSError as error:
            raise LineLost(f"{command[0]} cannot be started: {error.strerror}") from error
        self._sending = threading.Lock()
        self._numbers = itertools.count(HELLO + 1)
        self._hello: Future[tuple[Any, bytes]] = Future()
        self._answers = {HELLO: self._hello}
        self._lost = ""
        threading.Thread(target=self._listen, name="line", daemon=True).start()

    def hello(self, timeout_s: float) -> Any:
        """Tell what the other end says of itself; raises as `call` does."""
        return self._result(HELLO, self._hello, timeout_s)[0]

    @property
    def ended(self) -> bool:
        """Whether the process has."""
        return self.process.poll() is not None

    def call(
        self, method: str, data: bytes = b"", *, timeout_s: float | None = ANSWER_S, **arguments: Any
    ) -> tuple[Any, bytes]:
        """Call a method of the other end; without `timeout_s`, wait as long as it lives.

        Raises:
            HostError: it refuses; the message says why.
            LineLost: it is gone, or does not answer in time. It may have done what it was asked.
        """
        return self._result(*self._post(method, data, arguments), timeout_s)

    def post(self, method: str, **arguments: Any) -> Future[tuple[Any, bytes]]:
        """Call, but wait for no answer."""
        return self._post(method, b"", arguments)[1]

    def _post(self, method: str, data: bytes, arguments: dict[str, Any]) -> tuple[int, Future[tuple[Any, bytes]]]:
        number, answer = next(self._numbers), Future[tuple[Any, bytes]]()
        self._answers[number] = answer
        try:
            with self._sending:
                if self._lost:
                    raise LineLost(self._lost)
                assert self.process.stdin is not None
                write_frame(self.process.stdin, [number, method, arguments], data)
        except (OSError, ValueError) as error:  # a pipe that is closed
            raise LineLost(self.complaint()) from error
        return number, answer

    def _result(self, number: int, answer: Future[tuple[Any, bytes]], timeout_s: float | None) -> tuple[Any, bytes]:
        try:
            return answer.result(timeout_s)
        except Late:
            raise LineLost(f"it gave no sign of life for {timeout_s:.0f} s") from None
        finally:
            self._answers.pop(number, None)

    def hang_up(self) -> None:
        """Let the other end know that nobody will call again; it ends by itself."""
        with self._sending, contextlib.suppress(OSError):
            assert self.process.stdin is not None
            self.process.stdin.close()

    def kill(self) -> None:
        """End the process now."""
        self.process.kill()
        self.process.wait()

    def complaint(self) -> str:
        """Return the last line that the process printed as an error; its exit code when it printed none."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip()[:300] if lines else f"the connection ended (exit code {self.process.poll()})"

    def _listen(self) -> None:
        source = self.process.stdout
        assert source is not None
        why = ""
        try:
            _skip_to_mark(source)
            while True:
                (number, answer, refusal), data = read_frame(source)
                future = self._answers.get(number)
                if future is not None and refusal is None:
                    future.set_result((answer, data))
                elif future is not None:
                    future.set_exception(HostError(str(refusal)))
        except (EOFError, OSError):
            pass
        except Exception as error:  # whatever a stranger sends that is no frame
            self.process.kill()
            why = f"it answers nonsense: {error}"
        why = why or self.complaint()
        with self._sending:
            self._lost = why
        for future in list(self._answers.values()):
            if not future.done():
                future.set_exception(LineLost(why))


def own_streams(log: Path | None = None) -> tuple[IO[bytes], IO[bytes]]:
    """Keep standard input and output for frames; whatever else prints, prints to standard error, or to a log."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if log is not None:
        os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), 2)
    os.dup2(2, 1)
    return source, sink


def write_hello(sink: IO[bytes], hello: Any) -> None:
    """Write what comes before all answers."""
    sink.write(MARK + b"%d\n" % PROTOCOL)
    write_frame(sink, [HELLO, hello, None])


def serve(
    host: Any,
    methods: Collection[str],
    hello: Any,
    source: IO[bytes],
    sink: IO[bytes],
    *,
    waits: Collection[str] = ("take",),
) -> None:
    """Answer calls until the caller hangs up; those methods that may wait, in threads of their own."""
    sending = threading.Lock()

    def answer(number: int, method: str, arguments: dict[str, Any], data: bytes) -> None:
        refusal: str | None = None
        found: Any = None
        try:
            if method not in methods:
                raise ValueError(f"no such method: {method}")
            found = getattr(host, method)(**arguments, **({"data": data} if data else {}))
        except Exception as error:
            refusal = str(error) if isinstance(error, HostError) else f"{type(error).__name__}: {error}"
        if not isinstance(found, tuple):
            found = (None, found) if isinstance(found, bytes) else (found, b"")
        with sending, contextlib.suppress(OSError):
            write_frame(sink, [number, found[0], refusal], found[1])

    write_hello(sink, hello)
    with contextlib.suppress(EOFError, OSError):
        while True:
            (number, method, arguments), data = read_frame(source)
            call = (number, method, arguments, data)
            if method in waits:
                threading.Thread(target=answer, args=call, daemon=True).start()
            else:
                answer(*call)


def write_frame(sink: IO[bytes], content: Any, data: bytes = b"") -> None:
    """Write JSON and bytes, and flush."""
    text = json.dumps(content).encode()
    sink.write(_LENGTHS.pack(len(text), len(data)) + text)
    sink.write(data)
    sink.flush()


def read_frame(source: IO[bytes]) -> tuple[Any, bytes]:
    """Read what `write_frame` wrote; raises EOFError when there is none, ValueError when it is too long, or no JSON."""
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
    noise = 0
    while noise < LONGEST_NOISE and (line := source.readline(LONGEST_NOISE)):
        before, mark, version = line.partition(MARK)
        if mark:
            if version.strip() != b"%d" % PROTOCOL:
                raise ValueError(f"its lorasweep speaks protocol {version.strip().decode(errors='replace')[:9]}")
            return
        noise += len(before)
    raise EOFError
