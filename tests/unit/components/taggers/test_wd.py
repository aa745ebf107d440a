"""WD taggers on the command line: as kohya's script tags, of odd pictures; folders that are not one are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from tiny_taggers import CHARACTERS, GENERAL, RATINGS, make_wd

from lorasweep.cli import main
from lorasweep.data.images import open_rgb

SIDE = 448


@pytest.fixture(scope="module")
def wd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_wd(tmp_path_factory.mktemp("wd") / "tagger")


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    cells = np.random.default_rng(seed).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)


def faded(mode: str) -> Image.Image:
    picture = noise(300, 420, 7).convert(mode)
    picture.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 300).astype(np.uint8), (420, 1))))
    return picture


def save_lying(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    noise(600, 300, 11).save(path, exif=exif)


def save_deep(path: Path) -> None:
    Image.fromarray(np.asarray(noise(500, 460, 12).convert("L"), np.uint16) * 257).save(path)


def save_profiled(path: Path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    noise(470, 470, 13).save(path, icc_profile=lab.tobytes())


SAVED: dict[str, Callable[[Path], Any]] = {
    "square.png": lambda path: noise(600, 600).save(path),
    "tall.png": lambda path: noise(90, 900, 1).save(path),
    "wide.png": lambda path: noise(901, 123, 2).save(path),
    "tiny.png": lambda path: noise(5, 7, 3).save(path),
    "odd.png": lambda path: noise(333, 447, 4).save(path),
    "exact.png": lambda path: noise(448, 448, 5).save(path),
    "twice.png": lambda path: noise(896, 700, 6).save(path),
    "thrice.png": lambda path: noise(1344, 900, 6).save(path),
    "alpha.png": lambda path: faded("RGB").save(path),
    "gray_alpha.png": lambda path: faded("L").save(path),
    "gray.png": lambda path: noise(480, 500, 8).convert("L").save(path),
    "bits.png": lambda path: noise(480, 500, 8).convert("1").save(path),
    "palette.png": lambda path: noise(460, 500, 9).quantize(16).save(path),
    "hole.png": lambda path: noise(460, 500, 9).quantize(16).save(path, transparency=3),
    "cmyk.jpg": lambda path: noise(500, 300, 10).convert("CMYK").save(path),
    "page.bmp": lambda path: noise(450, 460, 14).save(path),
    "web.webp": lambda path: noise(450, 1000, 15).save(path, lossless=True),
    "lying.jpg": save_lying,
    "deep.png": save_deep,
    "profiled.png": save_profiled,
}
# Which the script sees otherwise than training does: lying, clipped, in whatever colours.
AS_TRAINED = {"lying.jpg", "deep.png"}


def area(pixels: np.ndarray[Any, Any], axis: int) -> np.ndarray[Any, Any]:
    """Means over SIDE equal parts of an axis, by differences of the running sum."""
    length = pixels.shape[axis]
    sums = np.insert(np.cumsum(pixels, axis=axis), 0, 0, axis=axis)
    edges = np.arange(SIDE + 1) * length / SIDE
    low = np.minimum(edges.astype(int), length - 1)
    shape = [-1 if each == axis else 1 for each in range(3)]
    at = sums.take(low, axis) + pixels.take(low, axis) * (edges - low).reshape(shape)
    return np.diff(at, axis=axis) * SIDE / length


def as_the_script_does(file: Path) -> np.ndarray[Any, Any]:
    """The steps of kohya's `preprocess_image`, said anew; its resizing is OpenCV's where that is installed."""
    picture = Image.open(file) if file.name not in AS_TRAINED else open_rgb(file)
    if "A" in picture.getbands() or "transparency" in picture.info:
        page = Image.new("RGB", picture.size, "white")
        picture = picture.convert("RGBA")
        page.paste(picture, mask=picture.getchannel("A"))
        picture = page
    pixels = np.asarray(picture.convert("RGB"))[:, :, ::-1]
    height, width = pixels.shape[:2]
    size = max(height, width)
    top, left = (size - height) // 2, (size - width) // 2
    square = np.full((size, size, 3), 255, np.uint8)
    square[top : top + height, left : left + width] = pixels
    if size < SIDE:
        rgb = Image.fromarray(np.ascontiguousarray(square[:, :, ::-1]))
        return np.asarray(rgb.resize((SIDE, SIDE), Image.Resampling.LANCZOS))[:, :, ::-1].astype(np.float32)
    try:
        import cv2
    except ImportError:
        mean = area(area(square.astype(np.float64), 0), 1)
        halves_up = size == 2 * SIDE
        return np.asarray(np.floor(mean + 0.5) if halves_up else np.rint(mean.round(6)), np.float32)
    return np.asarray(cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.float32)


def script_tags(wd: Path, file: Path, general: float, character: float) -> dict[str, float]:
    import onnxruntime

    session = onnxruntime.InferenceSession(wd / "model.onnx")
    (row,) = session.run(None, {"pictures": as_the_script_does(file)[None]})[0]
    named = dict(zip([*RATINGS, *GENERAL, *CHARACTERS], row.tolist(), strict=True))
    kept = {tag: named[tag] for tag in GENERAL if named[tag] >= general}
    kept |= {tag: named[tag] for tag in CHARACTERS if named[tag] >= character}
    return {tag if len(tag) <= 3 or tag == "(o)_(o)" else tag.replace("_", " "): sure for tag, sure in kept.items()}


def test_tags_and_confidences_are_those_of_kohyas_script(
    wd: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = home / "images"
    folder.mkdir()
    for name, save in SAVED.items():
        save(folder / name)
    words = ["caption", str(folder), "tagger=wd", f"tagger.path={wd}", "tagger.character_threshold=0.5", "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["tags"]) == len(SAVED) == 20
    captions = {change["file"]: change["after"] for change in found["changes"]}
    every: set[str] = set()
    for name in SAVED:
        wanted = script_tags(wd, folder / name, 0.35, 0.5)
        tags = dict(found["tags"][name])
        assert tags == pytest.approx(wanted, abs=1e-5), name
        characters = [tag for tag in tags if tag in ("hatsune miku", "saber (fate)")]
        assert [*tags][: len(characters)] == characters
        general = [sure for tag, sure in tags.items() if tag not in characters]
        assert general == sorted(general, reverse=True)
        assert captions[f"{Path(name).stem}.txt"] == ", ".join(tags)
        every |= tags.keys()
    assert len(every) > 6 and not every & set(RATINGS) - {"general"}


def test_the_policy_puts_the_trigger_first_and_takes_tags_out(
    wd: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = home / "images"
    folder.mkdir()
    noise(600, 600).save(folder / "a.png")
    words = ["caption", str(folder), "tagger=wd", f"tagger.path={wd}", "tagger.threshold=0.01", "captions.trigger=zkw"]
    policy = ["captions.clean.unwanted=[hat]", "captions.clean.replacements={smile: grin}", "--write"]
    assert main([*words, *policy]) == 0
    said = (folder / "a.txt").read_text().split(", ")
    assert said[0] == "zkw" and "grin" in said and "^_^" in said and "(o)_(o)" in said
    assert not {"hat", "smile", "explicit"} & set(said)


def test_a_model_that_fixes_its_batch_gets_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, folder = make_wd(home / "fixed", batch=4), home / "images"
    folder.mkdir()
    for seed in range(5):
        noise(60, 60, seed).save(folder / f"{seed}.png")
    assert main(["caption", str(folder), "tagger=wd", f"tagger.path={model}", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["tags"]) == 5


def another(content: bytes, name: str = "model.onnx") -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(content)


def named(old: str, new: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / old).rename(folder / new)


def made(**how: Any) -> Callable[[Path], Any]:
    def make(folder: Path) -> None:
        shutil.rmtree(folder)
        make_wd(folder, **how)

    return make


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no model": (lambda folder: (folder / "model.onnx").unlink(), "must hold model.onnx"),
    "no table": (lambda folder: (folder / "selected_tags.csv").unlink(), "must hold selected_tags.csv"),
    "another model": (named("model.onnx", "model.h5"), "must hold model.onnx"),
    "pickled": (named("model.onnx", "model.pth"), "must hold model.onnx"),
    "pickle under its name": (another(b"\x80\x02}q\x00."), "pickle"),
    "pointer": (another(b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS"),
    "cut": (lambda folder: (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:900]), "whole"),
    "no graph": (another(b"hello"), "cannot be loaded"),
    "columns": (another(b"id,name\n1,hat\n", "selected_tags.csv"), "columns tag_id, name, category"),
    "categories": (another(b"tag_id,name,category\n1,hat,5\n", "selected_tags.csv"), "category 0, 4 or 9"),
    "empty table": (another(b"", "selected_tags.csv"), "columns"),
    "fewer outputs": (made(outputs=9), "has 16 tags"),
    "logits": (made(last="Neg"), "confidences in [0, 1]"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_is_not_one_is_refused(
    fault: str, wd: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, images = home / "tagger", home / "images"
    shutil.copytree(wd, folder)
    images.mkdir()
    noise(20, 20).save(images / "a.png")
    FAULTS[fault][0](folder)
    assert main(["caption", str(images), "tagger=wd", f"tagger.path={folder}", "--write"]) == 2
    said = capsys.readouterr().err
    assert FAULTS[fault][1] in said and "tagger.path" in said
    assert not (images / "a.txt").exists()


def test_a_captioners_folder_is_told_from_a_taggers(wd: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = home / "blip"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "blip"}')
    for name in ("wd", "captioner"):
        path = folder if name == "wd" else wd
        assert main(["caption", str(home), f"tagger={name}", f"tagger.path={path}"]) == 2
        other = "tagger=captioner" if name == "wd" else "tagger=wd"
        assert other in capsys.readouterr().err
