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
import math
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from lorasweep.core import registry
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.files import write_text
from lorasweep.core.records import BaseOptions, MemoryOptions, Recipe, from_dict, to_dict
from lorasweep.sweep.launchers import FoundMachine, LaunchOptions, Message, Place, WorkerExit
from lorasweep.sweep.remote.handshake import refusal
from lorasweep.sweep.remote.host import JOBS
from lorasweep.sweep.remote.line import WORK_S, Connection, HostError, LineLost
from lorasweep.sweep.remote.shipping import CHUNK, Pull, pack
from lorasweep.sweep.workers.pool import share_out

HELLO_S = 60.0  # for a login and for Python to start
TAKE_S = 2.0  # how long a host waits for news before it answers that there is none
FIRST_PATIENCE_S, LONGEST_PATIENCE_S = 2.0, 600.0
LEAVE_S = 3.0  # for hosts to end their workers and remove their scratch
LOG_BYTES = 2**17
LEAVING = "its node is being taken away"
NODE_GONE = "its node went away"
KINDS = {"ready": (), "event": ("event",), "outcome": ("outcome", "leaving", "disk_full"), "drawn": ("reason",)}

Ship = Literal["state", "results", "kept"]
One = Annotated[int, Field(ge=1, le=1, title="be 1: workers on other machines train one trial at a time")]  # of `pack`
Dial = Callable[[str], Connection]  # node -> a line to a fresh `host` there
Answer = tuple[Connection | None, dict[str, Any], FoundMachine]  # its line, its hello, and what to tell of a node


@dataclass(frozen=True, kw_only=True)
class Shipping:
    """What travels."""

    ship: Ship  # what of a run folder comes home: state, results or kept
    ship_base: bool


@dataclass
class Slot:
    """Where one worker lives, whichever process it is just now."""

    node: str
    number: int  # of the workers there
    gpu: str | None  # its id there; None: the CPU
    device: str  # the GPU's model, or "CPU"
    threads: int | None
    sharers: int = 1  # workers that have its device together
    roams: bool = False  # where it is, it hears whenever it is reached
    line: Connection | None = None  # one that is open already
    patience_s: float = 0.0  # to wait before it is dialled again
    trouble: str = ""  # why it is not there


class Gone(HostError):
    """So is every other machine: what carried the calls is gone."""


class _Killed(Exception):
    """Nothing more of this worker is heard."""


