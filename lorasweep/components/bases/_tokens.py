"""How many tokens a caption has, told from the tokenizer's files alone. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lorasweep.core.files import read_object

_MARKS = 2  # the start and the end of a text are tokens too
_DEFAULT_LENGTH = 77  # CLIP's
# CLIP's words: its marks, English endings, letters, single digits, runs of anything else.
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True)
class TextWindow:
    """How a text is read."""

    folder: Path  # of the tokenizer
    length: int  # tokens of one chunk, its two marks not counted; 75 of CLIP
    cut: bool = False  # whether a longer text is cut, rather than read in several chunks

    def tokens(self, text: str) -> int:
        """Count the tokens of a text."""
        starts, reaches_over_blanks = _token_starts(self.folder)
        return sum(len(starts(word)) for word in ([text] if reaches_over_blanks else text.split(" ")))

    def fits(self, text: str) -> bool:
        """Tell whether one chunk holds a text."""
        if text.isascii() and sum(map(len, text.split())) <= self.length:
            return True  # a token has at least one letter: the tokenizer is not even loaded
        return self.tokens(text) <= self.length


def text_window(folder: Path, *, cut: bool = False, tokens: tuple[int, int] | None = None) -> TextWindow:
    """Return the window of a tokenizer's folder: `tokenizer.json`, or CLIP's `vocab.json` and `merges.txt`.

    Where the files do not know it, `tokens` are its length, and how many of these go around a text.
    """
    if tokens:
        return TextWindow(folder, tokens[0] - tokens[1], cut)
    length = read_object(folder / "tokenizer_config.json").get("model_max_length", _DEFAULT_LENGTH)
    if not isinstance(length, int) or not _MARKS < length <= 10_000:
        length = _DEFAULT_LENGTH  # transformers writes 1e30 for "not known"
    return TextWindow(folder, length - _MARKS, cut)


@lru_cache(maxsize=4)
def _token_starts(folder: Path) -> tuple[Callable[[str], list[int]], bool]:
    """Return a tokenizer as a function to where tokens begin, remembered, and whether a token may hold a blank.

    CLIP's do not: captions are measured word by word, and nearly all of their words are in other captions too.
    """
    tokenizer = _tokenizer(folder)

    @lru_cache(maxsize=100_000)
    def starts(text: str) -> list[int]:
        return [start for start, _ in tokenizer.encode(text, add_special_tokens=False).offsets]

    splitter = tokenizer.pre_tokenizer
    return starts, splitter is None or [part for part, _ in splitter.pre_tokenize_str("a b")] != ["a", "b"]


def _tokenizer(folder: Path) -> Any:
    """Load a tokenizer as transformers' CLIPTokenizer would.

    Source: transformers 5, models/clip/tokenization_clip.py; `tests/unit/components/bases/test_tokens.py` compares.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    if (folder / "tokenizer.json").is_file():
        whole = Tokenizer.from_file(str(folder / "tokenizer.json"))
        whole.no_truncation()
        whole.no_padding()
        return whole
    vocab, merges = str(folder / "vocab.json"), str(folder / "merges.txt")
    model = models.BPE.from_file(vocab, merges, end_of_word_suffix="</w>", unk_token="<|endoftext|>")
    tokenizer = Tokenizer(model)
    tokenizer.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return tokenizer
