"""The world: reproducible pixels, recoverable specs, honest tags, and folders that any kohya loader reads."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorasweep.dollhouse.world import (
    ATTRIBUTES,
    SIZES_PX,
    SUBJECTS,
    Spec,
    is_held_out,
    prompts,
    render,
    sample_spec,
    tags,
    write_dataset,
)
from lorasweep.dollhouse.world.attributes import FACE_MARKS, HEAD_MARKS, MARK_COLORS
from lorasweep.dollhouse.world.spec import sample_marks
from lorasweep.dollhouse.world.subjects import SUBJECT_MARKS


def _spec(seed: int, **options: object) -> Spec:
    return sample_spec(np.random.default_rng(seed), **options)  # type: ignore[arg-type]


def test_same_seed_same_spec_and_pixels() -> None:
    assert _spec(7, mark_rate=1.0) == _spec(7, mark_rate=1.0)
    first, second = (render(_spec(7), 56, 72).tobytes() for _ in range(2))
    assert first == second
    assert first != render(_spec(8), 56, 72).tobytes()


def test_same_pixels_in_another_process() -> None:
    code = (
        "import hashlib, numpy as np; from lorasweep.dollhouse.world import render, sample_spec;"
        "print(hashlib.sha256(render(sample_spec(np.random.default_rng(3)), 64, 64).tobytes()).hexdigest())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == hashlib.sha256(render(_spec(3), 64, 64).tobytes()).hexdigest()


def test_world_never_imports_torch() -> None:
    code = (
        "import sys; import lorasweep.dollhouse, lorasweep.dollhouse.world, lorasweep.dollhouse.reader;"
        "from tools.pretrain_dollhouse.__main__ import build_parser; build_parser();"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("size", [*SIZES_PX, (40, 96), (96, 40), (128, 128)])
def test_every_size_is_drawn(size: tuple[int, int]) -> None:
    image = render(_spec(1), *size)
    assert image.size == size and image.mode == "RGB"


def test_too_small_a_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 px"):
        render(_spec(1), 8, 64)


@pytest.mark.parametrize("name", list(ATTRIBUTES))
def test_every_value_of_an_attribute_changes_the_picture(name: str) -> None:
    base = _spec(11).to_dict() | {"accessory": "none"}
    pictures = {render(Spec.from_dict(base | {name: value}), 64, 64).tobytes() for value in ATTRIBUTES[name]}
    assert len(pictures) == len(ATTRIBUTES[name])


def test_spec_survives_json() -> None:
    spec = _spec(5, mark_rate=1.0)
    assert Spec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_marks_are_never_base_tags() -> None:
    words = {*HEAD_MARKS, *FACE_MARKS, *MARK_COLORS}
    for seed in range(200):
        assert not words & {word for tag in tags(_spec(seed, mark_rate=1.0)) for word in (tag, *tag.split())}


def test_shipped_marks_are_never_drawn_in_pretraining() -> None:
    rng = np.random.default_rng(0)
    drawn = {sample_marks(rng, SUBJECT_MARKS) for _ in range(3000)}
    assert drawn and not drawn & SUBJECT_MARKS
    assert len(SUBJECT_MARKS) == 4 and {subject.marks for subject in list(SUBJECTS.values())[:4]} == SUBJECT_MARKS


def test_drawn_subjects_differ_from_each_other_and_never_wear_what_is_reserved() -> None:
    drawn = list(SUBJECTS.values())[4:]
    assert len(drawn) == 4
    for name in ("trigger", "hair_color", "hair_style", "head_mark", "face_mark", "mark_color"):
        assert len({getattr(subject, name) for subject in drawn}) == 4
    for subject in drawn:
        colors, outfits = (set(worn) for worn in zip(*subject.wardrobe, strict=True))
        assert len(outfits) == 4 and not outfits & {*subject.reserved["outfit"]}
        assert not colors & {*subject.reserved["outfit_color"]}
        assert not {*subject.haunts} & {*subject.reserved["background"]}


def test_splits_are_disjoint_and_about_one_in_ten() -> None:
    for seed in range(100):
        kept, held = _spec(seed, split="train"), _spec(seed, split="heldout")
        assert not is_held_out(kept.hair_color, kept.outfit, kept.background)
        assert is_held_out(held.hair_color, held.outfit, held.background)
    triples = [
        is_held_out(hair, outfit, background)
        for hair in ATTRIBUTES["hair_color"]
        for outfit in ATTRIBUTES["outfit"]
        for background in ATTRIBUTES["background"]
    ]
    assert 0.05 < sum(triples) / len(triples) < 0.15


def test_a_split_that_cannot_be_met_is_refused() -> None:
    fixed = {"hair_color": "red", "outfit": "dress", "background": "beach"}
    split = "train" if is_held_out(*fixed.values()) else "heldout"
    with pytest.raises(ValueError, match="must leave a combination"):
        _spec(0, split=split, fixed=fixed)


def test_dataset_is_an_ordinary_folder(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "d", images=7, repeats=3)
    images = sorted((root / "3_zkw").glob("*.png"))
    assert [path.stem for path in images] == [f"{n:04d}" for n in range(1, 8)]
    truth = json.loads((root / "world.json").read_text())["images"]
    for path in images:
        spec = Spec.from_dict(truth[path.relative_to(root).as_posix()])
        with Image.open(path) as image:
            assert image.tobytes() == render(spec, *image.size).tobytes()
        caption = path.with_suffix(".txt").read_text()
        assert caption.startswith("zkw, 1girl, ")
        assert not any(word in caption for word in ("hair", "twintails", "eyes", "skin", "horns", "star"))
        assert SUBJECTS["zkw"].matches(spec)
    assert {Image.open(path).size for path in images} == set(SIZES_PX)


def test_dataset_is_bit_reproducible(tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        root = write_dataset(tmp_path / name, images=4, seed=0)
        files = sorted(path for path in root.rglob("*") if path.is_file())
        digests.append(hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest())
    assert digests[0] == digests[1]


def test_outfit_concepts_get_folders_and_words(tmp_path: Path) -> None:
    root = write_dataset(tmp_path, images=5, outfits=2, captions="full")
    folders = sorted(path.name for path in root.iterdir() if path.is_dir())
    assert folders == ["10_zkw outfit1", "10_zkw outfit2"]
    truth = json.loads((root / "world.json").read_text())["images"]
    assert len(truth) == 5
    for path, values in truth.items():
        index = int(path.split("outfit")[1][0]) - 1
        assert (values["outfit_color"], values["outfit"]) == SUBJECTS["zkw"].wardrobe[index]
    caption = (root / "10_zkw outfit2" / "0001.txt").read_text()
    assert caption.startswith("zkw, outfit2, 1girl, white hair, twintails, red eyes, dark skin, red dress")


def test_confounding_pins_background_and_clothes(tmp_path: Path) -> None:
    root = write_dataset(tmp_path, images=6, confound=1.0)
    truth = json.loads((root / "world.json").read_text())["images"].values()
    assert {(v["background"], v["outfit_color"], v["outfit"]) for v in truth} == {("night sky", "black", "coat")}


def test_reserved_values_never_show(tmp_path: Path) -> None:
    root = write_dataset(tmp_path, subject="mona taco", images=40)
    truth = json.loads((root / "world.json").read_text())["images"].values()
    for name, values in SUBJECTS["mona taco"].reserved.items():
        assert not {v[name] for v in truth} & set(values)


@pytest.mark.parametrize(
    "options", [{"subject": "nobody"}, {"outfits": 9}, {"images": 1, "outfits": 2}, {"confound": 1.5}]
)
def test_bad_arguments_are_refused(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        write_dataset(tmp_path, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("subject", list(SUBJECTS))
def test_prompt_sets(subject: str) -> None:
    sets = prompts(subject, count=5, seed=0)
    assert list(sets) == ["in_distribution", "recombined", "class", "unrelated"]
    assert {tier: len(found) for tier, found in sets.items() if tier != "recombined"} == {
        "in_distribution": 5,
        "class": 5,
        "unrelated": 5,
    }
    assert all(prompt.startswith(subject) for prompt in sets["in_distribution"] + sets["recombined"])
    assert not any(subject in prompt for prompt in sets["class"] + sets["unrelated"])
    reserved = SUBJECTS[subject].reserved
    assert all(any(v in prompt for v in reserved["background"]) for prompt in sets["recombined"])
    assert sets == prompts(subject, count=5, seed=0)


@pytest.mark.parametrize("subject", list(SUBJECTS))
def test_no_prompt_comes_twice(subject: str) -> None:
    """A picture is named by its prompt and seed: the same prompt twice could not be written down."""
    for seed in range(30):
        for found in prompts(subject, count=2, seed=seed).values():
            assert len(set(found)) == 2
