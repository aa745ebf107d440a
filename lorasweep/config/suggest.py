"""Guess what a misspelled word was meant to be."""

from __future__ import annotations

import difflib
import functools
import os.path
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lorasweep.config import places
from lorasweep.core.printable import command

# Keys of earlier versions, in recorded recipes and in what people type: they mean what they meant.
MOVED = {"train.min_snr_gamma": "noise.min_snr_gamma", "train.noise_offset": "noise.offset"}
# What people call bases that are here under another name, without signs.
_CALLED = dict.fromkeys(("sd", "sd1", "sd14", "sd15", "sd2", "sd21"), "stable_diffusion")
_CALLED |= dict.fromkeys(("pony", "illustrious", "noobai"), "sdxl")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Ask ``did you mean `dim`?``; an empty string when nothing known is near."""
    plain = {name.lower(): name for name in known}  # LoRA, AdamW8bit
    called = [name for name in (_CALLED.get(re.sub(r"[\W_]", "", word.lower())),) if name in plain]
    near = called or difflib.get_close_matches(word.lower(), list(plain), n=1, cutoff=0.6)
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
    return folder_advice(word) or file_advice(word)


def folder_advice(word: str) -> str:
    """Advise ``for its images: dataset.path=my/images`` when the word is a folder; else an empty string."""
    return f"for its images: {command(f'dataset.path={word}')}" if os.path.isdir(os.path.expanduser(word)) else ""


def file_advice(word: str, content: Any = None) -> str:
    """Say what takes a file that is no recipe: another trainer's config, by its name or keys; a LoRA. Else empty."""
    is_ai_toolkits = isinstance(content, Mapping) and {"job", "config"} <= content.keys()
    if is_ai_toolkits or word.endswith((".toml", ".json")):
        return f"another trainer's config becomes a recipe: {command('lorasweep', 'import', word, '-o', 'my.yaml')}"
    return f"a LoRA is judged by: {command('lorasweep', 'judge', word)}" if word.endswith(".safetensors") else ""


def of_other_trainers(option: str) -> str:
    """Say ``kohya's name of `adapter.dim` ``, by what `lorasweep import` knows; empty for other words."""
    label, keys = _of_other_trainers().get(option, ("", ()))
    return f"{label}'s name of {', '.join(f'`{key}`' for key in keys)}" if keys else ""


@functools.cache
def _of_other_trainers() -> dict[str, tuple[str, Sequence[str]]]:
    here = Path(__file__).parent
    found: dict[str, tuple[str, Sequence[str]]] = {}
    for file in (*sorted((here / "trainers").glob("*.yaml")), here / "kohya" / "options.yaml"):  # the last one counts
        table = yaml.safe_load(file.read_text(encoding="utf-8"))
        found |= {option: (table["label"], row.get("keys", ())) for option, row in table["translated"].items()}
    return found
