"""The trigger, shuffling and dropout."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from lorasweep.data.captions import tags, vary, with_trigger, without_trigger
from lorasweep.records import CaptionOptions

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
