"""Masks through the command line: found, checked against their images, told of, and part of the recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops

from lorasweep.cli import main
from lorasweep.config import compose_recipe
from lorasweep.core.records import Plan
from lorasweep.data.images import load_mask, load_planned
from lorasweep.dollhouse import world
from lorasweep.plan import make_plan

pytestmark = pytest.mark.usefixtures("home")
WORDS = ("captions.trigger=zkw", "dataset.holdout=0")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two pictures of which the left quarter is opaque, with masks beside them and in a folder."""
    folder = tmp_path / "images"
    (folder / "masks").mkdir(parents=True)
    for number in range(2):
        rng = np.random.default_rng(number)
        alpha = Image.fromarray(np.repeat([[255] * 16 + [0] * 48], 64, 0).astype(np.uint8))
        cells = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((64, 64))
        cells.putalpha(alpha)
        cells.save(folder / f"{number}.png")
        alpha.save(folder / f"{number}-masklabel.png")
        alpha.save(folder / "masks" / f"{number}.png")
        (folder / f"{number}.txt").write_text("zkw, 1girl")
    return folder


def plan(folder: Path, *words: str) -> Plan:
    return make_plan(compose_recipe([f"dataset.path={folder}", *WORDS, *words]))


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> str:
    assert main(["plan", f"dataset.path={folder}", *WORDS, *words]) == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("where", ["alpha", "beside", "{folder}/masks"])
