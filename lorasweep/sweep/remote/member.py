"""Workers on other machines as the loop sees them: a `Member` each, and the `Launcher` over all of them.

Two threads of a member talk to its host, so that the loop never waits: one ships jobs and passes messages on, one
asks for news, brings files home and then tells of them. A host that goes away is dialled again, with patience that
doubles; its trial goes on wherever there is a worker. What is told to the loop, and what is written to a run folder,
ends with `kill`: whatever still comes is an old attempt's. Knows nothing about how a machine is reached.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import queue
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasweep.core import registry
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.files import write_text
from lorasweep.core.records import Recipe, from_dict, to_dict
from lorasweep.sweep.launchers import LaunchOptions, Message, Place, WorkerExit
from lorasweep.sweep.remote.handshake import in_words, refusal
from lorasweep.sweep.remote.host import JOBS
from lorasweep.sweep.remote.line import HostError, Line, LineLost
from lorasweep.sweep.remote.shipping import CHUNK, Pull, pack
from lorasweep.sweep.workers.pool import share_out

TAKE_S = 2.0  # how long a host waits for news before it answers that there is none
FIRST_PATIENCE_S, LONGEST_PATIENCE_S = 2.0, 600.0
LEAVE_S = 3.0  # for hosts to end their workers and remove their scratch
# What a worker says, and what each message must have.
KINDS = {"ready": (), "event": ("event",), "outcome": ("outcome", "leaving", "disk_full"), "drawn": ("reason",)}

News = Message | Exception | None  # an error of this machine; None: it is dead


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How a launcher's machines are reached, and what travels.

    Attributes:
        nodes: what people call them.
        key: where they are named, for problems.
        dial: starts a `Host` on a node.
        ship: what of a run folder comes home: state, results or kept.
        ship_base: whether the base's files travel too.
    """

    nodes: Sequence[str]
    key: str
    dial: Callable[[str], Line]
    ship: str
    ship_base: bool


@dataclass
class Slot:
    """Where one worker lives, whichever process it is just now."""

    node: str
    number: int  # of the workers there
    gpu: str | None  # its id there; None: the CPU
    device: str  # the GPU's model, or "CPU"
    threads: int
    patience_s: float = 0.0  # to wait before it is dialled again
    trouble: str = ""  # why it is not there

    def lose(self, error: Exception) -> None:
        """It does not answer: wait twice as long before the next try."""
        self.patience_s = max(FIRST_PATIENCE_S, 2 * self.patience_s)
        self.trouble = f"{self.node}: {error}".partition("\n")[0]


class _Killed(Exception):
    """Nothing more of this worker is heard."""


