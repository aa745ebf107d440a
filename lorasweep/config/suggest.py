"""Guess what a misspelled word was meant to be."""

from __future__ import annotations

import difflib
import os.path
from collections.abc import Iterable

from lorasweep.config import places
from lorasweep.core.printable import command

# Keys of earlier versions, in recorded recipes and in what people type: they mean what they meant.
MOVED = {"train.min_snr_gamma": "noise.min_snr_gamma", "train.noise_offset": "noise.offset"}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Ask ``did you mean `dim`?``; an empty string when nothing known is near."""
    plain = {name.lower(): name for name in known}  # LoRA, AdamW8bit
    near = difflib.get_close_matches(word.lower(), list(plain), n=1, cutoff=0.6)
    return f"did you mean `{plain[near[0]]}`?" if near else ""


def unknown(what: str, word: str, known: Iterable[str]) -> str:
    """Say ``no such arm; did you mean `prodigy`?``."""
    return f"{what}; {did_you_mean(word, known)}".removesuffix("; ")


def word_advice(word: str) -> str:
    """Tell what to do with a word that stands where a `KEY=VALUE` is wanted; empty when nothing is known."""
    if word.endswith((".yaml", ".yml")):
        return "train, plan and sweep take a file, right after the command"
    if word.isidentifier() and (places.sweeps_dir() / f"{word}.yaml").is_file():
        return f"it is a sweep: lorasweep sweep {word}"
    return folder_advice(word)


def folder_advice(word: str) -> str:
    """Advise ``for its images: dataset.path=my/images`` when the word is a folder; else an empty string."""
    return f"for its images: {command(f'dataset.path={word}')}" if os.path.isdir(os.path.expanduser(word)) else ""
