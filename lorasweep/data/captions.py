"""Captions: tags, the trigger, and the variations that training sees. Text only."""

from __future__ import annotations

import random
import re

from lorasweep.records import CaptionOptions


def tags(caption: str, options: CaptionOptions) -> list[str]:
    """Split a caption at its separator (surrounding blanks ignored), leaving out empty tags."""
    return [tag for tag in (part.strip() for part in caption.split(_separator(options))) if tag]


def with_trigger(caption: str, trigger: str | None, options: CaptionOptions) -> str:
    """Put the trigger in front, unless the caption has it already as a word of its own (in any case)."""
    if not trigger or has_trigger(caption, trigger):
        return caption
    return f"{trigger}{options.separator}{caption}" if caption else trigger


def without_trigger(caption: str, trigger: str | None, options: CaptionOptions) -> str:
    """Take the trigger out; a tag of nothing else goes with its separator."""
    if not trigger:
        return caption
    kept = [" ".join(_word(trigger).sub(" ", tag).split()) for tag in tags(caption, options)]
    return options.separator.join(tag for tag in kept if tag)


def has_trigger(caption: str, trigger: str) -> bool:
    """Whether the trigger is in the caption as a word of its own."""
    return bool(_word(trigger).search(caption))


def vary(caption: str, options: CaptionOptions, rng: random.Random) -> str:
    """Vary a caption for one exposure: sometimes empty, sometimes with its tags in another order.

    Args:
        caption: as planned, the trigger in it.
        options: `dropout` is the share of empty captions; with `shuffle`, all but `keep_tokens` tags move.
        rng: drawn from once for dropout, then for the shuffle; not at all when neither is asked for.
    """
    if options.dropout > 0 and rng.random() < options.dropout:
        return ""
    if not options.shuffle:
        return caption
    found = tags(caption, options)
    kept, moving = found[: options.keep_tokens], found[options.keep_tokens :]
    rng.shuffle(moving)
    return options.separator.join([*kept, *moving])


def _separator(options: CaptionOptions) -> str:
    return options.separator.strip() or options.separator


def _word(trigger: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(trigger)}(?!\w)", re.IGNORECASE)
