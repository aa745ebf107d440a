"""A folder as people hand it over, through the command line: all of it is used or named."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lorasweep.cli import main

Planned = Callable[..., dict[str, Any]]
USUAL = [f"zkw, 1girl, tag{number}" for number in range(5)]


def fill(folder: Path, captions: Sequence[str | None], *, suffix: str = ".png", seed: int = 0) -> Path:
    """Write pictures 0.png, 1.png, ... that differ, with a .txt each (None: no .txt)."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, caption in enumerate(captions):
        rng = np.random.default_rng([seed, number, len(folder.name)])
        cells = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        path = folder / f"{number}{suffix}"
        cells.resize((64, 64), Image.Resampling.NEAREST).save(path, format="JPEG" if suffix == ".jfif" else None)
        if caption is not None:
            path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return folder


@pytest.fixture
def planned(home: Path, capsys: pytest.CaptureFixture[str]) -> Planned:
    """Plan a folder from the command line; `said` is what it says, `captions` are by file."""

    def plan(root: Path, *words: str) -> dict[str, Any]:
        assert main(["plan", f"dataset.path={root}", *words, "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        found["said"] = "\n".join(found["warnings"])
        found["captions"] = {
            Path(image["file"]).relative_to(root).as_posix(): image["caption"]
            for image in found["images"]
            if Path(image["file"]).is_relative_to(root)
        }
        return found

    return plan


@pytest.fixture
def refused(home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[Path], str]:
    """Plan a folder that cannot be used; returns what is said of it."""

    def plan(root: Path) -> str:
        assert main(["plan", f"dataset.path={root}"]) == 2
        return capsys.readouterr().err

    return plan


# ------------------------------------------------------------------------------------------- folders


@pytest.mark.parametrize("name", ["CROP", "1.5_zkw hat", "5 zkw hat", "10_zkw/more", "a/b/c/d/CROP"])
def test_a_folder_that_is_not_trained_on_is_named(planned: Planned, tmp_path: Path, name: str) -> None:
    fill(tmp_path / "set" / "10_zkw", USUAL)
    fill(tmp_path / "set" / name, ["zkw, hat"] * 3)

    plan = planned(tmp_path / "set")

    assert set(plan["exposures"]) == {"10_zkw"}
    assert f"{name} (3 images)" in plan["said"]


@pytest.mark.parametrize("name", ["5", "5_", "a/b/c/d/5_hat"])
def test_kohyas_repeats_need_no_class_word_and_may_lie_deep(planned: Planned, tmp_path: Path, name: str) -> None:
    fill(tmp_path / "set" / "10_zkw", USUAL)
    fill(tmp_path / "set" / name, ["zkw, hat"] * 3)

    plan = planned(tmp_path / "set", "dataset.holdout=0", "train.epochs=1", "train.max_steps=null")

    assert plan["exposures"] == {"10_zkw": 50, Path(name).name: 15}
    assert ("5 is read as 5 repeats" in plan["said"]) == (name == "5")


def test_a_project_of_kohyas_gui_is_understood(planned: Planned, tmp_path: Path) -> None:
    project = tmp_path / "my project"
    fill(project / "img" / "10_zkw woman", [f"zkw, woman, tag{number}" for number in range(5)])
    fill(project / "reg" / "1_woman", [None] * 8)
    fill(project / "model" / "sample", [None] * 2)
    (project / "log").mkdir()
    (project / "log" / "events").write_text("x")

    plan = planned(project)

    assert set(plan["exposures"]) == {"10_zkw woman"} and plan["trigger"] == "zkw"
    offered = f"regularization=reg_images 'regularization.reg_images.path={project / 'reg'}'"
    assert "reg/ has 8 regularization images" in plan["said"] and offered in plan["said"]
    assert "what a trainer wrote: model/sample (2 images)" in plan["said"] and "events" not in plan["said"]
    used = planned(project, "regularization=reg_images", f"regularization.reg_images.path={project / 'reg'}")
    assert "reg/ has" not in used["said"] and used["regularization"]["regularizers"][0]["images"] > 0


def test_links_count_once_and_are_named(planned: Planned, tmp_path: Path) -> None:
    root = tmp_path / "set"
    images = fill(root / "10_zkw", USUAL)
    for name, target in {
        "10_zkw/back": root,
        "5_again": images,
        "alias": images,
        "10_zkw/link.png": images / "0.png",
        "gone": tmp_path / "nowhere",
        "up": tmp_path,
    }.items():
        (root / name).symlink_to(target)

    os.mkfifo(root / "pipe\n.png")

    plan = planned(root)

    assert len(plan["images"]) == 5 and set(plan["exposures"]) == {"10_zkw"}
    assert "no files (links that lead nowhere, pipes, devices): gone, pipe�.png" in plan["said"]
    assert "are not followed: 10_zkw/back, up\n" in plan["said"]
    assert "links bring a second time count once: 10_zkw/link.png, 5_again/0.png" in plan["said"]
    assert "left out" not in plan["said"]


def test_a_link_may_give_a_folder_its_repeats(planned: Planned, tmp_path: Path) -> None:
    raw = fill(tmp_path / "set" / "raw", USUAL)
    (tmp_path / "set" / "3_zkw").symlink_to(raw)

    plan = planned(tmp_path / "set")

    assert set(plan["exposures"]) == {"3_zkw"} and len(plan["images"]) == 5
    assert "second time count once: raw/0.png" in plan["said"] and "left out" not in plan["said"]


def test_pictures_and_texts_of_other_kinds_are_read_or_named(planned: Planned, tmp_path: Path) -> None:
    root = fill(tmp_path / "set", USUAL, suffix=".jfif")
    for name in ("p.heic", "data.zip", "0.caption", "0-masklabel.png", "meta_cap.json", "0.npz", "lost.txt"):
        (root / name).write_bytes(b"x")

    plan = planned(root)

    assert len(plan["images"]) == 5
    assert "in a format that is not read: p.heic" in plan["said"]
    assert "not used: 0.caption, data.zip" in plan["said"]
    assert "masks that are not used: 0-masklabel.png; dataset.masks=beside trains by them" in plan["said"]
    assert "kohya's metadata are not read: meta_cap.json" in plan["said"]
    assert "captions of no image: lost.txt" in plan["said"] and "npz" not in plan["said"]


def test_only_the_first_frame_of_a_film_is_used(planned: Planned, tmp_path: Path) -> None:
    root = fill(tmp_path / "set", USUAL)
    frames = [Image.new("RGB", (64, 64), (60 * number, 0, 90)) for number in range(4)]
    for name in ("a.gif", "b.png", "c.webp", "d.tif", "phone.mpo"):
        frames[0].save(root / name, save_all=True, append_images=frames[1:])
    frames[0].save(root / "still.gif")

    for _ in range(2):  # found, then remembered
        said = planned(root)["said"]
        assert "only the first frame or page is used of set/a.gif, set/b.png, set/c.webp and 1 more" in said


def test_a_folder_of_formats_that_are_not_read_is_told_so(refused: Callable[[Path], str], tmp_path: Path) -> None:
    (tmp_path / "IMG_1.HEIC").write_bytes(b"x")

    assert "has no images in a format that is read, only IMG_1.HEIC" in refused(tmp_path)


@pytest.mark.parametrize("name", ["class", "Class_data", "prior images", "regularization_images_dir"])
def test_class_pictures_are_not_the_subject(planned: Planned, tmp_path: Path, name: str) -> None:
    fill(tmp_path / "img" / "10_zkw", USUAL)
    fill(tmp_path / name / "1_woman", [None] * 3, seed=1)

    plan = planned(tmp_path)

    assert set(plan["exposures"]) == {"10_zkw"} and f"{name}/ has 3 regularization images" in plan["said"]


def test_leftovers_of_notebooks_and_macs_stay_quiet(planned: Planned, tmp_path: Path) -> None:
    images = fill(tmp_path / "set" / "10_zkw", USUAL)
    fill(images / ".ipynb_checkpoints", [None])
    fill(tmp_path / "set" / "__MACOSX" / "10_zkw", [None])
    (images / "._0.png").write_bytes(b"\0\x05\x16\x07Mac OS X")
    (images / "Thumbs.db").write_bytes(b"x")

    plan = planned(tmp_path / "set")

    assert len(plan["images"]) == 5
    assert not any(word in plan["said"] for word in ("MACOSX", "ipynb", "Thumbs", "no images", "not read"))


def test_names_in_any_script_and_of_any_length(planned: Planned, tmp_path: Path) -> None:
    images = fill(tmp_path / "set" / "10_ひめ (v2) ♥ #1", [f"ひめ, 帽子, tag{number}" for number in range(6)])
    (images / "0.png").rename(images / f"{'long ' * 50}a.png")
    for suffix in (b".png", b".txt"):
        os.rename(os.fsencode(images / "1") + suffix, os.fsencode(images) + b"/\x83e\x83X" + suffix)

    plan = planned(tmp_path / "set")

    assert len(plan["images"]) == 6 and plan["trigger"] == "ひめ"


def test_a_date_is_no_number_of_repeats(refused: Callable[[Path], str], tmp_path: Path) -> None:
    fill(tmp_path / "set" / "20240115_zkw", USUAL)

    assert "repeats must be from 1 to 10000, got 20240115" in refused(tmp_path / "set")


def test_a_dataset_of_regularization_images_alone_is_refused(refused: Callable[[Path], str], tmp_path: Path) -> None:
    fill(tmp_path / "set" / "reg" / "1_woman", [None] * 3)

    assert f"give dataset.path={tmp_path / 'set' / 'reg'}" in refused(tmp_path / "set")


# ------------------------------------------------------------------------------------------ metadata


def rows(names: Sequence[str]) -> list[dict[str, str]]:
    return [{"file_name": name, "text": f"zkw, robot {number}"} for number, name in enumerate(names)]


def test_captions_are_read_from_metadata(planned: Planned, tmp_path: Path) -> None:
    root = fill(tmp_path / "set", [None] * 5)
    (root / "0.txt").write_text("zkw, of its own file")
    named = [*(f"{number}.png" for number in range(5)), "lost.png"]
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(named)))

    plan = planned(root)

    assert plan["captions"]["1.png"] == "zkw, robot 1" and plan["captions"]["0.png"] == "zkw, of its own file"
    assert "metadata.jsonl has rows of no image that is trained on: lost.png" in plan["said"]
    assert "metadata.jsonl says otherwise than the captions that are used: 0.png" in plan["said"]
    assert "no caption file" not in plan["said"]


