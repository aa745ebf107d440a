from __future__ import annotations

import logging
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from lorasweep.trial import cache
from lorasweep.trial.cache import Memory, Store

DIGEST = "ab" + "0" * 62


def tensors(value: float = 1.0, count: int = 100) -> dict[str, torch.Tensor]:
    return {"x": torch.full((count,), value)}


def digest(number: int) -> str:
    return f"{number:064x}"


def test_what_was_put_is_got(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.get("latents", DIGEST) is None
    store.put("latents", DIGEST, tensors(3.0))
    found = Store(tmp_path).get("latents", DIGEST)
    assert found is not None and torch.equal(found["x"], tensors(3.0)["x"])
    assert store.get("texts", DIGEST) is None
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")] == [
        f"latents/ab/{DIGEST}.safetensors"
    ]


@pytest.mark.parametrize("keep", [0, 7, 60, 300])
def test_a_torn_file_is_removed_and_made_again(tmp_path: Path, keep: int, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path)
    store.put("latents", DIGEST, tensors())
    (path,) = tmp_path.rglob("*.safetensors")
    whole = path.read_bytes()
    assert keep < len(whole)
    path.write_bytes(whole[:keep])
    with caplog.at_level(logging.WARNING):
        assert store.get("latents", DIGEST) is None
    assert "made again" in caplog.text and not path.exists()
    store.put("latents", DIGEST, tensors())
    assert store.get("latents", DIGEST) is not None


def test_what_was_not_read_for_longest_goes_first(tmp_path: Path) -> None:
    store = Store(tmp_path, max_bytes=5 * 500, check_every=1)  # an entry of 100 floats takes about 470 bytes
    for number in range(5):
        store.put("latents" if number % 2 else "texts", digest(number), tensors())
        (path,) = tmp_path.rglob(f"{digest(number)}.*")
        os.utime(path, ns=(number, number))
    assert len(list(tmp_path.rglob("*.safetensors"))) == 5
    assert store.get("texts", digest(0)) is not None  # read just now, so 1 is the oldest
    store.put("latents", digest(9), tensors())
    left = {path.stem for path in tmp_path.rglob("*.safetensors")}
    assert left == {digest(number) for number in (0, 2, 3, 4, 9)}


def test_the_total_is_looked_at_once_in_a_while(tmp_path: Path) -> None:
    store = Store(tmp_path, max_bytes=1, check_every=3)
    counts = []
    for number in range(4):
        store.put("latents", digest(number), tensors())
        counts.append(len(list(tmp_path.rglob("*.safetensors"))))
    assert counts == [0, 1, 2, 0]


def test_a_disk_that_refuses_does_not_stop_anything(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("not a folder")
    store = Store(tmp_path / "file")
    with caplog.at_level(logging.WARNING):
        store.put("latents", DIGEST, tensors())
        assert store.get("latents", DIGEST) is None
    assert "cannot write" in caplog.text


def test_a_full_disk_does_not_stop_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*arguments: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(cache, "save_file", full)
    Store(tmp_path).put("latents", DIGEST, tensors())
    assert "No space left" in caplog.text and not list(tmp_path.rglob("*.safetensors"))


def test_a_cache_that_may_only_be_read_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.put("latents", DIGEST, tensors())

    def refuse(*arguments: object, **knobs: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    assert store.get("latents", DIGEST) is not None
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(b"torn")
    assert store.get("latents", DIGEST) is None


def test_a_file_that_another_process_is_writing_stays(tmp_path: Path) -> None:
    writing, orphaned = (tmp_path / "latents" / "ab" / f".{name}.safetensors" for name in ("new", "old"))
    for path in (writing, orphaned):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half of it")
    os.utime(orphaned, (0, 0))
    Store(tmp_path, max_bytes=1, check_every=1).put("latents", DIGEST, tensors())
    assert list(tmp_path.rglob("*.safetensors")) == [writing]


def test_an_entry_that_goes_while_it_is_read_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.put("latents", DIGEST, tensors())
    (path,) = tmp_path.rglob("*.safetensors")
    # whichever way the file is read, it goes just before its bytes are asked for
    opened = torch.UntypedStorage.from_file

    def evicted(*arguments: object, **knobs: object) -> object:
        path.unlink()
        return opened(*arguments, **knobs)

    monkeypatch.setattr(torch.UntypedStorage, "from_file", evicted)
    read = Path.read_bytes

    def gone(self: Path) -> bytes:
        self.unlink()
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", gone)
    assert store.get("latents", DIGEST) is None


def hammer(root: str, seed: int) -> None:
    store = Store(Path(root), max_bytes=8 * 470, check_every=2)
    for turn in range(30):
        number = (seed + turn) % 12
        found = store.get("latents", digest(number))
        if found is None:
            store.put("latents", digest(number), tensors(number))
        elif not torch.equal(found["x"], tensors(number)["x"]):
            raise SystemExit(3)


def test_processes_may_write_and_evict_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=hammer, args=(str(tmp_path), seed)) for seed in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert not [path for path in tmp_path.rglob(".*")]


def test_memory_is_bounded_and_drops_the_least_used() -> None:
    memory = Memory(max_bytes=3 * 400)
    for name in "abc":
        memory.put(name, tensors())
    assert memory.get("a") is not None
    memory.put("d", tensors())
    assert [name in memory for name in "abcd"] == [True, False, True, True]
    memory.put("large", tensors(count=1000))
    assert [name in memory for name in ("a", "c", "d", "large")] == [False, False, False, True]
