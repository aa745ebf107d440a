"""What would be on the disk after a power cut: nothing counts that was not flushed, in the order of calls.

The machine stays on; the calls that matter are watched, and every prefix of them is a moment to lose power.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lorasweep.core import files

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc")


@dataclass
class Disk:
    """Flushes and renames, as they came."""

    calls: list[tuple[str, str]] = field(default_factory=list)

    def place(self, call: str, name: str) -> int:
        return self.calls.index((call, name))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    watched = Disk()
    fsync, replace, rename = os.fsync, os.replace, os.rename

    def watch_fsync(handle: int) -> None:
        watched.calls.append(("flush", os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def watch_rename(old: os.PathLike[str], new: os.PathLike[str]) -> None:
        watched.calls.append(("from", str(old)))
        watched.calls.append(("to", str(new)))
        (replace if Path(old).is_file() else rename)(old, new)

    monkeypatch.setattr(os, "fsync", watch_fsync)
    monkeypatch.setattr(os, "replace", watch_rename)
    monkeypatch.setattr(os, "rename", watch_rename)
    yield watched


def test_a_file_is_flushed_before_it_has_its_name_and_its_name_after(tmp_path: Path, disk: Disk) -> None:
    target = tmp_path / "status.json"
    files.write_json(target, {"status": "RUNNING"})
    (temporary,) = [name for call, name in disk.calls if call == "from"]
    assert disk.place("flush", temporary) < disk.place("to", str(target)) < disk.place("flush", str(tmp_path))


def test_a_folder_gets_its_name_when_all_of_it_is_flushed(tmp_path: Path, disk: Disk) -> None:
    target = tmp_path / "step_000100"

    def fill(folder: Path) -> None:
        files.write_text(folder / "adapter.safetensors", "weights")
        files.write_json(folder / "state.json", {"step": 100})

    files.write_folder(target, fill)
    named = disk.place("to", str(target))
    temporary = disk.calls[named - 1][1]
    flushed = {name for call, name in disk.calls[:named] if call == "flush"}
    inside = {Path(name).suffix for name in flushed if name.startswith(f"{temporary}/")}
    assert inside == {".safetensors", ".json"} and temporary in flushed
    assert ("flush", str(tmp_path)) in disk.calls[named:]


def test_a_log_cut_off_anywhere_keeps_its_whole_lines_and_goes_on(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    for step in range(3):
        files.append_jsonl(whole, {"step": step})
    content = whole.read_bytes()
    for length in range(len(content)):
        cut = tmp_path / "cut.jsonl"
        cut.write_bytes(content[:length])
        kept = [row["step"] for row in files.read_jsonl(cut)]
        assert kept == list(range(len(kept)))
        files.append_jsonl(cut, {"step": 9})
        assert [row["step"] for row in files.read_jsonl(cut)] == [*kept, 9]


def test_a_file_that_may_go_back_is_whole_and_settled_by_the_next_durable_one(tmp_path: Path, disk: Disk) -> None:
    files.write_json(tmp_path / "plan.json", {"steps": 100}, durable=False)
    (temporary,) = [name for call, name in disk.calls if call == "from"]
    assert disk.place("flush", temporary) < disk.place("to", str(tmp_path / "plan.json"))
    assert ("flush", str(tmp_path)) not in disk.calls
    files.write_json(tmp_path / "status.json", {"status": "RUNNING"})
    assert disk.place("to", str(tmp_path / "plan.json")) < disk.place("flush", str(tmp_path))