def test_metadata_may_name_images_in_folders_of_a_plain_dataset(planned: Planned, tmp_path: Path) -> None:
    fill(tmp_path / "set" / "train", [None] * 3)
    (tmp_path / "set" / "metadata.csv").write_text('file_name,caption\ntrain/0.png,"zkw, a"\ntrain/1.png,"zkw, b"\n')

    plan = planned(tmp_path / "set")

    assert plan["captions"] == {"train/0.png": "zkw, a", "train/1.png": "zkw, b"}
    assert "train (1 image)" in plan["said"]


def test_metadata_that_cannot_be_read_are_refused_with_the_line(refused: Callable[[Path], str], tmp_path: Path) -> None:
    root = fill(tmp_path / "set", [None] * 5)
    (root / "metadata.jsonl").write_text('{"file_name": "0.png", "text": "a"}\n{"file_name": 1,\n')

    assert "set/metadata.jsonl:2" in refused(root)


def test_the_case_of_a_captions_suffix_does_not_matter(planned: Planned, tmp_path: Path) -> None:
    root = fill(tmp_path / "set", USUAL)
    (root / "0.txt").rename(root / "0.TXT")
    (root / "1.TXT").write_text("another")
    (root / "lost.Txt").write_text("zkw")

    plan = planned(root)

    assert plan["captions"]["0.png"] == USUAL[0]
    assert "captions of no image: lost.Txt" in plan["said"] and "not used: 1.TXT" in plan["said"]
    assert "no caption file" not in plan["said"]


