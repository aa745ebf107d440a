"""The pictures that a trainer draws on the way, as far as ours are drawn so: prompts, size, steps, guidance, seeds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lorasweep.config.importing.draft import Draft, as_kind
from lorasweep.core.printable import has_control_characters
from lorasweep.core.records import ANY_TIER

PROMPT, SEED = "prompt", "seed"  # of a picture, besides recipe keys
SHARED: dict[str, type] = {  # what all pictures of a recipe share
    "base.negative_prompt": str,
    "sample.width": int,
    "sample.height": int,
    "sample.steps": int,
    "sample.guidance": float,
}
_WEIGHTED = re.compile(r"\([^()]*:\d*\.?\d+\)")


def put_pictures(draft: Draft, option: str, pictures: Sequence[Mapping[str, Any]], *, unsaid: str = "") -> None:
    """Decide the prompts, and what one of the pictures says for all; nothing without a prompt.

    Pictures have `PROMPT`, `SEED` and the keys of `SHARED`, as far as they say them; `unsaid` is what the trainer takes
    otherwise.
    """
    pictures = [picture for picture in pictures if picture.get(PROMPT)]
    prompts = dict.fromkeys(_values(draft, option, PROMPT, str, pictures))
    if not prompts:
        draft.ignore(option, "has no prompt that could be read: prompts are worked out from the captions")
        return
    draft.put(f"dataset.prompts.{ANY_TIER}", [*prompts], option, given=True)
    for key, kind in SHARED.items():
        said = [*_values(draft, option, key, kind, pictures)]
        values = [*dict.fromkeys(said)]
        if values:
            draft.put(key, values[0], option, given=True)
        if len(values) > 1 or 0 < len(said) < len(pictures):
            draft.differ(option, f"{key} is one for all pictures: the first that is said is taken", values)
    if seeds := [*dict.fromkeys(_values(draft, option, SEED, int, pictures))]:
        draft.put("sample.rung_seeds", seeds[:1], option, given=True)
        draft.put("sample.seeds", [*seeds, seeds[0] + 1][:2], option, given=True)
        if len(seeds) > 2:
            draft.differ(option, "every prompt is drawn from all sample.seeds: the first two are taken", seeds)
    drawn = "pictures are drawn at sample.weight, beside those that lorasweep draws to judge, at every rung"
    draft.differ(option, f"{drawn}; what is not said here is as in sample{unsaid and f', there {unsaid}'}", [*prompts])
    if "base.negative_prompt" in draft.lines:
        draft.differ(option, "a strong negative prompt hides burn; without one, base.negative_prompt=''")
    if any(map(_WEIGHTED.search, prompts)):
        draft.differ(option, "(tag:1.2) is read as text, not as a weight", [*filter(_WEIGHTED.search, prompts)])


def _values(draft: Draft, option: str, key: str, kind: type, pictures: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
    for picture in pictures:
        given = picture.get(key)
        if given is None or given == "":
            continue
        try:
            value = as_kind(given, kind)
        except (ValueError, TypeError, OverflowError):
            value = None
        if value is None or (kind is str and ("${" in value or has_control_characters(value))):
            draft.leave(option, f"{key.rpartition('.')[2]} of a picture cannot be read", given)
        else:
            yield value.strip() if kind is str else value
