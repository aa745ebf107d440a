"""PNGs with long texts and profiles are pictures like others; Pillow's warnings are not for people."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from clean_dataset import CONCEPT, photos
from PIL import Image, PngImagePlugin

from lorasweep.cli import main
from lorasweep.data.images import open_rgb

LONG = b"node " * 400_000
CHUNKS = {
    "tEXt": b"workflow\0" + LONG,
    "zTXt": b"workflow\0\0" + zlib.compress(LONG),
    "iTXt": b"workflow\0\x01\0\0\0" + zlib.compress(LONG),
    "iTXt plain": b"workflow\0\0\0\0\0" + LONG,
    "zTXt of 200 MB": b"workflow\0\0" + zlib.compress(LONG * 100, 9),
    "zTXt that is broken": b"workflow\0\0" + zlib.compress(LONG)[:100],
    "iTXt of Adobe": b"XML:com.adobe.xmp\0\x01\0\0\0" + zlib.compress(LONG),
    "zTXt of ImageMagick": b"Raw profile type exif\0\0" + zlib.compress(LONG),
    "iCCP": b"icc\0\0" + zlib.compress(bytes(2_000_000)),
}


def insert(path: Path, kind: bytes, body: bytes, *, at: int = 33) -> None:
    """Put a chunk into a PNG: behind its header, or before its end (-12)."""
    content = path.read_bytes()
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    path.write_bytes(content[:at] + chunk + content[at:])


@pytest.fixture
def folder(home: Path) -> Path:
    """Five photos with captions."""
    return photos(home) / CONCEPT


@pytest.mark.parametrize("name", CHUNKS)
@pytest.mark.parametrize("at", [33, -12], ids=["before", "behind"])
def test_a_long_text_does_not_make_a_picture_broken(folder: Path, name: str, at: int) -> None:
    before = open_rgb(folder / "0.png").tobytes()
    limits = PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
    insert(folder / "0.png", name[:4].encode(), CHUNKS[name], at=at)

    assert main(["plan", f"dataset.path={folder.parent}"]) == 0
    assert open_rgb(folder / "0.png").tobytes() == before
    assert limits == (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY)


@pytest.mark.parametrize("packed", [False, True])
def test_texts_that_turn_a_picture_are_heard_beside_long_ones(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (20, 10)).save(path)
    words = b'<x tiff:Orientation="6"/>'
    text = b"\x01\0\0\0" + zlib.compress(words) if packed else b"\0\0\0\0" + words
    insert(path, b"iTXt", b"XML:com.adobe.xmp\0" + text)
    insert(path, b"zTXt", CHUNKS["zTXt"])

    assert open_rgb(path).size == (10, 20)


def test_broken_metadata_are_no_warning_and_no_fault(folder: Path, home: Path) -> None:
    for number, exif in enumerate((b"Exif\0\0garbage!!", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0")):
        Image.effect_noise((64, 64), 80).save(folder / f"exif{number}.jpg", exif=exif)
    first, second = (Image.effect_noise((64, 64), 40 + n).convert("RGB") for n in range(2))
    first.save(folder / "mpo.jpg", format="MPO", save_all=True, append_images=[second])
    second.save(folder / "discord.png", format="WEBP")

    words = [sys.executable, "-m", "lorasweep", "plan", f"dataset.path={folder.parent}", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0 and len(json.loads(done.stdout)["images"]) == 9
    assert "site-packages" not in done.stderr and "UserWarning" not in done.stderr


@pytest.mark.parametrize("caption", [True, False])
@pytest.mark.parametrize("stem", ["x" * 251, "ひ" * 83 + "xx"], ids=["latin", "japanese"])
def test_names_of_255_bytes_are_read(
    folder: Path, capsys: pytest.CaptureFixture[str], stem: str, caption: bool
) -> None:
    for suffix in (".png", ".txt"):
        (folder / f"0{suffix}").rename(folder / f"{stem}{suffix}")
    if not caption:
        (folder / f"{stem}.txt").unlink()

    assert main(["plan", f"dataset.path={folder.parent}", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["images"]) == 5
    assert main(["plan", "--captions", f"dataset.path={folder.parent}"]) == 0
    assert main(["plan", f"dataset.path={folder.parent}", "captions.extension=.captions"]) == 0


def test_a_name_that_is_too_long_is_told_in_words(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 300
    for words in (
        ["plan", f"dataset.path={home}/{long}"],
        ["plan", long],
        ["report", long],
        ["status", long],
    ):
        assert main(words) == 2
        assert long in capsys.readouterr().err


def test_a_file_of_ours_may_have_the_longest_name(home: Path) -> None:
    from lorasweep.core import files

    for name in ("x" * 251 + ".txt", "x." + "y" * 253, "ひ" * 83 + ".txt"):
        files.write_text(home / name, "whole")
        assert (home / name).read_text() == "whole"
    files.write_folder(home / ("f" * 255), lambda folder: (folder / "a").touch())
    assert sorted(path.name[:1] for path in home.iterdir()) == ["f", "x", "x", "ひ"]
