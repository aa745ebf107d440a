"""What travels between the driver and a worker's machine, and what is allowed to.

    pack(message)      driver    the job, the digests of all that it needs, and where to read those here
    Store, unpack      host      inputs by digest, once per machine; paths in recipe and plan become the host's
    listing            host      what a run folder holds now
    Pull               driver    brings home what changed, whole, before the message that tells of it is heard

A checkpoint's folder appears by one rename and `outcome.json` comes last, as when the worker writes here. Paths that
a host sends are a stranger's: `checked`. Knows nothing about pipes.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorasweep.components import bases
from lorasweep.core import files, paths
from lorasweep.core.records import Recipe, digest, from_dict
from lorasweep.core.run_folder import (
    ADAPTER_FILE,
    BASE_SAMPLES,
    CACHED_AS_FILE,
    CHECKPOINTS,
    DRIVERS_FILES,
    ERROR_FILE,
    EVENTS_FILE,
    INDEX_FILE,
    OUTCOME_FILE,
    PROBES_FILE,
    RATINGS,
    RESULT_FILE,
)
from lorasweep.plan import calibration

CHUNK = 2**24  # bytes of a file that are in memory at a time
LARGEST, MOST_FILES = 2**36, 20_000  # bytes of a file, files of a run folder, that a host may send
_LAST = (EVENTS_FILE, RESULT_FILE, ADAPTER_FILE, ERROR_FILE, OUTCOME_FILE)
_PATH = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._-]*/){0,4}[A-Za-z0-9_][A-Za-z0-9._-]*")
_SHARED = re.compile(r"cache/class_images/[0-9a-f]{2}/[0-9a-f]{32}\.png")

Stamp = tuple[int, int]  # size in bytes, mtime in ns
Read = Callable[[str, int, int], bytes]  # path, offset, size


def checked(path: str) -> str:
    """Return a path below a run folder, as a host calls it.

    Raises:
        ValueError: it may lead elsewhere, or is a file that is the driver's.
    """
    expected = _SHARED if path.startswith("cache/") else _PATH
    if not expected.fullmatch(path) or path.lower().partition("/")[0] in (*DRIVERS_FILES, RATINGS):
        raise ValueError(f"it wants to write {path!r}")
    return path


# ------------------------------------------------------------------------------------------------- driver


@dataclass(frozen=True)
class Cargo:
    """A job for a host."""

    message: dict[str, Any]  # recipe and plan with the paths of this machine, and how those map to what is sent
    sources: dict[str, Path]  # name in the host's store (digest and suffix) -> file here
    stamps: dict[str, Stamp]  # of the files of the run folder that are sent along


def pack(message: Mapping[str, Any], *, ship: str, ship_base: bool) -> Cargo:
    """Collect what a job needs on another machine.

    Args:
        message: `cook` or `base_samples`, as a worker here gets it.
        ship: what comes home; a trial goes on elsewhere only from a state that has come home.
        ship_base: the base's files travel too.
    """
    recipe, plan, folder = _calibrated(message["recipe"]), message["plan"], Path(message["folder"])
    sources: dict[str, Path] = {}

    def stored(file: Path) -> str:
        name = files.file_digest(file) + file.suffix.lower()
        sources[name] = file
        return name

    inputs: dict[str, Any] = {}  # path here -> name in the store, or {path below it: name}
    is_embedded = recipe["base"]["path"] is None  # then only what is drawn with can be of this machine
    for path in dict.fromkeys(_input_paths(recipe, plan, base=ship_base or is_embedded)):
        place = Path(path).expanduser()
        if place.is_dir():
            only = (place / "world.json",) if path == recipe["dataset"]["path"] else place.rglob("*")
            inputs[path] = {file.relative_to(place).as_posix(): stored(file) for file in only if file.is_file()}
        elif place.is_file():
            inputs[path] = stored(place)
    drawn = {
        image["file"]: Path(image["file"]).relative_to(paths.home()).as_posix()
        for image in plan["reg_images"]
        if image["file"] not in inputs and Path(image["file"]).is_relative_to(paths.home())
    }
    cook = message["kind"] == "cook"
    begun = _below(folder) if cook and ship == "state" else {}
    begun = {path: file for path, file in begun.items() if path not in (*DRIVERS_FILES, OUTCOME_FILE)}
    stamps = {path: _stamp(file) for path, file in begun.items()}
    packed = {
        **message,
        "recipe": recipe,
        "name": folder.name,
        "inputs": inputs,
        "drawn": drawn,
        "folder": {path: (stored(file), stamps[path][1]) for path, file in begun.items()},
        "cache": _base_samples(folder.parent / BASE_SAMPLES, stored) if cook else {},
    }
    return Cargo(packed, sources, stamps)


def _calibrated(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a recipe that names the calibration of this home that fits it, if there is one."""
    if recipe["calibration"] is not None or not calibration.own_folder().is_dir():
        return recipe
    read = from_dict(Recipe, recipe)
    own = calibration.own_path(calibration.conditions(read, bases.fingerprint(read)))
    return {**recipe, "calibration": str(own)} if own.exists() else recipe


