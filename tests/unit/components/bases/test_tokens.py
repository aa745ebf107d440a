"""What a text encoder reads is told from the tokenizer's files as transformers reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

import lorasweep
from lorasweep.components.bases._tokens import text_window

BASES = Path(lorasweep.__file__).parent
TEXTS = [
    "zkw, 1girl, looking at viewer, masterpiece",
    "A PHOTO of  zkw's cat_(animal), 12345, 100%!?",
    "ひめ，帽子、é e\u0301 İ 🙂 <|endoftext|>",
    ", ".join(f"a very long tag number {number}" for number in range(40)),
    "  two  blanks,\tand\nlines (of_it:1.2) <|endoftext|>" * 20,
    "",
]


@pytest.mark.parametrize("folder", ["components/bases/sd1/tokenizer", "dollhouse/weights/tokenizer"])
@pytest.mark.parametrize("text", TEXTS)
def test_tokens_are_those_of_transformers(folder: str, text: str) -> None:
    from transformers import CLIPTokenizer

    theirs = CLIPTokenizer.from_pretrained(BASES / folder, local_files_only=True)
    ours = text_window(BASES / folder)

    assert ours.length == 75
    assert ours.tokens(text) == len(theirs(text, add_special_tokens=False).input_ids)
    assert ours.fits(text) is (ours.tokens(text) <= 75)


def test_a_short_text_needs_no_tokenizer(tmp_path: Path) -> None:
    window = text_window(tmp_path)

    assert window.fits("zkw, 1girl") and window.length == 75