class RemoteMember:
    """One worker elsewhere."""

    def __init__(
        self,
        slot: Slot,
        dial: Dial,
        options: LaunchOptions,
        shipping: Shipping,
        tell: Callable[[RemoteMember, Message | Exception | None], None],
    ) -> None:
        """Begin to reach for it; `tell` hears its messages, None when it is dead, and errors of this machine."""
        self.slot = slot
        self.place: Place | None = None
        self.job: Any = None
        self.ready = self.stopping = self.leaving = False
        self.log = options.log_folder / f"{_file_name(slot.node)}-{slot.number}.log"
        self._dial, self._options, self._shipping, self._tell = dial, options, shipping, tell
        self._staging = options.log_folder / f".arriving-{_file_name(slot.node)}-{slot.number}"
        self._outbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._line: Connection | None = None
        self._pull: Pull | None = None
        self._exit = WorkerExit(cause="it was ended")
        self._fence = threading.Lock()
        self._killed = threading.Event()
        shutil.rmtree(self._staging, ignore_errors=True)
        threading.Thread(target=self._run, name=f"member-{slot.node}", daemon=True).start()

    def send(self, **message: Any) -> bool:
        """Have it sent, after all that was sent before."""
        self._outbox.put(message)
        return True

    def death(self) -> WorkerExit:
        """Tell how it ended."""
        return self._exit

    def kill(self) -> None:
        """End it; on return nothing of it reaches a run folder any more."""
        if (line := self._fall_silent()) is not None:
            line.kill()

    def leave(self) -> Connection | None:
        """Kill, but let the host tidy up; returns the line that it will end."""
        if (line := self._fall_silent()) is not None:
            line.hang_up()
        return line

    def _fall_silent(self) -> Connection | None:
        with self._fence:
            self._killed.set()
        self._outbox.put(None)
        return self._line

    # ---------------------------------------------------------------------------------------- its threads

    def _run(self) -> None:
        """Reach it, start its worker, and listen until it is dead."""
        try:
            self._line = line = self._reach()
            launcher = dataclasses.replace(self._options.launcher, threads=self.slot.threads, options={})
            asked: dict[str, Any] = {"gpu": self.slot.gpu, "sharers": self.slot.sharers}
            line.call("open", trial_module=self._options.trial_module, launcher=to_dict(launcher), **asked)
            self.place = Place(self.slot.node, self.slot.device)
            threading.Thread(target=self._deliver, args=(line,), daemon=True).start()
            self._end(self._listen(line))
        except (LineLost, HostError) as error:
            self._lose(error)
        except Exception as error:  # of this machine: the loop's to answer
            self._say(error)

    def _reach(self) -> Connection:
        """Dial until somebody answers.

        Raises:
            HostError: it is given up.
        """
        slot = self.slot
        while not self._killed.wait(slot.patience_s):
            try:
                line, slot.line = slot.line or self._dial(slot.node), None
                self._line = line
                hello = line.hello(HELLO_S)
                if slot.roams:
                    slot.node = hello["node"]
                    slot.gpu, slot.device = next(iter(hello["gpus"].items()), (None, "CPU"))
                if why := refusal(hello["software"], self._options.recipes):
                    line.kill()
                    raise HostError(why)
            except LineLost as error:
                slot.patience_s = max(FIRST_PATIENCE_S, 2 * slot.patience_s)
                slot.trouble = f"{slot.node}: {error}"
                if slot.patience_s > LONGEST_PATIENCE_S:
                    raise HostError(f"it did not come back: {error}") from error
            else:
                if self._killed.is_set():
                    line.kill()
                slot.trouble = ""
                return line
        raise _Killed

    def _listen(self, line: Connection) -> WorkerExit:
        after = 0
        while True:
            taken, _ = line.call("take", after=after, wait_s=TAKE_S)
            if taken["log"]:
                write_text(self.log, str(taken["log"])[-LOG_BYTES:], durable=False)
            if taken["files"] is not None and self._pull is not None:
                if not self._bring_home(self._pull, taken["files"], line):
                    continue  # the same messages again, with what is there now
            for number, message in taken["messages"]:
                after = number
                if taken.get("leaving") and message["kind"] == "outcome":
                    message["leaving"] = LEAVING
                if not set(KINDS.get(message["kind"], ("",))) <= message.keys():
                    raise HostError(f"it says what no worker says: {message['kind']}")
                if message["kind"] == "outcome" or message.get("event", {}).get("kind") == "rung":
                    self.slot.patience_s = 0.0
                self._say(message)
            if taken["death"]:
                return WorkerExit(**taken["death"])
            if taken.get("leaving"):
                self._leave_node()

    def _leave_node(self) -> None:
        """Have the trial saved, and once that is at home, ask for another place."""
        if self.job is None or self.leaving:
            raise LineLost(LEAVING)
        if not self.stopping:
            self.stopping = self.send(kind="stop")

    def _bring_home(self, pull: Pull, listed: Sequence[Sequence[Any]], line: Connection) -> bool:
        try:
            return pull.update(
                listed,
                lambda path, offset, size: line.call("read", path=path, offset=offset, size=size)[1],
                self._own(),
            )
        except ValueError as error:  # a path or a size that is refused
            raise HostError(str(error)) from error

    @contextlib.contextmanager
    def _own(self) -> Iterator[None]:
        """Hold the run folder, unless another attempt has it by now."""
        with self._fence:
            if self._killed.is_set():
                raise _Killed
            yield

    def _deliver(self, line: Connection) -> None:
        try:
            for number in itertools.count(1):
                message = self._outbox.get()
                if message is None:
                    return
                if message["kind"] in JOBS:
                    message = self._ship(line, message)
                line.call("send", number=number, message=message)
        except LineLost:
            line.kill()  # so that the other thread, which may still hear it, tells of it
        except HostError as error:
            self._lose(error)
            line.kill()
        except Exception as error:
            self._say(error)

    def _ship(self, line: Connection, message: Message) -> Message:
        """Bring to the host what it lacks for a job; returns the job as the host takes it."""
        folder = Path(message["folder"])
        cargo = pack(message, ship=self._shipping.ship, ship_base=self._shipping.ship_base)
        sizes = {name: file.stat().st_size for name, file in cargo.sources.items()}
        job = f"{folder.name} {message['attempt']}"
        base = None if self._shipping.ship_base else _base_of(message["recipe"])
        lacking, _ = line.call("begin", job=job, files=sizes, base=base, timeout_s=WORK_S)
        for name in lacking:
            _give(line, name, cargo.sources[name], sizes[name])
        self._pull = Pull(folder, self._staging, self._shipping.ship, dict(cargo.stamps))
        return cargo.message

    def _lose(self, error: Exception) -> None:
        if self._killed.is_set():
            return  # its slot has another member by now
        slot, refused = self.slot, isinstance(error, HostError)
        if self._line is not None and not refused:
            slot.patience_s = max(FIRST_PATIENCE_S, 2 * slot.patience_s)
        starved = isinstance(error, LineLost) and error.starved
        cause = str(error) if isinstance(error, Gone) else f"{slot.node}: {error}"
        self._end(WorkerExit(cause=cause, starved=starved, lost=not starved, for_good=refused))

    def _end(self, how: WorkerExit) -> None:
        """Tell of its end, of which both threads may hear, and nothing more."""
        with self._fence:
            if self._killed.is_set():
                return
            self._killed.set()
        self._exit = how
        self._tell(self, None)

    def _say(self, what: Message | Exception) -> None:
        if not isinstance(what, _Killed) and not self._killed.is_set():
            self._tell(self, what)


class RemoteLauncher:
    """A `Launcher` over nodes that are known by name, each with the workers that its hello says it has room for."""

    def __init__(self, options: LaunchOptions, nodes: Sequence[str], dial: Dial, shipping: Shipping, key: str) -> None:
        """Take what the launcher's module knows; `key` is where the nodes were named."""
        self.jobs = options.jobs
        self.members: list[RemoteMember] = []
        self._options, self._nodes, self._dial, self._shipping, self._key = options, nodes, dial, shipping, key
        self._slots: list[Slot] = []
        self._news: queue.SimpleQueue[tuple[RemoteMember, Message | Exception | None]] = queue.SimpleQueue()

    def reach(self) -> None:
        """Dial every node and compare its software with ours.

        Raises:
            ConfigError: with every node that cannot be used.
        """
        if self._slots:
            return
        answers = self._greet(self._nodes, self._dial)
        of_nodes = [self._slots_of(each.node, line, hello) for line, hello, each in answers]
        # One of each node in turn, so that few trials spread over the nodes.
        turns = itertools.zip_longest(*of_nodes)
        self._slots = [slot for turn in turns for slot in turn if slot is not None]

    def _greet(self, nodes: Sequence[str], dial: Dial) -> list[Answer]:
        """Greet as `greet` does; nodes that cannot be used are refused, one that has just gone is nobody's problem."""
        answers = greet(nodes, dial, self._options.recipes)
        problems = [
            Problem(f"{self._key}={each.node}", each.problem, each.hint)
            for _, _, each in answers
            if each.problem not in ("", NODE_GONE)
        ]
        with ThreadPoolExecutor(max_workers=len(answers)) as pool:
            for missing in pool.map(self._missing_bases, answers):
                problems += missing
        if problems:
            for line, _, _ in answers:
                if line is not None:
                    line.kill()
            raise ConfigError(problems, subject="the machines to train on")
        return answers

    def _missing_bases(self, answer: Answer) -> list[Problem]:
        line, _, found = answer
        if line is None or found.problem or self._shipping.ship_base:
            return []
        problems = []
        bases = [_base_of(to_dict(recipe)) for recipe in self._options.recipes]
        for number, base in enumerate(bases):
            if base is not None and base not in bases[:number]:
                try:
                    line.call("find_base", base=base, timeout_s=WORK_S)
                except (HostError, LineLost) as error:
                    problems.append(Problem(f"{self._key}={found.node}", str(error)))
        return problems

    def __enter__(self) -> RemoteLauncher:
        self._options.log_folder.mkdir(parents=True, exist_ok=True)
        self.reach()
        used = self._slots[: max(1, self.jobs)]
        for slot in self._slots[len(used) :]:
            if slot.line is not None:
                slot.line.kill()
        self.members += map(self._member, used)
        return self

    def __exit__(self, *_: object) -> None:
        lines = [line for member in self.members if (line := member.leave()) is not None]
        deadline = time.monotonic() + LEAVE_S
        while time.monotonic() < deadline and not all(line.ended for line in lines):
            time.sleep(0.02)
        for line in lines:
            line.kill()
        self.members.clear()
        for slot in self._slots:
            if slot.line is not None:  # reached, and never used
                slot.line.kill()

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
        """Do nothing: each host ends its own worker."""

    def replace(self, member: RemoteMember) -> None:
        """Dial the same node again, at once or after its patience."""
        member.kill()
        self.members[self.members.index(member)] = self._member(member.slot)

    def remove(self, member: RemoteMember) -> None:
        """Do without it."""
        member.kill()
        self.members.remove(member)

    def waiting(self) -> str:
        """Tell which nodes are not there."""
        return "; ".join(
            f"waiting for {member.slot.trouble}" for member in self.members if member.slot.trouble and not member.ready
        )

    def _member(self, slot: Slot) -> RemoteMember:
        return RemoteMember(
            slot, self._dial, self._options, self._shipping, lambda member, what: self._news.put((member, what))
        )

    def _slots_of(self, node: str, line: Connection | None, hello: Mapping[str, Any]) -> list[Slot]:
        gpus = dict(hello["gpus"]) if self._options.gpus_wanted else {}
        launcher = self._options.launcher
        workers, threads = share_out(launcher, gpus=len(gpus), cores=int(hello["cores"]), jobs=self.jobs)
        devices = list(gpus.items()) or [(None, "CPU")]
        how = threads, math.ceil(workers / len(devices))
        slots = [Slot(node, number, *devices[number % len(devices)], *how) for number in range(workers)]
        slots[0].line = line
        return slots


