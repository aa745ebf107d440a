"""Files are whole or absent; logs survive a torn tail."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lorasweep.core import files


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        files.write_atomic(path, fail)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert not (tmp_path / "a.json").exists()


def test_a_torn_tail_costs_one_line_only(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    files.append_jsonl(path, {"step": 1})
    with open(path, "ab") as file:
        file.write(b'{"step": 2, "los')
    assert [row["step"] for row in files.read_jsonl(path)] == [1]
    files.append_jsonl(path, {"step": 3})
    assert [row["step"] for row in files.read_jsonl(path)] == [1, 3]


def test_an_absent_log_is_empty(tmp_path: Path) -> None:
    assert list(files.read_jsonl(tmp_path / "none.jsonl")) == []


def test_a_failed_folder_leaves_nothing(tmp_path: Path) -> None:
    def fail(temporary: Path) -> None:
        (temporary / "half").write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        files.write_folder(tmp_path / "deep" / "a", fail)
    assert list((tmp_path / "deep").iterdir()) == []


def test_a_folder_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    files.write_folder(tmp_path / "a", lambda temporary: (temporary / "x").write_text("first"))
    with pytest.raises(OSError):
        files.write_folder(tmp_path / "a", lambda temporary: (temporary / "x").write_text("second"))
    files.write_folder_once(tmp_path / "a", lambda temporary: (temporary / "x").write_text("second"))
    assert (tmp_path / "a" / "x").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_reader_in_the_way_is_waited_for_where_files_are_not_replaced_under_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, where renaming over an open file is refused."""
    refusals, replace = iter(range(3)), files.os.replace

    def busy(source: Path, target: Path) -> None:
        if next(refusals, None) is not None:
            raise PermissionError(13, "Permission denied", str(target))
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", busy)
    monkeypatch.setattr(files, "READ_PATIENCE_S", 5.0)
    files.write_text(tmp_path / "status.json", "done")
    assert (tmp_path / "status.json").read_text() == "done"

    refusals = iter(range(10**6))
    monkeypatch.setattr(files, "READ_PATIENCE_S", 0.0)
    with pytest.raises(PermissionError):
        files.write_text(tmp_path / "status.json", "again")
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no time of the last change of any kind")
def test_a_change_is_noticed_though_size_and_time_are_put_back(tmp_path: Path) -> None:
    """As `exiftool -P`, `rsync -t` and `touch -r` do."""
    path = tmp_path / "lora.safetensors"
    path.write_bytes(b"one")
    before = path.stat()
    assert files.file_digest(path) == hashlib.sha256(b"one").hexdigest()
    while path.stat().st_ctime_ns == before.st_ctime_ns:  # clocks of file systems tick some hundred times a second
        path.write_bytes(b"two")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert files.file_digest(path) == hashlib.sha256(b"two").hexdigest()


@pytest.mark.skipif(os.name == "nt", reason="files of Windows have other rights")
@pytest.mark.parametrize(("umask", "file", "folder"), [(0o077, 0o600, 0o700), (0o002, 0o664, 0o775)])
def test_others_may_what_the_umask_says(tmp_path: Path, umask: int, file: int, folder: int) -> None:
    code = (
        "import sys; from pathlib import Path; from lorasweep.core import files; place = Path(sys.argv[1])\n"
        "files.write_json(place / 'a.json', 1)\n"
        "files.write_folder(place / 'b', lambda temporary: files.write_json(temporary / 'c.json', 1))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], umask=umask, check=True)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("a.json", "b", "b/c.json")]
    assert modes == [file, folder, file]