def _input_paths(recipe: Mapping[str, Any], plan: Mapping[str, Any], *, base: bool) -> Iterator[str]:
    """List what a worker reads of this machine; the files of the base only if they are to be sent."""
    options = recipe["adapter"]["options"]
    found = [recipe["dataset"]["path"], recipe["calibration"], *recipe["encoders"].values()]
    found += [options.get("init"), *options.get("paths", ())]
    found += [*map(recipe["base"].get, ("path", "weights", "adapter")), recipe["sample"]["base"]] if base else []
    for image in (*plan["images"], *plan["reg_images"]):
        found += [image["file"], (image["mask"] or {}).get("file")]
    yield from filter(None, found)


def _base_samples(folder: Path, stored: Callable[[Path], str]) -> dict[str, str]:
    """Return the base's own pictures as a cache knows them, so that every trial is judged beside the same ones."""
    name = files.read_object(folder / CACHED_AS_FILE).get("folder")
    if not name:
        return {}
    own = (CACHED_AS_FILE, PROBES_FILE)
    return {f"base_samples/{name}/{file.name}": stored(file) for file in folder.iterdir() if file.name not in own}


@dataclass
class Pull:
    """One attempt's files on their way home."""

    folder: Path  # the run folder here
    staging: Path  # a folder on the same disk, this worker's own
    ship: str  # `state`: all; `results`: without what only resuming needs; `kept`: without the checkpoints
    have: dict[str, Stamp] = field(default_factory=dict)  # what is here already, as the host lists it

    def update(self, listed: Sequence[Sequence[Any]], read: Read, fence: AbstractContextManager[object]) -> bool:
        """Bring the run folder to what the host listed.

        Args:
            listed: path, size, mtime in ns; a stranger's.
            read: reads a part of a file there, as far as there is one.
            fence: entered around what changes the run folder; it may raise.

        Returns:
            Whether it is there, all of it; else nothing has changed here, for something changed there meanwhile.

        Raises:
            ValueError: a path or a size is refused.
            OSError: there is no room here.
        """
        wanted = {checked(str(path)): (int(size), int(time)) for path, size, time in listed[: MOST_FILES + 1]}
        if len(wanted) > MOST_FILES or any(not 0 <= size <= LARGEST for size, _ in wanted.values()):
            raise ValueError("it wants to send more than a run folder holds")
        wanted = {path: stamp for path, stamp in wanted.items() if self._is_shipped(path)}
        changed = sorted((path for path, stamp in wanted.items() if self.have.get(path) != stamp), key=_order)
        gone = [path for path in self.have if path not in wanted]
        if not changed and not gone:
            return True
        try:
            if not all(self._fetch(path, wanted[path][0], read) for path in changed):
                return False
            with fence:
                self._publish(changed)
                for path in gone:
                    self._home_of(path).unlink(missing_ok=True)
        finally:
            shutil.rmtree(self.staging, ignore_errors=True)
        self.have = wanted
        return True

    def _is_shipped(self, path: str) -> bool:
        if path.startswith("cache/"):  # drawn where it was first needed, and then everybody's
            return path in self.have or not self._home_of(path).exists()
        of_checkpoint = path.startswith(f"{CHECKPOINTS}/")
        return self.ship == "state" or not of_checkpoint or (self.ship == "results" and path.endswith(ADAPTER_FILE))

    def _fetch(self, path: str, size: int, read: Read) -> bool:
        """Copy a file here, to disk; False when it has changed meanwhile."""
        target = self.staging / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "wb") as file:
            for offset in range(0, size, CHUNK):
                file.write(read(path, offset, min(CHUNK, size - offset)))
            file.flush()
            os.fsync(file.fileno())
            return file.tell() == size

    def _publish(self, fetched: Sequence[str]) -> None:
        touched = set()
        for path in fetched:
            staged, target = self.staging / path, self._home_of(path)
            if not staged.exists():
                continue  # it came with its folder
            if path.startswith("cache/"):  # perhaps on another disk
                files.write_atomic(target, lambda place, staged=staged: shutil.copyfile(staged, place))  # type: ignore[misc]
                continue
            if not target.parent.exists():
                target.parent.parent.mkdir(parents=True, exist_ok=True)
                os.rename(staged.parent, target.parent)
                touched.add(target.parent.parent)
            else:
                os.replace(staged, target)
            touched.add(target.parent)
        for folder in touched:
            files.sync_folder(folder)

    def _home_of(self, path: str) -> Path:
        return (paths.home() if path.startswith("cache/") else self.folder) / path