def greet(nodes: Sequence[str], dial: Dial, recipes: Sequence[Recipe] = ()) -> list[Answer]:
    """Dial nodes at the same time; returns for each its line, its hello, and what to tell of it, for these recipes."""

    def one(node: str) -> Answer:
        try:
            line = dial(node)
            hello = line.hello(HELLO_S)
        except (LineLost, HostError) as error:
            message, _, hint = str(error).partition("\n")
            return None, {}, FoundMachine(node=node, problem=message, hint=hint)
        began = time.monotonic()
        with contextlib.suppress(LineLost):
            line.call("ping")
        told = _in_words(hello, time.monotonic() - began)
        why = refusal(hello["software"], recipes)
        hint = "install the same versions there: pip install -c constraints.txt" if why else ""
        return line, hello, FoundMachine(node=node, told=told, problem=why, hint=hint)

    with ThreadPoolExecutor(max_workers=len(nodes)) as pool:
        return list(pool.map(one, nodes))


def _in_words(hello: Mapping[str, Any], round_trip_s: float) -> str:
    software = ", ".join(f"{name} {value}" for name, value in hello["software"].items() if name != "code")
    models = list(hello["gpus"].values())
    gpus = ", ".join(f"{models.count(model)} x {model}" for model in dict.fromkeys(models)) or "no GPU"
    room = f"{hello['free_bytes'] / 2**30:.0f} GiB free in {hello['home']}"
    return f"{gpus}, {hello['cores']} cores, {room}; {software}; answers in {1000 * round_trip_s:.0f} ms"


def _base_of(recipe: Mapping[str, Any]) -> dict[str, Any] | None:
    """Name what a host must have that is not sent: the base, by its files' fingerprint; None for an embedded one."""
    if recipe["base"]["path"] is None:
        return None
    options, memory = from_dict(BaseOptions, recipe["base"]), from_dict(MemoryOptions, recipe["memory"])
    fingerprint = registry.load("base", options.name).fingerprint(options, memory)
    return {"options": recipe["base"], "memory": recipe["memory"], "fingerprint": fingerprint}


def _give(line: Connection, name: str, file: Path, size: int) -> None:
    with open(file, "rb") as source:
        for offset in range(0, max(size, 1), CHUNK):
            last = offset + CHUNK >= size
            line.call("give", source.read(CHUNK), name=name, offset=offset, last=last, timeout_s=WORK_S)


def _file_name(node: str) -> str:
    return "".join(letter if letter.isalnum() or letter in ".-" else "-" for letter in node)