class RemoteMember:
    """One worker elsewhere."""

    def __init__(self, slot: Slot, reach: Reach, options: LaunchOptions, tell: Callable[[Any, News], None]) -> None:
        """Begin to reach for it; `tell` hears its news."""
        self.slot = slot
        self.place: Place | None = None
        self.job: Any = None
        self.ready = self.stopping = self.leaving = False
        name = f"{re.sub(r'[^A-Za-z0-9.-]', '-', slot.node)}-{slot.number}"
        self.log = options.log_folder / f"{name}.log"
        self._staging = options.log_folder / f".arriving-{name}"
        self._reach, self._options, self._tell = reach, options, tell
        self._outbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._line: Line | None = None
        self._pull: Pull | None = None
        self._exit = WorkerExit(cause="it was ended")
        self._fence = threading.Lock()
        self._killed = threading.Event()
        shutil.rmtree(self._staging, ignore_errors=True)
        self._start(self._run)

    def send(self, **message: Any) -> bool:
        """Have it sent, after all that was sent before."""
        self._outbox.put(message)
        return True

    def death(self) -> WorkerExit:
        """How it ended."""
        return self._exit

    def kill(self, *, gently: bool = False) -> Line | None:
        """End it; on return nothing of it reaches a run folder any more.

        Returns:
            Its line; `gently`, the host is left to tidy up and to end it.
        """
        with self._fence:
            self._killed.set()
        self._outbox.put(None)
        if self._line is not None:
            self._line.hang_up() if gently else self._line.kill()
        return self._line

    # ---------------------------------------------------------------------------------------- its threads

    def _start(self, work: Callable[[Line | None], None], line: Line | None = None) -> None:
        """Do something in a thread, and tell the loop how it went wrong."""

        def run() -> None:
            try:
                work(line)
            except _Killed:
                return
            except (LineLost, HostError) as error:
                if isinstance(error, LineLost):
                    self.slot.lose(error)
                for_good = isinstance(error, HostError)
                self._exit = WorkerExit(cause=f"{self.slot.node}: {error}", lost=True, for_good=for_good)
                self._say(None)
            except Exception as error:  # of this machine: the loop's to answer
                self._say(error)

        threading.Thread(target=run, name=f"member {self.slot.node}", daemon=True).start()

    def _say(self, news: News) -> None:
        if not self._killed.is_set():
            self._tell(self, news)

    def _run(self, _: Line | None) -> None:
        """Reach it, start its worker, and listen until it is dead."""
        line = self._dial()
        slot, launcher = self.slot, dataclasses.replace(self._options.launcher, threads=self.slot.threads, options={})
        line.call("open", trial_module=self._options.trial_module, launcher=to_dict(launcher), gpu=slot.gpu)
        self.place = Place(slot.node, slot.device)
        self._start(self._deliver, line)
        self._exit = self._listen(line)
        self._say(None)

    def _dial(self) -> Line:
        """Dial until somebody answers whose software is ours."""
        slot = self.slot
        while not self._killed.wait(slot.patience_s):
            try:
                self._line = line = self._reach.dial(slot.node)
                why = refusal(line.call("hello")[0])
            except LineLost as error:
                slot.lose(error)
                if slot.patience_s > LONGEST_PATIENCE_S:
                    raise HostError(f"it did not come back: {error}") from error
                continue
            if why:
                line.kill()
                raise HostError(why)
            if self._killed.is_set():
                line.kill()
                break
            slot.trouble = ""
            return line
        raise _Killed

    def _listen(self, line: Line) -> WorkerExit:
        def read(path: str, offset: int, size: int) -> bytes:
            return line.call("read", path=path, offset=offset, size=size)[1]

        after = 0
        while True:
            taken, _ = line.call("take", after=after, wait_s=TAKE_S)
            if taken["log"]:
                write_text(self.log, str(taken["log"]), durable=False)
            if taken["files"] is not None and self._pull is not None:
                try:
                    if not self._pull.update(taken["files"], read, self._own()):
                        continue  # the same messages again, with what is there now
                except ValueError as error:  # a path or a size that is refused
                    raise HostError(str(error)) from error
            for number, message in taken["messages"]:
                after = number
                if not set(KINDS.get(message["kind"], ("",))) <= message.keys():
                    raise HostError(f"it says what no worker says: {message['kind']}")
                if message["kind"] == "outcome":
                    self.slot.patience_s = 0.0  # it is good for something
                self._say(message)
            if taken["death"]:
                return WorkerExit(**taken["death"])

    @contextlib.contextmanager
    def _own(self) -> Iterator[None]:
        """Hold the run folder, unless another attempt has it by now."""
        with self._fence:
            if self._killed.is_set():
                raise _Killed
            yield

    def _deliver(self, line: Line | None) -> None:
        assert line is not None
        for number in itertools.count(1):
            message = self._outbox.get()
            if message is None:
                return
            if message["kind"] in JOBS:
                message = self._ship(line, message)
            line.call("send", number=number, message=message)

    def _ship(self, line: Line, message: Message) -> Message:
        """Bring to the host what it lacks for a job; returns the job as the host takes it."""
        folder, reach = Path(message["folder"]), self._reach
        cargo = pack(message, ship=reach.ship, ship_base=reach.ship_base)
        sizes = {name: file.stat().st_size for name, file in cargo.sources.items()}
        base = None if reach.ship_base else base_of(from_dict(Recipe, message["recipe"]))
        lacking, _ = line.call("begin", job=f"{folder.name} {message['attempt']}", files=sizes, base=base)
        for name in lacking:
            with open(cargo.sources[name], "rb") as source:
                for offset in range(0, max(sizes[name], 1), CHUNK):
                    last = offset + CHUNK >= sizes[name]
                    line.call("give", source.read(CHUNK), name=name, offset=offset, last=last)
        self._pull = Pull(folder, self._staging, reach.ship, cargo.stamps)
        return cargo.message