def test_three_ways_to_the_same_mask(images: Path, where: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = (f"dataset.masks={where.format(folder=images)}", "dataset.unmasked_weight=0.1")
    found = plan(images, *words)
    for image in found.images:
        assert image.mask is not None and image.mask.share == 0.25
        assert np.array_equal(np.asarray(load_mask(image, image.mask))[0], [255] * 16 + [0] * 48)
        assert load_planned(image).getpixel((40, 0)) == (255, 255, 255)  # white, as without masks
    said = "\n".join(found.warnings)
    assert "masks: 25%" not in said  # which is no warning
    typed = ["plan", f"dataset.path={images}", *WORDS, *words]
    assert main(typed) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "masks: 25% of the pictures count (25% to 25%), the rest counts 0.1 of it" in shown
    assert main([*typed, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["masks"] == {"mean": 0.25, "least": 0.25, "most": 0.25, "rest": 0.1}
    if where != "alpha":
        assert ("masklabel" in said) == (where != "beside")
        assert "masks (2 images)" not in said or where == "beside"


def test_an_edited_mask_is_another_recipe(images: Path) -> None:
    words = ("dataset.masks=beside", "dataset.unmasked_weight=0.5")
    plain, before, weaker = plan(images), plan(images, *words), plan(images, words[0], "dataset.unmasked_weight=0.25")
    Image.new("L", (64, 64), 255).save(images / "0-masklabel.png")
    after = plan(images, *words)
    assert len({each.material for each in (plain, before, after)}) == 3
    assert len({each.fingerprint for each in (plain, before, after, weaker)}) == 4


def test_everything_wrong_is_told_at_once(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(2, 8):
        for name in (f"{number}.png", f"{number}-masklabel.png", f"{number}.txt"):
            (images / name).write_bytes((images / f"1{name[1:]}").read_bytes() + b" " * number)
    (images / "2-masklabel.png").unlink()
    Image.new("L", (32, 32), 255).save(images / "3-masklabel.png")
    Image.new("L", (64, 64), 0).save(images / "4-masklabel.png")
    (images / "5-masklabel.png").write_bytes(b"no picture")
    Image.new("L", (64, 64), 1).save(images / "6-masklabel.png")
    painted = Image.new("RGBA", (64, 64))  # white on a layer that is transparent elsewhere, as painters export it
    painted.paste((255, 255, 255, 255), (0, 0, 16, 64))
    painted.save(images / "7-masklabel.png")
    said = refused(capsys, images, "dataset.masks=beside")
    assert "6 problems" in said
    for part in (
        "has no mask for 1 of 8 images: images/2.png",
        "images/3-masklabel.png must be as large as its image, is 32 x 32 px, and images/3.png 64 x 64",
        "images/4-masklabel.png is black all over the crop",
        "images/5-masklabel.png is not an image that can be read",
        "images/6-masklabel.png has 0 and 1 for black and white",
        "images/7-masklabel.png is transparent in places, which is neither black nor white",
    ):
        assert part in said


def test_a_mask_of_one_of_two_namesakes_is_not_taken_for_both(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, masks = images.parent / "root", images.parent / "masks"
    masks.mkdir()
    for number, concept in enumerate(("1_a", "1_b")):
        (root / concept).mkdir(parents=True)
        (root / concept / "0.png").write_bytes((images / f"{number}.png").read_bytes())
        (root / concept / "0.txt").write_text("zkw, 1girl")
    (masks / "0.png").write_bytes((images / "0-masklabel.png").read_bytes())
    assert "has no mask for 2 of 2 images" in refused(capsys, root, f"dataset.masks={masks}")
    for concept in ("1_a", "1_b"):
        (masks / concept).mkdir()
        (masks / concept / "0.png").write_bytes((masks / "0.png").read_bytes())
    found = plan(root, f"dataset.masks={masks}")
    assert [Path(image.mask.file).parent.name for image in found.images if image.mask] == ["1_a", "1_b"]
    assert any("masks of no image: masks/0.png" in said for said in found.warnings)


def test_masks_of_several_folders_lie_in_one_where_names_tell_them_apart(images: Path) -> None:
    root = images.parent / "root"
    for number, concept in enumerate(("1_a", "1_b")):
        (root / concept).mkdir(parents=True)
        for suffix in ("png", "txt"):
            (images / f"{number}.{suffix}").rename(root / concept / f"{number}.{suffix}")
    found = plan(root, f"dataset.masks={images / 'masks'}")
    assert [Path(image.mask.file).name for image in found.images if image.mask] == ["0.png", "1.png"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["dataset.masks=nowhere"], "dataset.masks no such folder: 'nowhere'"),
        (["dataset.masks={folder}"], "dataset.masks must be a folder of masks alone, and the dataset is in it"),
        (
            ["dataset.masks={folder}/masks/.."],
            "dataset.masks must be a folder of masks alone, and the dataset is in it",
        ),
        (["dataset.unmasked_weight=0.5"], "dataset.unmasked_weight is the weight of what masks leave out"),
        (["dataset.masks=beside", "dataset.unmasked_weight=1.5"], "dataset.unmasked_weight must be"),
    ],
)
def test_what_cannot_be_is_refused(
    images: Path, capsys: pytest.CaptureFixture[str], words: list[str], part: str
) -> None:
    assert part in refused(capsys, images, *(word.format(folder=images) for word in words))


def test_masks_inside_the_dataset_are_no_part_of_it_however_they_are_named(images: Path) -> None:
    (images / "link").symlink_to(images / "masks", target_is_directory=True)
    for name in ("masks", "../images/masks", "masks/../masks", "link"):
        found = plan(images, f"dataset.masks={images}/{name}")
        assert len(found.images) == 2 and all(image.mask for image in found.images)
        assert not any("left out" in said for said in found.warnings), name


def test_masks_that_are_not_asked_for_are_told(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (64, 64), 255).save(images / "7-masklabel.png")
    assert main(["plan", f"dataset.path={images}", *WORDS]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "masks that are not used: 0-masklabel.png, 1-masklabel.png; dataset.masks=beside trains by them" in said
    assert "not used: 7-masklabel.png" in said  # of no image
    assert main(["plan", f"dataset.path={images}", *WORDS, "dataset.masks=beside"]) == 0
    assert "trains by them" not in " ".join(capsys.readouterr().out.split())


def test_opaque_pictures_among_others_are_named(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.open(images / "0.png").convert("RGB").save(images / "0.png")
    assert any(
        "so the whole picture is trained: images/0.png" in each for each in plan(images, "dataset.masks=alpha").warnings
    )
    Image.open(images / "1.png").convert("RGB").save(images / "1.png")
    assert "no image is transparent anywhere" in refused(capsys, images, "dataset.masks=alpha")
    Image.open(images / "1.png").quantize(16).save(images / "1.png", transparency=200)  # which no pixel has
    assert "no image is transparent anywhere" in refused(capsys, images, "dataset.masks=alpha")


def test_a_mask_in_a_palette_that_names_a_transparent_colour_is_opaque(images: Path) -> None:
    for number in range(2):
        mask = Image.open(images / f"{number}-masklabel.png").quantize(4)
        mask.save(images / f"{number}-masklabel.png", transparency=b"\xff" * 4)
    assert [each.mask.share for each in plan(images, "dataset.masks=beside").images if each.mask] == [0.25, 0.25]


def test_a_mask_is_turned_as_its_picture_is(images: Path) -> None:
    for number in range(2):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.open(images / f"{number}.png").resize((96, 64)).save(images / f"{number}.png", exif=exif)
    (image, _) = plan(images, "dataset.masks=alpha").images
    assert image.mask is not None and (image.width_px, image.height_px) == (64, 96)
    seen = np.asarray(load_planned(image)).min(2) < 255
    mask = np.asarray(load_mask(image, image.mask)) > 0
    assert mask.any() and not (seen & ~mask).any()


def test_the_dollhouse_knows_where_its_figure_is() -> None:
    found = make_plan(compose_recipe(["dataset.masks=beside"]))
    plain = make_plan(compose_recipe([]))
    assert [image.sha256 for image in found.images] == [image.sha256 for image in plain.images]
    assert all((image.mask is None) == (image.split == "held_out") for image in found.images)
    truth: dict[str, Any] = json.loads((found.images[0].path.parents[1] / "world.json").read_text())["images"]
    for image in found.train_images()[:3]:
        assert image.mask is not None
        name = image.path.relative_to(image.path.parents[1]).as_posix()
        spec = world.Spec.from_dict({**truth[name], "background": "forest"})
        moved = ImageChops.difference(world.render(spec, image.width_px, image.height_px), Image.open(image.path))
        behind = np.asarray(moved).max(2) > 1  # an edge may round to the same
        assert not (behind & (np.asarray(Image.open(image.mask.file)) > 0)).any()
        assert 0.2 < image.mask.share < 0.8
