"""Say what is wrong with the folder of a model, by its names and first bytes: nothing in it is run or unpickled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.files import matching, read_object

# What else a folder may hold, and what that says of it; the first that is there is told.
_OTHERS = (
    ("tag_mapping.json", "a cl_tagger", "a WD tagger is read by tagger=wd, a captioner by tagger=captioner"),
    ("selected_tags.csv", "a WD tagger", "override: tagger=wd; of several forms, the one with model.onnx"),
    ("saved_model.pb", "a Keras model", "take model.onnx from the same place"),
    ("project.json", "a DeepDanbooru model", "take a WD tagger"),
)
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_PICKLE_STARTS = (b"PK", b"\x80")  # torch's archive of pickles, and a bare pickle
_POINTER = b"version https://git-lfs"


def problems(path: str, needed: Sequence[str]) -> list[tuple[str, str, str]]:
    """Find what keeps a folder, which must hold some names or patterns, from being loaded: knob, message, hint."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return [("path", f"must be a folder, got {path!r}", f"looked at {folder.absolute()}; nothing is downloaded")]
    found = {name: matching(folder, name) for name in needed}
    if missing := [name for name, files in found.items() if not files]:
        return [("path", f"must hold {' and '.join(missing)}, {path!r} does not", _instead(folder))]
    return [
        ("path", f"{file.name} {why}", hint)
        for files in found.values()
        for file in files
        for why, hint in _not_itself(file)
    ]


def refused(message: str, hint: str) -> ConfigError:
    """Return the error for a folder that turns out wrong when it is loaded."""
    return ConfigError(Problem("tagger.path", message, hint), subject="the tagger")


def _instead(folder: Path) -> str:
    for name, what, hint in _OTHERS:
        if (folder / name).exists():
            return f"it looks like {what}: {hint}"
    if family := read_object(folder / "config.json").get("model_type"):
        return f"it looks like a {family} in transformers' format: tagger=captioner reads those that caption"
    if pickled := next((file.name for pattern in _PICKLED for file in folder.glob(pattern)), None):
        return f"{pickled} is a pickle, which would run its code, and is never loaded"
    return "is it the whole folder? nothing is downloaded"


def _not_itself(file: Path) -> list[tuple[str, str]]:
    with open(file, "rb") as stream:
        start = stream.read(len(_POINTER))
    if start == _POINTER:
        return [("is only a pointer of Git LFS", "download the file itself: git lfs pull")]
    if start.startswith(_PICKLE_STARTS):
        return [("is a pickle, which would run its code, and is never loaded", "take the file from its source anew")]
    return []
