"""The tokenizer: CLIP's byte-level BPE with merges that make every word of the world one token.

Any other string still tokenises, in pieces down to single bytes, as a trigger word does on a real base.
Knows nothing about models.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from lorasweep.dollhouse.world.attributes import ATTRIBUTES
from tools.pretrain_dollhouse.architecture import TEXT_TOKENS

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

BOS: Final[str] = "<|startoftext|>"
EOS: Final[str] = "<|endoftext|>"
END: Final[str] = "</w>"
_EXTRA_WORDS: Final[tuple[str, ...]] = ("girl", "hair", "eyes", "outfit", "a", "of", "photo", "with", "the")


def world_words() -> list[str]:
    """Return every word that tags are made of, and a few that captions often add, sorted."""
    text = " ".join(value for values in ATTRIBUTES.values() for value in values)
    return sorted({*re.findall(r"[a-z]+", text), *_EXTRA_WORDS} - {"none"})


def byte_letters() -> list[str]:
    """Return GPT-2's printable stand-in for each byte, in byte order.

    Source: openai/gpt-2, `encoder.py`, `bytes_to_unicode`.
    """
    printable = {
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    }
    letters, spare = [], 256
    for byte in range(256):
        if byte in printable:
            letters.append(chr(byte))
        else:
            letters.append(chr(spare))
            spare += 1
    return letters


def _split(word: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    """Apply merges to a word as BPE does: always the earliest-ranked pair present."""
    pieces = [*word[:-1], word[-1] + END]
    while len(pieces) > 1:
        pairs = list(zip(pieces, pieces[1:], strict=False))
        best = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        at = pairs.index(best)
        pieces[at : at + 2] = ["".join(best)]
    return pieces


def build_merges(words: list[str]) -> list[tuple[str, str]]:
    """Return merges, in rank order, under which every word becomes one token.

    Each word adds what the merges so far leave apart. A new merge ranks last, so it can only apply where all
    earlier ones are exhausted, and words that were whole stay whole.
    """
    ranks: dict[tuple[str, str], int] = {}
    for word in words:
        pieces = _split(word, ranks)
        while len(pieces) > 1:
            ranks[(pieces[0], pieces[1])] = len(ranks)
            pieces = _split(word, ranks)
    return list(ranks)


def build_tokenizer() -> CLIPTokenizer:
    """Return the tokenizer: 256 bytes, 256 word-final bytes, merges, two special tokens; 77 tokens long."""
    from transformers import CLIPTokenizer

    letters = byte_letters()
    merges = build_merges(world_words())
    tokens = [*letters, *(letter + END for letter in letters), *("".join(pair) for pair in merges), BOS, EOS]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,  # type: ignore[arg-type]  # `tokenizers` takes pairs
        bos_token=BOS,
        eos_token=EOS,
        unk_token=EOS,
        pad_token=EOS,
        model_max_length=TEXT_TOKENS,
    )
