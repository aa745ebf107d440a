"""Folders as people have them: kohya's, nested, plain, and wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from lorasweep.core.errors import DatasetError
from lorasweep.data.folder import FoundImage, find_images


def put(path: Path, caption: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


def read(root: Path) -> list[FoundImage]:
    return list(find_images(root, caption_extension=".txt").images)


def test_kohya_folders_give_repeats_concept_and_class_tokens(tmp_path: Path) -> None:
    put(tmp_path / "10_zkw outfit1" / "b.png", "zkw, hat")
    put(tmp_path / "10_zkw outfit1" / "a.JPG")
    put(tmp_path / "3_zkw_second" / "c.webp", "zkw")

    first, second, third = read(tmp_path)

    assert [first.path.name, second.path.name, third.path.name] == ["a.JPG", "b.png", "c.webp"]
    assert (first.concept, first.class_tokens, first.repeats, first.caption) == (
        "10_zkw outfit1",
        "zkw outfit1",
        10,
        None,
    )
    assert second.caption == "zkw, hat"
    assert (third.concept, third.class_tokens, third.repeats) == ("3_zkw_second", "zkw_second", 3)


def test_of_two_spellings_of_a_suffix_the_one_asked_for_counts(tmp_path: Path) -> None:
    put(tmp_path / "a.png", "quiet")
    (tmp_path / "a.TXT").write_text("loud")
    put(tmp_path / "b.png")
    (tmp_path / "b.TXT").write_text("loud")
    if len(list(tmp_path.iterdir())) == 5:  # a.txt and a.TXT are two files here
        assert [image.caption for image in read(tmp_path)] == ["quiet", "loud"]


def test_metadata_reach_into_folders_of_a_plain_dataset_alone(tmp_path: Path) -> None:
    row = '{"file_name": "more/b.png", "text": "zkw, hat"}'
    for root in (tmp_path / "plain", tmp_path / "kohya"):
        put(root / "more" / "b.png")
        put(root / "more" / "c.png", "nobody names it")
        (root / "metadata.jsonl").write_text(row)
    put(tmp_path / "plain" / "a.png", "zkw")
    put(tmp_path / "kohya" / "10_zkw" / "a.png", "zkw")

    assert [(image.path.name, image.caption) for image in read(tmp_path / "plain")] == [
        ("a.png", "zkw"),
        ("b.png", "zkw, hat"),
    ]
    assert [image.path.name for image in read(tmp_path / "kohya")] == ["a.png"]


@pytest.mark.parametrize("nested", ["10_zkw", "img/10_zkw", "data/train/10_zkw"])
def test_concept_folders_are_found_below_the_dataset(tmp_path: Path, nested: str) -> None:
    put(tmp_path / nested / "a.png")

    assert [image.concept for image in read(tmp_path)] == ["10_zkw"]


def test_a_dataset_may_itself_be_a_concept_folder(tmp_path: Path) -> None:
    put(tmp_path / "10_zkw" / "a.png")

    (image,) = read(tmp_path / "10_zkw")

    assert (image.concept, image.repeats, image.class_tokens) == ("10_zkw", 10, "zkw")


def test_a_plain_folder_has_no_concept_and_one_repeat(tmp_path: Path) -> None:
    for suffix in ("png", "jpg", "jpeg", "webp", "avif", "bmp", "gif", "tif"):
        put(tmp_path / f"{suffix}.{suffix}")
    (tmp_path / "notes.md").write_text("not an image")

    images = read(tmp_path)

    assert len(images) == 8
    assert {(image.concept, image.repeats, image.class_tokens) for image in images} == {("", 1, "")}


def test_hidden_files_are_left_out_and_links_are_followed(tmp_path: Path) -> None:
    real = put(tmp_path / "elsewhere" / "real.png", "a caption")
    root = tmp_path / "set"
    put(root / "a.png")
    put(root / ".hidden.png")
    put(root / ".git" / "10_x" / "b.png")
    (root / "link.png").symlink_to(real)

    assert [image.path.name for image in read(root)] == ["a.png", "link.png"]


def test_loose_images_beside_concept_folders_are_left_out_with_a_warning(tmp_path: Path) -> None:
    put(tmp_path / "10_zkw" / "a.png")
    put(tmp_path / "loose.png")

    found = find_images(tmp_path, caption_extension=".txt")

    assert [image.path.name for image in found.images] == ["a.png"]
    assert len(found.warnings) == 1 and "1 image directly" in found.warnings[0]


def test_captions_may_have_a_byte_order_mark_and_line_breaks(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfzkw,  hat,\r\nsmile \xe2\x99\xa5\n")

    assert read(tmp_path)[0].caption == "zkw, hat, smile \N{BLACK HEART SUIT}"


def test_every_caption_in_another_encoding_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        put(tmp_path / "10_x" / f"{name}.png")
        (tmp_path / "10_x" / f"{name}.txt").write_bytes("garçon".encode("latin-1"))

    with pytest.raises(DatasetError) as caught:
        read(tmp_path)

    assert [problem.where for problem in caught.value.problems] == ["10_x/a.txt", "10_x/b.txt"]
    assert "UTF-8" in caught.value.problems[0].message and "0xe7 at 3" in caught.value.problems[0].message


def test_a_missing_folder_a_file_and_an_empty_folder_say_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        read(tmp_path / "nope")
    with pytest.raises(DatasetError, match="is a file"):
        read(put(tmp_path / "a" / "b.png"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="has no images"):
        read(tmp_path / "empty")


def test_images_in_a_folder_without_repeats_get_a_next_step(tmp_path: Path) -> None:
    put(tmp_path / "zkw" / "a.png")

    with pytest.raises(DatasetError, match="rename 'zkw' to '10_zkw'"):
        read(tmp_path)


def test_zero_repeats_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "0_zkw" / "a.png")

    with pytest.raises(DatasetError, match="repeats must be from 1"):
        read(tmp_path)


def test_files_that_look_used_and_are_not_are_named(tmp_path: Path) -> None:
    put(tmp_path / "a.png", "a tag")
    for name in ("phone.HEIC", "phone.txt", "b.txt", "a.png.txt", ".hidden.txt", "notes.md"):
        (tmp_path / name).write_text("x")

    unread, astray, others = find_images(tmp_path, caption_extension=".txt").warnings

    assert "left out" in unread and "phone.HEIC" in unread
    assert "captions of no image: a.png.txt, b.txt; " in astray and astray.endswith("e.g. a.txt")
    assert others == "not used: notes.md"
