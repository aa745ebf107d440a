"""No picture fills the memory: what a file says about itself is checked before it is decoded."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from lorasweep.cli import main
from lorasweep.core.errors import DatasetError
from lorasweep.data.images import inspect, open_rgb

PEAK = """
import resource, sys
from pathlib import Path
from lorasweep.data.images import inspect
from lorasweep.core.errors import DatasetError
try:
    inspect(Path(sys.argv[1]))
except DatasetError as error:
    print(error.problems[0].message)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak_mb(path: Path) -> tuple[int, str]:
    """Memory of a process that inspects a picture, MB, and what it says about it."""
    # Through a shell: on Linux a process begins with the peak of the one that it was forked from.
    words = ["sh", "-c", '"$@"; :', "sh", sys.executable, "-c", PEAK, str(path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    *said, peak = done.stdout.splitlines()
    return int(peak), " ".join(said)


def png(width: int, height: int, *, bits: int = 1, color: int = 0, body: bytes = b"") -> bytes:
    """A PNG that declares a size, whatever follows."""
    chunks = [(b"IHDR", struct.pack(">2I5B", width, height, bits, color, 0, 0, 0)), (b"IDAT", body)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in [*chunks, (b"IEND", b"")]
    )


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)


def gif(width: int, height: int, screen: int = 0) -> bytes:
    frame = b"," + struct.pack("<4HB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00;"
    return b"GIF89a" + struct.pack("<2H3B", screen or width, screen or height, 0x80, 0, 0) + bytes(6) + frame


def tiff(width: int, height: int, **tags: int) -> bytes:
    """One strip, of 8 bits; `rows` and `length` of the strip, or the `tile`, as told."""
    values = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 273: 8, 277: 1}
    if "tile" in tags:
        values |= {322: tags["tile"], 323: tags["tile"], 324: values.pop(273), 325: 4}
    else:
        values |= {278: tags.get("rows", height), 279: tags.get("length", 4)}
    entries = b"".join(struct.pack("<2H2I", tag, 4, 1, value) for tag, value in sorted(values.items()))
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(values)) + entries + bytes(4)


def webp(width: int, height: int) -> bytes:
    def number(value: int) -> bytes:
        return struct.pack("<I", value - 1)[:3]

    small = io.BytesIO()
    Image.new("RGB", (8, 8)).save(small, "WEBP", lossless=True)
    frame = small.getvalue()[12:]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + number(width) + number(height) + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


def avif(width: int, height: int) -> bytes:
    small = io.BytesIO()
    Image.new("RGB", (8, 8)).save(small, "AVIF")
    declared = b"ispe" + bytes(4)
    return small.getvalue().replace(declared + struct.pack(">2I", 8, 8), declared + struct.pack(">2I", width, height))


BOMBS = {
    "a.png": png(20_000, 20_000),
    "b.bmp": bmp(20_000, 20_000),
    "c.gif": gif(20_000, 20_000),
    "d.tif": tiff(20_000, 20_000),
    "e.webp": webp(16_000, 16_000),
    "f.avif": avif(8_000, 8_000),
    "line.png": png(1, 60_000, body=zlib.compress(bytes(120_000))),
    "row.png": png(1_000_000, 1, body=zlib.compress(bytes(125_001))),
    "deep.png": png(9_000, 11_000, bits=16, color=6),
    "strip.tif": tiff(100, 100, rows=2**32 - 1, length=2**31),
    "tile.tif": tiff(100, 100, tile=2**15),
    "frame.gif": gif(60_000, 60_000, screen=8),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_declares_a_large_picture_costs_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(BOMBS[name])

    peak, _ = peak_mb(tmp_path / name)

    assert peak < (900 if name == "deep.png" else 150)
    with pytest.raises(DatasetError) as caught:
        inspect(tmp_path / name)
    assert caught.value.problems[0].where.endswith(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "suffix"), [("RGBA", "png"), ("RGB", "jpg"), ("CMYK", "tif"), ("RGBA", "webp"), ("RGBA", "avif")]
)
def test_the_largest_pictures_take_about_a_gigabyte(tmp_path: Path, mode: str, suffix: str) -> None:
    side = 7_000 if suffix in ("webp", "avif") else 9_990
    options = {"compression": "tiff_deflate"} if suffix == "tif" else {"method": 0} if suffix == "webp" else {}
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new(mode, (side, side - 1))
    image.save(tmp_path / f"a.{suffix}", exif=exif, **options)  # type: ignore[arg-type]

    peak, said = peak_mb(tmp_path / f"a.{suffix}")

    assert said == "" and peak < 1_300


def test_a_thin_picture_is_refused_by_name_beside_everything_else(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = home / "10_zkw"
    folder.mkdir()
    for number in range(5):
        Image.effect_noise((64, 64), 80).save(folder / f"{number}.png")
    Image.new("RGB", (1, 60_000)).save(folder / "line.png")
    (folder / "large.png").write_bytes(png(20_000, 20_000))

    assert main(["plan", f"dataset.path={folder}"]) == 2

    said = capsys.readouterr().err
    assert "10_zkw/line.png" in said and "20 times as long as wide at most, got 1 x 60000 px" in said
    assert "10_zkw/large.png" in said and "at most 100 million pixels" in said


def test_a_panorama_is_no_thin_picture(tmp_path: Path) -> None:
    Image.new("RGB", (2000, 100)).save(tmp_path / "a.png")
    Image.new("RGB", (100, 2001)).save(tmp_path / "b.png")

    assert open_rgb(tmp_path / "a.png").size == (2000, 100)
    with pytest.raises(DatasetError, match="20 times"):
        open_rgb(tmp_path / "b.png")
