"""The trigger, cleaning, pruning, shuffling and dropout."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from lorasweep.core.records import CaptionOptions, CleanOptions
from lorasweep.data.captions import (
    planned,
    replace_trigger,
    spelling,
    tags,
    unmatched,
    vary,
    with_trigger,
    without_trigger,
)

PLAIN = CaptionOptions()


@pytest.mark.parametrize(
    ("caption", "trigger", "expected"),
    [
        ("1girl, hat", "zkw", "zkw, 1girl, hat"),
        ("zkw, 1girl", "zkw", "zkw, 1girl"),
        ("1girl, ZKW smiling", "zkw", "1girl, ZKW smiling"),
        ("zkwette, hat", "zkw", "zkw, zkwette, hat"),
        ("", "zkw", "zkw"),
        ("1girl", None, "1girl"),
        ("a photo of mona taco", "mona taco", "a photo of mona taco"),
    ],
)
def test_the_trigger_is_added_where_it_is_missing(caption: str, trigger: str | None, expected: str) -> None:
    assert with_trigger(caption, trigger, PLAIN) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("zkw, 1girl, hat", "1girl, hat"),
        ("a photo of zkw person, hat", "a photo of person, hat"),
        ("1girl, hat", "1girl, hat"),
        ("zkw", ""),
    ],
)
def test_the_trigger_is_taken_out(caption: str, expected: str) -> None:
    assert without_trigger(caption, "zkw", PLAIN) == expected


def test_nothing_varies_and_nothing_is_drawn_by_default() -> None:
    rng = random.Random(0)
    before = rng.getstate()

    assert vary("zkw,  1girl ,hat", PLAIN, rng) == "zkw,  1girl ,hat"
    assert rng.getstate() == before


def test_shuffling_keeps_the_first_tags_and_all_of_the_others() -> None:
    caption = "zkw, 1girl, a, b, c, d"
    options = CaptionOptions(shuffle=True, keep_tokens=2)

    varied = [vary(caption, options, random.Random(seed)) for seed in range(50)]

    assert len(set(varied)) > 10
    assert all(text.startswith("zkw, 1girl, ") for text in varied)
    assert all(sorted(tags(text, options)) == sorted(tags(caption, options)) for text in varied)


def test_every_order_is_as_likely() -> None:
    options = CaptionOptions(shuffle=True, keep_tokens=1)
    rng = random.Random(0)

    counts = Counter(vary("z, a, b, c", options, rng) for _ in range(6000))

    assert len(counts) == 6
    assert all(abs(count - 1000) < 130 for count in counts.values())  # 4.5 standard deviations


def test_dropout_empties_its_share_of_captions() -> None:
    rng = random.Random(0)
    options = CaptionOptions(dropout=0.25)

    dropped = sum(vary("zkw", options, rng) == "" for _ in range(4000))

    assert abs(dropped - 1000) < 125


def test_the_same_generator_state_gives_the_same_caption() -> None:
    options = CaptionOptions(shuffle=True, dropout=0.3)

    first = [vary("z, a, b, c, d", options, random.Random(seed)) for seed in range(20)]

    assert first == [vary("z, a, b, c, d", options, random.Random(seed)) for seed in range(20)]


def test_another_separator() -> None:
    options = CaptionOptions(separator="; ", shuffle=True, keep_tokens=0)

    assert tags("a;b ; c, d", options) == ["a", "b", "c, d"]
    assert set(vary("a; b", options, random.Random(1)).split("; ")) == {"a", "b"}


def cleaned(caption: str, trigger: str | None = "zkw", **clean: Any) -> str:
    return planned(caption, trigger, CaptionOptions(add_trigger=True, clean=CleanOptions(**clean)))


def test_a_sentence_is_left_as_written_when_nothing_is_asked_for() -> None:
    assert planned("A photo,of  zkw ,Smiling_", "zkw", PLAIN) == "A photo,of  zkw ,Smiling_"


@pytest.mark.parametrize(
    ("clean", "caption", "expected"),
    [
        ({"lowercase": True}, "1Girl, Red Hair", "zkw, 1girl, red hair"),
        ({"underscores": True}, "red_hair, ^_^, long__coat", "zkw, red hair, ^_^, long coat"),
        ({"duplicates": True}, "hat, Hat, red_hat, hat, red hat", "zkw, hat, red_hat"),
        ({"implied": True}, "hat, red hat, that, hair ribbon, hair", "zkw, red hat, that, hair ribbon, hair"),
        (
            {"unwanted": ("watermark", "* background")},
            "Watermark, white_background, background",
            "zkw, background",
        ),
        (
            {"replacements": {"scarlet hair": "red hair, long hair", "blurry": ""}},
            "Scarlet_Hair, blurry, hat",
            "zkw, red hair, long hair, hat",
        ),
    ],
)
def test_cleaning_one_way(clean: dict[str, Any], caption: str, expected: str) -> None:
    assert cleaned(caption) == f"zkw, {caption}"  # the caption is not clean by itself
    assert cleaned(caption, **clean) == expected


def test_cleaning_all_ways_goes_on_from_each_to_the_next() -> None:
    found = cleaned(
        "1girl, RED_HAIR, hair, crimson hair, bad_tag, hat",
        lowercase=True,
        underscores=True,
        duplicates=True,
        implied=True,
        unwanted=("bad tag",),
        replacements={"crimson hair": "red hair"},
    )
    assert found == "zkw, 1girl, red hair, hat"


def test_the_triggers_own_tag_is_never_touched() -> None:
    every = {"lowercase": True, "underscores": True, "duplicates": True, "implied": True}
    caption = "Mona_Taco, 1girl, big Mona_Taco"
    assert cleaned(caption, "Mona_Taco", unwanted=("mona taco",), **every) == caption
    options = CaptionOptions(prune=("*",))
    assert planned(caption, "Mona_Taco", options) == "Mona_Taco, big Mona_Taco"
    assert cleaned("Mona_Taco, 1girl", None, **every) == "mona taco, 1girl"


def test_the_trigger_absorbs_what_is_pruned() -> None:
    options = CaptionOptions(add_trigger=True, prune=("* hair", "Blue_Eyes", "hat"))
    assert planned("1girl, red_hair, hair, blue eyes, red hat", "zkw", options) == "zkw, 1girl, hair, red hat"
    assert planned("red hair, hat", "zkw", options) == "zkw"
    assert planned("red hair, hat", None, options) == ""


def test_a_decoupled_caption_has_the_pruned_tags_in_place_of_the_trigger() -> None:
    options = CaptionOptions(prune=("red hair",), clean=CleanOptions(unwanted=("hat",)))
    caption = "zkw, outfit1, 1girl, red hair, hat"
    assert planned(caption, "zkw", options) == "zkw, outfit1, 1girl"
    assert planned(caption, "zkw", options, decoupled=True) == "outfit1, 1girl, red hair"
    assert planned("1girl, red hair", "zkw", PLAIN, decoupled=True) == "1girl, red hair"


def test_pruned_tags_that_no_caption_has_are_found() -> None:
    clean = CleanOptions(unwanted=("watermrak",), replacements={"scarlet hair": "red hair"})
    options = CaptionOptions(prune=("red hair", "* eyes", "*_hat"), clean=clean)
    assert unmatched(["scarlet hair, Red_Hat", "watermark"], options) == ["* eyes", "watermrak"]
    clean = CleanOptions(replacements={"* hat": "hat", "grey_hair": "gray hair"})  # no pattern: nothing is replaced
    assert unmatched(["red hat, Grey Hair"], CaptionOptions(clean=clean)) == ["* hat"]
    assert unmatched([], PLAIN) == []


def test_tag_dropout_leaves_out_its_share_and_never_the_first() -> None:
    options = CaptionOptions(tag_dropout=0.25, keep_tokens=2)
    rng = random.Random(0)
    seen = [tags(vary("zkw, 1girl, a, b, c, d", options, rng), options) for _ in range(2000)]
    assert all(found[:2] == ["zkw", "1girl"] for found in seen)
    assert all(found == [tag for tag in ("zkw", "1girl", "a", "b", "c", "d") if tag in found] for found in seen)
    for tag in "abcd":
        assert abs(sum(tag in found for found in seen) - 1500) < 90  # 4.6 standard deviations
    together = CaptionOptions(tag_dropout=0.5, shuffle=True, dropout=0.2)
    assert "" in {vary("z, a, b, c", together, rng) for _ in range(100)}
    assert len({vary("z, a, b, c", together, rng) for _ in range(400)}) == 17  # "" and 16 = sum of 3! / k!


def test_the_trigger_is_replaced_as_a_word_of_its_own() -> None:
    assert replace_trigger("Zkw, zkwx, a zkw", "zkw", r"<\1>") == r"<\1>, zkwx, a <\1>"
    assert replace_trigger("a, b", None, "x") == "a, b"


def test_commas_of_other_scripts_separate_where_a_comma_does() -> None:
    written = "zkw\N{FULLWIDTH COMMA}1girl\N{IDEOGRAPHIC COMMA} hat, red dress"
    assert tags(written, PLAIN) == ["zkw", "1girl", "hat", "red dress"]
    assert tags(written, CaptionOptions(separator="; ")) == [written]


def test_a_trigger_is_spelt_as_most_captions_have_it() -> None:
    assert spelling("zkw", ["ZKW, hat", "a ZKW in the rain", "zkw", "zkwette"]) == "ZKW"
    assert spelling("mona taco", ["mona_taco, hat"]) == "mona_taco"
    assert spelling("zkw", ["zkwette"]) == "zkw"
