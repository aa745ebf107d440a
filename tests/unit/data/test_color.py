"""Colour profiles: pictures are read in the colours that people see; what cannot be used is named."""

from __future__ import annotations

import dataclasses
import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from icc_profiles import ADOBE_RGB, DISPLAY_P3, gray_profile, rgb_profile
from PIL import Image, ImageCms

from lorasweep import config
from lorasweep.cli import main
from lorasweep.data.images import inspect, open_rgb
from lorasweep.plan.make import _identity, make_plan

SRGB = ImageCms.createProfile("sRGB")


def noise(mode: str = "RGB", size: tuple[int, int] = (48, 40), seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def seen(image: Image.Image, icc: bytes) -> Image.Image:
    """What LittleCMS, which viewers use, makes of it."""
    shown = ImageCms.profileToProfile(image, ImageCms.ImageCmsProfile(io.BytesIO(icc)), SRGB, outputMode="RGB")
    assert shown is not None
    return shown


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "avif", "tif"])
@pytest.mark.parametrize("primaries", [ADOBE_RGB, DISPLAY_P3], ids=["adobe", "p3"])
def test_a_wide_gamut_picture_looks_as_people_see_it(
    tmp_path: Path, suffix: str, primaries: tuple[tuple[float, ...], ...]
) -> None:
    icc = rgb_profile(primaries)
    noise().save(tmp_path / f"a.{suffix}", icc_profile=icc, **({"lossless": True} if suffix == "webp" else {}))
    with Image.open(tmp_path / f"a.{suffix}") as stored:
        raw = stored.convert("RGB")

    opened = open_rgb(tmp_path / f"a.{suffix}")

    assert opened.tobytes() == seen(raw, icc).tobytes() != raw.tobytes()
    assert inspect(tmp_path / f"a.{suffix}").profile


def test_a_profile_that_says_srgb_changes_nothing(tmp_path: Path) -> None:
    noise().save(tmp_path / "a.png", icc_profile=ImageCms.ImageCmsProfile(SRGB).tobytes())

    assert open_rgb(tmp_path / "a.png").tobytes() == noise().tobytes()
    assert inspect(tmp_path / "a.png").profile == inspect(tmp_path / "a.png").unused_profile == ""


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_a_gray_profile_is_used(tmp_path: Path, mode: str) -> None:
    gray = Image.fromarray(np.full((4, 4), 128, dtype=np.uint8))
    if mode == "LA":
        gray.putalpha(255)
    elif mode == "I;16":
        gray = Image.fromarray(np.full((4, 4), 128 * 257, dtype=np.uint16))
    gray.save(tmp_path / "a.png", icc_profile=gray_profile(gamma=1.0))

    # Half of the light is 188 of 255 in sRGB.
    assert open_rgb(tmp_path / "a.png").getpixel((1, 1)) == pytest.approx((188, 188, 188), abs=1)


def test_transparency_is_kept_beside_a_profile(tmp_path: Path) -> None:
    icc = rgb_profile()
    image = noise().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 20, 40))
    image.save(tmp_path / "a.png", icc_profile=icc)
    palette = noise().quantize(16)
    palette.save(tmp_path / "p.png", icc_profile=icc, transparency=0)

    opened = open_rgb(tmp_path / "a.png")
    assert opened.getpixel((3, 3)) == (255, 255, 255)
    assert opened.crop((20, 0, 48, 40)).tobytes() == seen(noise(), icc).crop((20, 0, 48, 40)).tobytes()
    place = next((x, y) for x in range(48) for y in range(40) if palette.getpixel((x, y)) != 0)
    assert open_rgb(tmp_path / "p.png").getpixel(place) == seen(palette.convert("RGB"), icc).getpixel(place)


def test_lab_pictures_are_read(tmp_path: Path) -> None:
    lab = ImageCms.profileToProfile(noise(), SRGB, ImageCms.createProfile("LAB"), outputMode="LAB")
    assert lab is not None
    lab.save(tmp_path / "a.tif")

    off = np.abs(np.asarray(open_rgb(tmp_path / "a.tif")).astype(int) - np.asarray(noise()))
    assert off.mean() < 4  # Lab in 8 bits rounds


def damaged(path: Path, kind: str) -> None:
    icc = {"cut short": rgb_profile()[:200], "noise": b"no profile at all", "of grays": gray_profile()}
    if kind in icc:
        noise().save(path, icc_profile=icc[kind])
        return
    noise().save(path)
    content = path.read_bytes()
    body = {
        "method": b"icc\0\x07",
        "not packed": b"icc\0\0xx",
        "huge": b"icc\0\0" + zlib.compress(bytes(1 << 25)),
    }
    chunk = b"iCCP" + body[kind]
    packed = struct.pack(">I", len(body[kind])) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(content[:33] + packed + content[33:])


@pytest.mark.parametrize("kind", ["cut short", "noise", "of grays", "method", "not packed", "huge"])
def test_a_profile_that_cannot_be_used_is_named_and_the_picture_read(
    home: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    folder = home / "10_zkw"
    folder.mkdir()
    for number in range(5):
        noise(seed=number).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("zkw")
    damaged(folder / "0.png", kind)

    assert main(["plan", f"dataset.path={folder}", "--json"]) == 0

    warnings = json.loads(capsys.readouterr().out)["warnings"]
    assert any("10_zkw/0.png" in warning and "profile" in warning for warning in warnings)
    assert open_rgb(folder / "0.png").tobytes() == noise().tobytes()


def test_a_picture_is_near_its_twin_in_srgb(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, icc = home / "10_zkw", rgb_profile(gamma=1.0)
    folder.mkdir()
    for number in range(5):
        noise(size=(8, 8), seed=number).resize((64, 64)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("zkw")
    with Image.open(folder / "0.png") as image:
        wide = image.copy()
    wide.save(folder / "0.png", icc_profile=icc)
    seen(wide, icc).save(folder / "twin.png")
    (folder / "twin.txt").write_text("zkw")

    assert main(["plan", f"dataset.path={folder}", "--json"]) == 0

    warnings = json.loads(capsys.readouterr().out)["warnings"]
    assert any("10_zkw/0.png, 10_zkw/twin.png" in warning for warning in warnings)


def test_what_was_made_of_a_picture_without_its_profile_is_made_anew(home: Path) -> None:
    folder = home / "10_zkw"
    folder.mkdir()
    noise(size=(64, 64)).save(folder / "0.png", icc_profile=rgb_profile())
    planned = make_plan(config.compose_recipe([f"dataset.path={folder}"]))
    before = dataclasses.replace(planned.images[0], profile="")

    assert planned.images[0].source != before.source == before.sha256
    assert _identity(planned.images[0]) != _identity(before)
    assert "profile" not in _identity(before)  # what was cooked from plain pictures is still found