def test_a_second_caption_of_an_image_is_named(planned: Planned, tmp_path: Path) -> None:
    root = fill(tmp_path / "set", [None] * 5)
    rows = [{"file_name": "0.png", "text": text} for text in ("zkw, a", "zkw, b", "zkw, a")]
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))

    plan = planned(root)

    assert plan["captions"]["0.png"] == "zkw, a"
    assert "has several captions of one image, of which the first counts: 0.png" in plan["said"]


def test_metadata_without_captions_are_named(planned: Planned, tmp_path: Path) -> None:
    root = fill(tmp_path / "set", USUAL)
    (root / "metadata.jsonl").write_text('{"image": "0.png", "label": 3}\n')

    assert "its rows must have file_name and text, got image, label" in planned(root)["said"]


def test_a_trigger_that_calls_a_whole_class_is_told(planned: Planned, tmp_path: Path) -> None:
    root = fill(tmp_path / "set", USUAL)
    assert "the trigger 1girl calls a whole class" in planned(root, "captions.trigger=1girl")["said"]
    assert "calls a whole class" not in planned(root)["said"]


def test_an_image_is_no_caption(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = fill(tmp_path / "set", USUAL)
    assert main(["plan", f"dataset.path={root}", "captions.extension=.PNG"]) == 2
    assert "must be the suffix of texts, not of images, got .PNG" in capsys.readouterr().err


def test_rows_of_metadata_without_a_name_are_named(planned: Planned, tmp_path: Path) -> None:
    root = fill(tmp_path / "set", [None, *USUAL[1:]])
    rows = ['{"file_name": "0.png", "text": "zkw"}', "", '{"file": "1.png", "text": "zkw"}', '{"file_name": 2}']
    (root / "metadata.jsonl").write_text("\n".join(rows))

    plan = planned(root)

    assert plan["captions"]["0.png"] == "zkw"
    assert "metadata.jsonl has rows without a file_name, which are not read: line 3, line 4" in plan["said"]


# ------------------------------------------------------------------------------------------ captions


@pytest.mark.parametrize(
    ("folder", "caption", "trigger"),
    [
        ("10_zkw", "zkw, 1girl, tag", "zkw"),
        ("10_zkw", "1girl, zkw, tag", "zkw"),
        ("40_1girl", "zkw, 1girl, tag", "zkw"),
        ("20_dataset v2", "zkw, 1girl, tag", "zkw"),
        ("10_hatsune_miku", "hatsune miku, 1girl, tag", "hatsune miku"),
        ("10_Mona Taco outfit1", "mona taco, outfit1, tag", "mona taco"),
        ("10_zkw woman", "a photo of zkw woman, tag", "zkw"),
        ("10_zkw", "zkw，1girl，tag", "zkw"),
        ("10_style of bob", "a painting of a house, by bob, tag", None),
        ("10_zkw", "1girl, solo, tag", None),
        ("10_x", "masterpiece, best quality, 1girl, tag", None),
    ],
)
def test_captions_stay_as_written_and_hold_the_trigger(
    planned: Planned, tmp_path: Path, folder: str, caption: str, trigger: str | None
) -> None:
    fill(tmp_path / "set" / folder, [f"{caption}{number}" for number in range(6)])

    plan = planned(tmp_path / "set")

    assert plan["trigger"] == trigger
    assert set(plan["captions"].values()) == {f"{caption}{number}" for number in range(6)}
    if trigger:
        assert not any(trigger in prompt for prompt in plan["prompts"]["class"])
    else:
        assert "no trigger word is known" in plan["said"] and "captions.trigger=1girl" not in plan["said"]


@pytest.mark.parametrize(
    ("words", "trained"),
    [
        ((), "1girl, solo, tag0"),
        (("captions.add_trigger=true",), "zkw, 1girl, solo, tag0"),
        (("captions.trigger=moki",), "moki, 1girl, solo, tag0"),
        (("captions.trigger=moki", "captions.add_trigger=false"), "1girl, solo, tag0"),
        (("captions=absorbed",), "zkw, 1girl, solo, tag0"),
        (("captions=cleaned",), "1girl, solo, tag0"),
    ],
)
def test_a_trigger_is_put_in_front_when_it_is_asked_for(
    planned: Planned, tmp_path: Path, words: tuple[str, ...], trained: str
) -> None:
    fill(tmp_path / "set" / "10_zkw", [f"1girl, solo, tag{number}" for number in range(6)])

    assert planned(tmp_path / "set", *words)["captions"]["10_zkw/0.png"] == trained


def test_a_trigger_that_some_captions_lack_is_told_with_what_to_type(planned: Planned, tmp_path: Path) -> None:
    fill(tmp_path / "set" / "10_zkw", [*USUAL, "1girl, alone"])

    assert "the trigger zkw is not in 1 of 6 captions: captions.add_trigger=true" in planned(tmp_path / "set")["said"]
    assert "is not in" not in planned(tmp_path / "set", "captions.add_trigger=true")["said"]


def test_without_caption_files_the_folders_words_are_the_caption(planned: Planned, tmp_path: Path) -> None:
    fill(tmp_path / "set" / "10_zkw woman", [None, *USUAL])

    plan = planned(tmp_path / "set")

    assert plan["captions"]["10_zkw woman/0.png"] == "zkw woman" and plan["trigger"] == "zkw"


def test_captions_of_no_or_several_lines_are_named(planned: Planned, tmp_path: Path) -> None:
    root = fill(tmp_path / "set", [*USUAL, "", " , ,", "zkw, a\r\nzkw, b\n", "zkw, c\n \t\n"])

    said = planned(root)["said"]

    assert "captions that say nothing: 5.png, 6.png" in said and "captions of several lines: 7.png;" in said


def test_a_file_that_is_no_caption_is_refused(refused: Callable[[Path], str], tmp_path: Path) -> None:
    root = fill(tmp_path / "set", [*USUAL, "zkw, " * 20_000])

    assert "set/5.txt  caption must have at most 64 KB" in refused(root)


# ----------------------------------------------------------------------------------- long and held out


def test_captions_longer_than_the_text_encoders_window_are_told_and_read_whole(
    planned: Planned, tmp_path: Path
) -> None:
    middle = [f"wonderful descriptive tag number {number}" for number in range(30)]
    fill(tmp_path / "set" / "10_zkw", [", ".join(["1girl", *middle, f"tag{n}", "zkw"]) for n in range(6)])

    plan = planned(tmp_path / "set")

    assert "6 of 6 captions are longer than 75 tokens (0.png has 870)" in plan["said"]
    assert "read whole, in up to 12 chunks of 75" in plan["said"]
    seen = plan["tag_exposures"]
    assert seen["1girl"] == seen[middle[-1]] == seen["zkw"] == plan["exposures"]["10_zkw"]


def test_no_concept_loses_its_last_image(planned: Planned, tmp_path: Path) -> None:
    for folder, count in {"10_zkw outfit1": 20, "40_zkw outfit2": 2, "60_zkw outfit3": 1}.items():
        fill(
            tmp_path / "set" / folder,
            [f"zkw, {folder[-7:]}, tag{number}" for number in range(count)],
            seed=count,
        )

    for seed in range(8):
        plan = planned(tmp_path / "set", f"dataset.holdout_seed={seed}", "train.max_steps=null")
        assert len(plan["exposures"]) == 3 and all(plan["exposures"].values())
        assert sum(image["split"] == "held_out" for image in plan["images"]) == 5


def test_brackets_of_captions_are_shown_as_they_are(
    home: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = fill(tmp_path / "set", ["zkw, [red] hat", *USUAL[1:]])

    assert main(["plan", f"dataset.path={root}", "captions=cleaned", "--captions"]) == 0
    shown = capsys.readouterr().out
    assert "[red] hat" in shown and "\\" not in shown


def test_no_subject_is_called_by_prompts_of_the_class(planned: Planned, tmp_path: Path) -> None:
    fill(tmp_path / "set" / "10_aaa", [f"aaa, blue {number}" for number in range(5)])
    fill(tmp_path / "set" / "10_bbb", [f"bbb, red {number}" for number in range(4)])

    plan = planned(tmp_path / "set")

    assert plan["trigger"] == "aaa"
    assert not any("aaa" in prompt or "bbb" in prompt for prompt in plan["prompts"]["class"])
    assert all("aaa" in prompt and "bbb" not in prompt for prompt in plan["prompts"]["recombined"])
    assert "triggers of their own, aaa, bbb: recombined prompts call aaa alone" in plan["said"]


# ------------------------------------------------------------------------------------ images kept apart


def test_images_of_another_folder_are_held_out_and_none_of_the_dataset(planned: Planned, tmp_path: Path) -> None:
    fill(tmp_path / "set" / "10_zkw", USUAL)
    fill(tmp_path / "kept", ["zkw, 1girl, beach"] * 3, seed=7)

    found = planned(tmp_path / "set", f"dataset.holdout_path={tmp_path / 'kept'}")

    splits = {Path(image["file"]).parent.name: image["split"] for image in found["images"]}
    assert splits == {"10_zkw": "train", "kept": "held_out"}
    assert "near-duplicates" not in found["said"] and "no image of" not in found["said"]


def test_images_kept_apart_that_are_trained_on_are_told(planned: Planned, tmp_path: Path) -> None:
    root = fill(tmp_path / "set" / "10_zkw", USUAL).parent
    fill(tmp_path / "kept", ["zkw, 1girl, beach"] * 3, seed=7)
    (tmp_path / "kept" / "0.png").write_bytes((root / "10_zkw" / "0.png").read_bytes())

    said = planned(root, f"dataset.holdout_path={tmp_path / 'kept'}")["said"]

    assert "kept/0.png of dataset.holdout_path" in said and "in several concepts" not in said


def test_what_is_not_used_of_images_kept_apart_is_named(planned: Planned, tmp_path: Path) -> None:
    root = fill(tmp_path / "set" / "10_zkw", USUAL).parent
    kept = fill(tmp_path / "kept", ["zkw, 1girl, beach", None, "zkw"], seed=7)
    fill(kept / "more", ["zkw"], seed=8)
    fill(kept / "reg", ["1girl"], seed=9)
    (kept / "9.txt").write_text("zkw, of no image")

    said = planned(root, f"dataset.holdout_path={kept}")["said"]

    for part in ("no caption file for 1 of 3 images (kept/1.png)", "more (1 image)", "reg/ in it", "9.txt"):
        assert part in said
    assert said.count("dataset.holdout_path: ") == 4


def test_named_images_are_held_out_and_no_others(planned: Planned, tmp_path: Path) -> None:
    root = fill(tmp_path / "set" / "10_zkw", USUAL * 2).parent

    found = planned(root, 'dataset.holdout_files=[10_zkw/3.png,"[78]"]')

    held_out = [Path(image["file"]).name for image in found["images"] if image["split"] == "held_out"]
    assert held_out == ["3.png", "7.png", "8.png"] and "near-duplicates" not in found["said"]


def test_a_name_that_is_a_pattern_too_is_a_name_where_there_is_such_an_image(planned: Planned, tmp_path: Path) -> None:
    root = fill(tmp_path / "set" / "10_zkw", USUAL).parent
    (root / "10_zkw" / "3.png").rename(root / "10_zkw" / "[12].png")

    for named in ("[12].png", "10_zkw/[12]", "[12]"):
        found = planned(root, f'dataset.holdout_files=["{named}"]')
        assert [Path(each["file"]).name for each in found["images"] if each["split"] == "held_out"] == ["[12].png"]


def test_letters_that_macos_took_apart_are_those_that_people_type(planned: Planned, tmp_path: Path) -> None:
    """Names on a disk of macOS, unpacked elsewhere, are decomposed; what is typed is not."""
    whole, apart = (unicodedata.normalize(form, "zoé") for form in ("NFC", "NFD"))
    root = fill(tmp_path / "set" / f"10_{apart}", [f"{whole}, 1girl, hat{n}" for n in range(6)]).parent
    (root / f"10_{apart}" / "3.png").rename(root / f"10_{apart}" / f"{apart}.png")
    (root / f"10_{apart}" / "3.txt").rename(root / f"10_{apart}" / f"{apart}.txt")

    found = planned(root, f'dataset.holdout_files=["{whole}.png"]')

    assert found["trigger"] == whole, "as the captions have it"
    assert [Path(each["file"]).stem for each in found["images"] if each["split"] == "held_out"] == [apart]


def test_a_copy_of_a_named_image_that_is_trained_on_is_told(planned: Planned, tmp_path: Path) -> None:
    root = fill(tmp_path / "set" / "10_zkw", USUAL).parent
    (root / "10_zkw" / "4.png").write_bytes((root / "10_zkw" / "1.png").read_bytes())
    assert "10_zkw/1.png of dataset.holdout_files" in planned(root, "dataset.holdout_files=[1.png]")["said"]
    assert "of dataset.holdout_files" not in planned(root, "dataset.holdout_files=[1.png,4.png]")["said"]


@pytest.mark.parametrize("named", ["[3.png,30.png,seven,.]", '["*"]'])
def test_names_of_no_image_and_of_all_are_refused(
    named: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = fill(tmp_path / "set" / "10_zkw", USUAL).parent
    assert main(["plan", f"dataset.path={root}", f"dataset.holdout_files={named}"]) == 2
    said = capsys.readouterr().err
    assert all(f"{name!r}" in said for name in ("30.png", "seven", ".")) or "all 5 images" in said
    assert "'3.png'" not in said


def test_named_images_and_a_folder_of_others_exclude_each_other(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", f"dataset.holdout_path={home}", "dataset.holdout_files=[1.png]"]) == 2
    assert "excludes dataset.holdout_path" in capsys.readouterr().err


def test_a_tag_written_twice_is_read_once_an_exposure(planned: Planned, tmp_path: Path) -> None:
    root = fill(tmp_path / "set", ["zkw, hat, hat"] * 4)
    assert set(planned(root)["tag_exposures"].values()) == {4 * 8}  # 4 images, 8 epochs
    varied = planned(root, "captions.tag_dropout=0.5")["tag_exposures"]
    assert varied == {"zkw": 32, "hat": 24}  # gone from a quarter of them