class RemoteLauncher:
    """A `Launcher` over nodes that are known by name, each with the workers that it has room for."""

    def __init__(self, options: LaunchOptions, reach: Reach) -> None:
        self.jobs = options.jobs
        self.members: list[RemoteMember] = []
        self._options, self._reach = options, reach
        self._slots: list[Slot] = []
        self._news: queue.SimpleQueue[tuple[RemoteMember, News]] = queue.SimpleQueue()

    def reach(self) -> None:
        """Dial every node, compare its software with ours and look for the base models.

        Raises:
            ConfigError: with every node that cannot be used.
        """
        if self._slots:
            return
        bases = [] if self._reach.ship_base else [base_of(recipe) for recipe in self._options.recipes]
        greeted = greet(self._reach, [base for n, base in enumerate(bases) if base and base not in bases[:n]])
        if problems := [told for _, told in greeted if isinstance(told, Problem)]:
            raise ConfigError(problems, subject="the machines to train on")
        of_nodes = [self._slots_of(node, theirs) for node, (theirs, _) in zip(self._reach.nodes, greeted, strict=True)]
        # One of each node in turn, so that few trials spread over the nodes.
        turns = itertools.zip_longest(*of_nodes)
        self._slots = [slot for turn in turns for slot in turn if slot is not None]

    def _slots_of(self, node: str, theirs: Mapping[str, Any]) -> list[Slot]:
        gpus = dict(theirs["gpus"]) if self._options.gpus_wanted else {}
        cores = int(theirs["cores"])
        workers, threads = share_out(self._options.launcher, gpus=len(gpus), cores=cores, jobs=self.jobs)
        devices = itertools.cycle(list(gpus.items()) or [(None, "CPU")])
        return [Slot(node, number, *next(devices), threads=threads) for number in range(workers)]

    def __enter__(self) -> RemoteLauncher:
        self._options.log_folder.mkdir(parents=True, exist_ok=True)
        self.reach()
        self.members += map(self._member, self._slots[: max(1, self.jobs)])
        return self

    def __exit__(self, *_: object) -> None:
        lines = [line for member in self.members if (line := member.kill(gently=True)) is not None]
        deadline = time.monotonic() + LEAVE_S
        while time.monotonic() < deadline and any(line.process.poll() is None for line in lines):
            time.sleep(0.02)
        for line in lines:
            line.kill()
        self.members.clear()

    def listen(self, timeout_s: float) -> list[tuple[RemoteMember, Message | None]]:
        """Wait for news; raises what went wrong on this machine, such as a full disk."""
        news: list[tuple[RemoteMember, Message | None]] = []
        with contextlib.suppress(queue.Empty):
            found = self._news.get(timeout=timeout_s)
            while True:
                member, message = found
                if isinstance(message, Exception):
                    raise message
                if member in self.members:
                    news.append((member, message))
                found = self._news.get_nowait()
        return news

    def end_hung(self) -> None:
        """Each host does so for its own worker."""

    def replace(self, member: RemoteMember) -> None:
        """Dial the same node again, at once or after its patience."""
        member.kill()
        self.members[self.members.index(member)] = self._member(member.slot)

    def remove(self, member: RemoteMember) -> None:
        """Do without it."""
        member.kill()
        self.members.remove(member)

    def waiting(self) -> str:
        """Which nodes are not there."""
        troubles = (member.slot.trouble for member in self.members if not member.ready)
        return "; ".join(f"waiting for {trouble}" for trouble in dict.fromkeys(troubles) if trouble)

    def _member(self, slot: Slot) -> RemoteMember:
        return RemoteMember(slot, self._reach, self._options, lambda member, news: self._news.put((member, news)))


def greet(reach: Reach, bases: Sequence[Any] = ()) -> list[tuple[Mapping[str, Any], str | Problem]]:
    """Dial all nodes at the same time, ask each for its facts and the bases, and hang up.

    Returns:
        For each its facts, and what it has in words or why it cannot be used.
    """

    def one(node: str) -> tuple[Mapping[str, Any], str | Problem]:
        line = None
        try:
            line = reach.dial(node)
            theirs, _ = line.call("hello")
            if why := refusal(theirs):
                hint = "install the same versions there: pip install -c constraints.txt"
                return theirs, Problem(f"{reach.key}={node}", why, hint)
            for base in bases:
                line.call("find_base", base=base)
            began = time.monotonic()
            line.call("take", after=0, wait_s=0.0)
            return theirs, in_words(theirs, time.monotonic() - began)
        except (LineLost, HostError) as error:
            message, _, hint = str(error).partition("\n")
            return {}, Problem(f"{reach.key}={node}", message, hint)
        finally:
            if line is not None:
                line.hang_up()

    with ThreadPoolExecutor(max_workers=len(reach.nodes)) as pool:
        return list(pool.map(one, reach.nodes))


def base_of(recipe: Recipe) -> dict[str, Any] | None:
    """What a host must have that is not sent: the base's files, by their fingerprint; None for an embedded one."""
    if recipe.base.path is None:
        return None
    fingerprint = registry.load("base", recipe.base.name).fingerprint(recipe.base, recipe.memory)
    return {"options": to_dict(recipe.base), "memory": to_dict(recipe.memory), "fingerprint": fingerprint}
