"""Images as cameras, painters and converters write them; checked pixel by pixel."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorasweep.core.errors import DatasetError
from lorasweep.core.records import Bucket, PlannedImage
from lorasweep.data import images
from lorasweep.data.images import inspect, load_planned, open_rgb

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def two_halves(mode: str = "RGB", left: object = RED, right: object = BLUE) -> Image.Image:
    """A 20 x 10 image: left half one colour, right half another."""
    image = Image.new(mode, (20, 10), left)  # type: ignore[arg-type]
    image.paste(right, (10, 0, 20, 10))  # type: ignore[arg-type]
    return image


@pytest.mark.parametrize(("name", "off"), [("a.png", 0), ("a.avif", 3)])  # which is lossy
def test_exif_rotation_is_applied(tmp_path: Path, name: str, off: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 270 degrees
    two_halves().save(tmp_path / name, exif=exif, quality=100, subsampling="4:4:4")

    opened = open_rgb(tmp_path / name)

    assert opened.size == (10, 20)
    assert np.allclose(opened.getpixel((5, 2)), RED, 0, off) and np.allclose(opened.getpixel((5, 17)), BLUE, 0, off)
    assert (inspect(tmp_path / name).width_px, inspect(tmp_path / name).height_px) == (10, 20)


def test_alpha_is_flattened_on_white(tmp_path: Path) -> None:
    two_halves("RGBA", (255, 0, 0, 255), (0, 0, 255, 0)).save(tmp_path / "a.png")
    two_halves("RGBA", (255, 0, 0, 128), (0, 0, 255, 0)).save(tmp_path / "half.webp", lossless=True)

    opened = open_rgb(tmp_path / "a.png")

    assert opened.mode == "RGB"
    assert opened.getpixel((2, 2)) == RED and opened.getpixel((15, 5)) == WHITE
    assert open_rgb(tmp_path / "half.webp").getpixel((2, 2)) == (255, 127, 127)


def test_a_transparent_palette_and_gray_with_alpha_are_flattened_too(tmp_path: Path) -> None:
    palette = two_halves().convert("P")
    palette.info["transparency"] = palette.getpixel((15, 5))
    palette.save(tmp_path / "p.png", transparency=palette.getpixel((15, 5)))
    two_halves("LA", (0, 255), (0, 0)).save(tmp_path / "la.png")

    assert open_rgb(tmp_path / "p.png").getpixel((15, 5)) == WHITE
    assert open_rgb(tmp_path / "p.png").getpixel((2, 5)) == RED
    assert open_rgb(tmp_path / "la.png").getpixel((2, 5)) == (0, 0, 0)
    assert open_rgb(tmp_path / "la.png").getpixel((15, 5)) == WHITE


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    two_halves("CMYK", (0, 255, 255, 0), (255, 255, 0, 0)).save(tmp_path / "a.jpg", quality=100)
    opened = np.asarray(open_rgb(tmp_path / "a.jpg")).astype(int)

    assert np.abs(opened[5, 3] - RED).max() <= 6
    assert np.abs(opened[5, 16] - BLUE).max() <= 6


def test_lab_has_an_a_and_no_alpha(tmp_path: Path) -> None:
    red, blue = (200, 30, 40), (30, 60, 200)  # 8 bits of Lab hold them to a few levels
    two_halves("RGB", red, blue).convert("LAB").save(tmp_path / "a.tif")
    opened = np.asarray(open_rgb(tmp_path / "a.tif")).astype(int)

    assert np.abs(opened[5, 3] - red).max() <= 8 and np.abs(opened[5, 16] - blue).max() <= 8
    assert not inspect(tmp_path / "a.tif").is_see_through


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, name: str) -> None:
    values = np.array([[0, 257 * 100, 257 * 200, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / name)

    opened = np.asarray(open_rgb(tmp_path / name))

    assert opened[0, :, 0].tolist() == [0, 100, 200, 255]


def test_sixteen_bit_colour_png(tmp_path: Path) -> None:
    # Written by hand, since Pillow cannot: one pixel of 16-bit RGB.
    raw = b"\x00" + struct.pack(">3H", 65535, 257 * 100, 0)
    header = struct.pack(">2I5B", 1, 1, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    packed = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + packed)

    assert open_rgb(tmp_path / "a.png").getpixel((0, 0)) == (255, 100, 0)


def test_float_images_are_scaled(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32)).save(tmp_path / "a.tif")

    assert np.asarray(open_rgb(tmp_path / "a.tif"))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(("name", "off"), [("a.gif", 0), ("a.webp", 0), ("a.avif", 3), ("a.png", 0)])
def test_the_first_frame_of_an_animation_is_taken(tmp_path: Path, name: str, off: int) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in (GREEN, BLUE)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)

    assert np.allclose(open_rgb(tmp_path / name).getpixel((4, 4)), GREEN, 0, off)


def test_facts_that_a_picture_tells_of_itself(tmp_path: Path) -> None:
    red, blue = (Image.new("RGB", (64, 64), color) for color in (RED, BLUE))
    red.save(tmp_path / "moves.gif", save_all=True, append_images=[blue])
    red.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[blue])  # another view, no other frame
    red.save(tmp_path / "still.gif")
    red.quantize(4).save(tmp_path / "hole.png", transparency=0)
    red.quantize(4).save(tmp_path / "unused.gif", transparency=3)  # a colour of none of its pixels
    red.quantize(4).save(tmp_path / "opaque.png", transparency=b"\xff" * 4)
    names = ("moves.gif", "phone.jpg", "still.gif", "hole.png", "unused.gif", "opaque.png")
    facts = [inspect(tmp_path / name) for name in names]
    assert [each.is_animated for each in facts] == [True, *[False] * 5]
    assert [each.is_see_through for each in facts] == [False, False, False, True, False, False]


@pytest.mark.parametrize("mode", ["1", "L", "P", "YCbCr"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode == "YCbCr" else "a.png")
    Image.new("RGB", (8, 8), WHITE).convert(mode).save(path)

    opened = open_rgb(path)

    assert opened.mode == "RGB" and opened.getpixel((4, 4)) == WHITE


def broken(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / "folder" / f"{kind}.png"
    path.parent.mkdir(exist_ok=True)
    noise = Image.effect_noise((64, 64), 50)
    noise.save(path)
    content = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "text":
        path.write_text("I am a text file")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "corrupt":
        path.write_bytes(content[:60] + b"\x00" * 40 + content[100:])
    elif kind == "postscript":
        path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")
    elif kind == "dangling":
        path.unlink()
        path.symlink_to(tmp_path / "nowhere.png")
    return path


@pytest.mark.parametrize("kind", ["truncated", "text", "empty", "corrupt", "postscript", "dangling"])
def test_what_cannot_be_read_is_reported_by_name(tmp_path: Path, kind: str) -> None:
    path = broken(tmp_path, kind)

    with pytest.raises(DatasetError) as caught:
        inspect(path)

    assert [problem.where for problem in caught.value.problems] == [f"folder/{kind}.png"]


def test_a_truncated_jpeg_is_reported(tmp_path: Path) -> None:
    Image.effect_noise((256, 256), 50).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])

    with pytest.raises(DatasetError, match="truncated"):
        open_rgb(tmp_path / "a.jpg")


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    # 400 million black pixels in a few hundred bytes: only the header says so.
    header = struct.pack(">2I5B", 20_000, 20_000, 1, 0, 0, 0, 0)
    body = b"IHDR" + header
    chunk = struct.pack(">I", len(header)) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + b"\x00\x00\x00\x00IDAT5\xaf\x06\x1e")

    with pytest.raises(DatasetError, match="at most 100 million pixels"):
        open_rgb(tmp_path / "bomb.png")


def test_what_is_not_a_file_and_files_that_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DatasetError, match="is not a file"):
        open_rgb(tmp_path / "pipe.png")
    Image.new("L", (30, 30)).save(tmp_path / "a.png")
    monkeypatch.setattr(images, "LARGEST_BYTES", 10)
    with pytest.raises(DatasetError, match="must have at most"):
        open_rgb(tmp_path / "a.png")


def test_the_limit_is_ours_not_pillows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (30, 30)).save(tmp_path / "a.png")
    monkeypatch.setattr(images, "LARGEST_PX", 899)
    with pytest.raises(DatasetError, match="million pixels"):
        open_rgb(tmp_path / "a.png")
    monkeypatch.setattr(images, "LARGEST_PX", 900)
    assert open_rgb(tmp_path / "a.png").size == (30, 30)


def planned(path: Path, **changes: object) -> PlannedImage:
    values: dict[str, object] = {
        "file": str(path),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "concept": "",
        "caption": "",
        "split": "train",
        "repeats": 1,
        "width_px": 20,
        "height_px": 10,
        "bucket": Bucket(width_px=8, height_px=8),
        "resize_px": (16, 8),
        "crop_px": (4, 0),
    }
    return PlannedImage(**(values | changes))  # type: ignore[arg-type]


def test_the_planned_crop_is_made(tmp_path: Path) -> None:
    two_halves().save(tmp_path / "a.png")

    cropped = load_planned(planned(tmp_path / "a.png"))

    assert cropped.size == (8, 8) and cropped.mode == "RGB"
    assert cropped.getpixel((1, 4)) == RED and cropped.getpixel((6, 4)) == BLUE
    shifted = load_planned(planned(tmp_path / "a.png", crop_px=(8, 0)))
    assert shifted.getpixel((1, 4)) == BLUE


def test_a_file_that_changed_after_planning_is_refused(tmp_path: Path) -> None:
    two_halves().save(tmp_path / "a.png")
    image = planned(tmp_path / "a.png")
    two_halves(left=GREEN).save(tmp_path / "a.png")

    with pytest.raises(DatasetError, match="has changed"):
        load_planned(image)
