"""The frozen base that another trainer's config names; nothing is downloaded, so a name on a hub is not a path."""

from __future__ import annotations

import os.path
import re
from pathlib import Path

from lorasweep.components import bases
from lorasweep.config import places
from lorasweep.config.bind import TO_BE_GIVEN
from lorasweep.config.importing.draft import Draft

NOT_TRAINED_HERE = "such a base cannot be trained here"
_PICKLES = (".ckpt", ".pt", ".pth", ".bin")


def put_base(draft: Draft, *, kind: str, path: str) -> str:
    """Decide which base, by the trainer's word for its kind, and where it is.

    Args:
        draft: its table says which word is which base; that may be one which is not here yet.
        kind: the option that names the kind.
        path: the option that names the files.

    Returns:
        The base's name.
    """
    asked = draft.take(kind)
    name = draft.table.translated[kind].values.get(str(asked).strip().lower(), "")
    if name not in (known := places.choices("base")):
        trained = ", ".join(base for base in known if "dollhouse" not in base and base != "auto")
        what = f"is of {asked!r}{name and f', base={name}'}, must be of a base that is here: {trained}"
        draft.problem(kind, what, NOT_TRAINED_HERE)
        name = "stable_diffusion"
    draft.put("base", name, kind)
    put_path(draft, path)
    return name


def put_path(draft: Draft, option: str) -> None:
    """Decide `base.path`, which is left to be given where the option cannot be it."""
    path, reason = draft.take(option), ""
    if not path:
        reason = "no base is named: give base.path=some/folder"
    elif path.lower().endswith(_PICKLES):
        reason = "pickles can run code when opened: save it as .safetensors, and give base.path"
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", path) and not os.path.exists(path) and not path.endswith(".safetensors"):
        reason = "nothing is downloaded: if that is a name on a hub, give base.path=the folder on your disk"
    if reason:
        draft.leave(option, reason)
    draft.put("base.path", TO_BE_GIVEN if reason else path, option)


def put_adapter(draft: Draft, option: str) -> None:
    """Decide `base.adapter`, which is left to be given where the file is not on this disk."""
    if path := draft.take(option):
        is_here = Path(path).expanduser().is_file()
        if not is_here:
            draft.leave(option, "nothing is downloaded: give base.adapter=the file on your disk")
        draft.put("base.adapter", path if is_here else TO_BE_GIVEN, option)


def detect(path: str | None) -> str | None:
    """Name the base by its files; None when they are not here, or are none of ours."""
    return bases.detect(Path(path).expanduser()) if path else None