def _order(path: str) -> tuple[int, bool, int, str]:
    """Order checkpoints, pictures, indexes of them after them, inner folders first; the outcome last."""
    if path in _LAST:
        return 2, False, _LAST.index(path), path
    return int(not path.startswith(f"{CHECKPOINTS}/")), path.endswith(INDEX_FILE), -path.count("/"), path


# --------------------------------------------------------------------------------------------------- host


class Store:
    """Files by digest and suffix, `ab/abcd...ef.png`, kept between sweeps; safe to delete."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Find where a file is, or will be."""
        return self.folder / name[:2] / name

    def lacking(self, names: Sequence[str]) -> list[str]:
        """List those that are not here."""
        return [name for name in names if not self.path(name).exists()]

    def give(self, name: str, offset: int, last: bool, data: bytes) -> None:
        """Take a part of a file; after the last one it is here, if its digest is right.

        Raises:
            ValueError: it is not.
        """
        target = self.path(name)
        if target.exists():  # the answer to the last part was lost
            return
        part = target.with_name(f".{name}.{os.getpid()}")
        part.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "r+b" if offset else "wb") as file:
            file.seek(offset)
            file.write(data)
        if last:
            if files.sha256(part) != name.partition(".")[0]:
                part.unlink()
                raise ValueError(f"{name} did not arrive whole")
            os.replace(part, target)


def unpack(message: Mapping[str, Any], store: Store, folder: Path, home: Path) -> dict[str, Any]:
    """Make the run folder and turn the paths of a job into those of this machine; what it needs is in the store."""
    here: dict[str, str] = {path: str(home / below) for path, below in message["drawn"].items()}
    for path, name in message["inputs"].items():
        here[path] = str(store.path(name)) if isinstance(name, str) else str(_tree(name, store, Path(path).name))
    for path, name in message["cache"].items():
        target = home / "cache" / path
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            files.write_atomic(target, lambda place, name=name: shutil.copyfile(store.path(name), place))  # type: ignore[misc]
    folder.mkdir(parents=True, exist_ok=True)
    inputs = {name for name in message["inputs"].values() if isinstance(name, str)} | set(message["cache"].values())
    for path, (name, time_ns) in message["folder"].items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(store.path(name), target)
        os.utime(target, ns=(time_ns, time_ns))
    for name in {name for name, _ in message["folder"].values()} - inputs:
        store.path(name).unlink(missing_ok=True)  # it is this trial's alone
    job = {key: message[key] for key in ("kind", "recipe", "plan", "attempt", "shares")}
    return {**_renamed(job, here), "folder": str(folder)}


def _tree(names: Mapping[str, str], store: Store, called: str) -> Path:
    """Return a folder of files of the store, made once: what is remembered of its files goes by their paths."""
    folder = store.folder / "folders" / digest(names)[:24] / called
    if not folder.exists():

        def fill(place: Path) -> None:
            for path, name in names.items():
                (place / path).parent.mkdir(parents=True, exist_ok=True)
                files.link_or_copy(str(store.path(name)), str(place / path))

        files.write_folder_once(folder, fill)
    return folder


def _renamed(value: Any, here: Mapping[str, str]) -> Any:
    """Replace every text that is a path of the driver's machine."""
    if isinstance(value, dict):
        return {key: _renamed(inner, here) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_renamed(inner, here) for inner in value]
    return here.get(value, value) if isinstance(value, str) else value


def listing(folder: Path, drawn: Sequence[str], home: Path) -> list[tuple[str, int, int]]:
    """List what a run folder holds, and which pictures of all trials are there: path, size, mtime in ns."""
    listed = []
    for path, file in {**_below(folder), **{path: home / path for path in drawn}}.items():
        with contextlib.suppress(OSError):  # removed just now
            listed.append((path, *_stamp(file)))
    return listed


def _below(folder: Path) -> dict[str, Path]:
    """Return whole files by their paths: what is being written has a name that begins with a dot."""
    found = {file.relative_to(folder): file for file in sorted(folder.rglob("*")) if file.is_file()}
    return {
        path.as_posix(): file for path, file in found.items() if not any(part.startswith(".") for part in path.parts)
    }


def _stamp(file: Path) -> Stamp:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns
