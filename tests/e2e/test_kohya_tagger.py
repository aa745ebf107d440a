"""Tags held against the tagger of sd-scripts itself, run from a checkout, with OpenCV.

pip install --no-deps --target DIR opencv-python-headless onnxruntime
PYTHONPATH=DIR SD_SCRIPTS=path/to/sd-scripts python -m pytest -m slow tests/e2e/test_kohya_tagger.py
"""

from __future__ import annotations

import ast
import importlib.util
import logging
import os
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_taggers import make_wd

from lorasweep.cli import main
from lorasweep.components.taggers.wd import prepare
from lorasweep.data.images import open_rgb

pytestmark = pytest.mark.slow
SHAPES = [
    (600, 600),
    (90, 900),
    (901, 123),
    (5, 7),
    (333, 447),
    (448, 448),
    (896, 700),
    (449, 450),
    (1344, 90),
    (897, 60),
]
RESIZING = ("resize_image", "get_cv2_interpolation", "get_pil_interpolation", "pil_resize")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """The script itself; of sd-scripts' library it gets the functions that resize, and a list of files."""
    if "SD_SCRIPTS" not in os.environ:
        pytest.skip("needs SD_SCRIPTS=path of a checkout")
    cv2 = pytest.importorskip("cv2")
    root = Path(os.environ["SD_SCRIPTS"])
    tree = ast.parse((root / "library/utils.py").read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in RESIZING]
    assert len(tree.body) == len(RESIZING)
    library, utils, train_util = (types.ModuleType(name) for name in ("library", "library.utils", "library.train_util"))
    vars(utils).update(cv2=cv2, np=np, Image=Image, logger=logging.getLogger("kohya"), setup_logging=lambda: None)
    exec(compile("from typing import Optional\n", "typing", "exec"), vars(utils))
    exec(compile(tree, "library/utils.py", "exec"), vars(utils))
    train_util.glob_images_pathlib = lambda folder, recursive: sorted(folder.glob("*.png"))  # type: ignore[attr-defined]
    library.train_util = train_util  # type: ignore[attr-defined]
    for module in (library, utils, train_util):
        monkeypatch.setitem(__import__("sys").modules, module.__name__, module)
    spec = importlib.util.spec_from_file_location("kohya_tagger", root / "finetune/tag_images_by_wd14_tagger.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Noise of every odd shape, in colour, grey, with a palette and with alpha."""
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, (width, height) in enumerate(SHAPES):
        cells = Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8))
        picture = cells.resize((width, height), Image.Resampling.BICUBIC)
        picture.save(folder / f"{number}_rgb.png")
        picture.convert(("L", "P")[number % 2]).save(folder / f"{number}_other.png")
        picture.putalpha(Image.fromarray(rng.integers(0, 256, (height, width), dtype=np.uint8)))
        picture.save(folder / f"{number}_alpha.png")
    return folder


def test_pictures_reach_the_model_as_they_do_there(script: types.ModuleType, images: Path) -> None:
    """Bit for bit, but for a grey level where a mean is halfway between two in one of a hundred thousand."""
    for path in sorted(images.iterdir()):
        with Image.open(path) as picture:
            wanted = script.preprocess_image(picture)
        off = np.abs(prepare(open_rgb(path), 448) - wanted)
        assert off.max() <= 1 and np.count_nonzero(off) <= 1e-5 * off.size, path.name


@pytest.mark.parametrize("threshold", [0.2, 0.35])
def test_captions_have_the_tags_that_the_script_writes(
    script: types.ModuleType, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threshold: float
) -> None:
    monkeypatch.setenv("LORASWEEP_HOME", str(tmp_path / "home"))
    model = make_wd(tmp_path / "models/a_wd")
    words = [str(images), "--onnx", "--repo_id", "a/wd", "--model_dir", str(model.parent), "--remove_underscore"]
    words += [
        "--general_threshold",
        str(threshold),
        "--character_threshold",
        "2",
    ]  # characters end it in an error
    script.main(script.setup_parser().parse_args([*words, "--batch_size", "4"]))
    written = {path.stem: path.read_text().strip() for path in images.glob("*.txt")}
    for path in images.glob("*.txt"):
        path.unlink()
    ours = ["caption", str(images), "tagger=wd", f"tagger.path={model}", f"tagger.threshold={threshold}"]
    assert main([*ours, "tagger.character_threshold=1", "--write"]) == 0
    said = {path.stem: path.read_text().strip() for path in images.glob("*.txt")}
    assert len(written) == 3 * len(SHAPES) and len(set(written.values())) > 1
    for name, text in written.items():
        # The script lets go of the underscores of a face of more than three letters, and sorts by the table.
        wanted = {tag.replace("(o) (o)", "(o)_(o)") for tag in text.split(", ")} - {""}
        assert {*said.get(name, "").split(", ")} - {""} == wanted, name
