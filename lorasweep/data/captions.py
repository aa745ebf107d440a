"""Captions: tags, the trigger, cleaning and pruning, and the variations that training sees. Text only.

    as written -> `planned`: cleaned, pruned, the trigger in front if asked for -> `vary`: one exposure

Tags are compared without regard to case and underscores, and may be asked for by a pattern such as `* hair`.
"""

from __future__ import annotations

import functools
import glob
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

from lorasweep.core.records import CaptionOptions, CleanOptions

_LETTERS = re.compile(r"[^\W_]{2}")  # faces, such as ^_^ and (o)_(o), have no two in a row
_COMMAS = re.compile("[,\N{FULLWIDTH COMMA}\N{IDEOGRAPHIC COMMA}\N{HALFWIDTH IDEOGRAPHIC COMMA}\N{ARABIC COMMA}]")


def tags(caption: str, options: CaptionOptions) -> list[str]:
    """Split a caption at its separator (surrounding blanks ignored), leaving out empty tags.

    Where that is a comma, those of other scripts separate too.
    """
    separator = options.separator.strip() or options.separator
    parts = caption.split(separator) if separator != "," or caption.isascii() else _COMMAS.split(caption)
    return [tag for part in parts if (tag := part.strip())]


@functools.lru_cache(maxsize=16384)
def plain(tag: str) -> str:
    """Tell what is compared of a tag: lower case, single spaces for underscores."""
    return " ".join(tag.replace("_", " ").split()).casefold()


def spaced(tag: str) -> str:
    """Write spaces for underscores, but not in a face such as `^_^`."""
    return " ".join(tag.replace("_", " ").split()) if _LETTERS.search(tag) else tag


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


def are_plain(prompts: Iterable[str], texts: Iterable[str], trigger: str | None, options: CaptionOptions) -> bool:
    """Tell whether some prompt is a text with the trigger left out: it calls nobody, and leaves open who comes."""
    return not set(prompts).isdisjoint(without_trigger(text, trigger, options) for text in texts)


def has_trigger(caption: str, trigger: str) -> bool:
    """Tell whether the trigger is in the caption as a word of its own."""
    return bool(_word(trigger).search(caption))


def spelling(trigger: str, texts: Iterable[str]) -> str:
    """Return the trigger as most texts that have it write it; as it is when none has."""
    found = Counter(match[0] for text in texts for match in _word(trigger).finditer(text))
    return found.most_common(1)[0][0] if found else trigger


def replace_trigger(caption: str, trigger: str | None, other: str) -> str:
    """Write another word wherever the caption has the trigger as a word of its own."""
    return _word(trigger).sub(lambda _: other, caption) if trigger else caption


def adds_trigger(options: CaptionOptions) -> bool:
    """Tell whether the trigger is put in front of captions that lack it: never because a folder has its name."""
    return options.trigger is not None if options.add_trigger is None else options.add_trigger


def planned(caption: str, trigger: str | None, options: CaptionOptions, *, decoupled: bool = False) -> str:
    """Turn a caption as written into the one to train on: cleaned, pruned, the trigger in front if asked for.

    Where neither cleaning nor pruning is asked for, nothing but the trigger is ever added. A tag that has the trigger
    is left as it is, but may be spelt anew. `clean` acts in the order replace, take out, deduplicate; then `prune`.
    Decoupled, what would be pruned stays, and the trigger goes: the image trains the rest of its caption without
    training the trigger.
    """
    if options.clean != CleanOptions() or options.prune:
        found = _clean(tags(caption, options), options.clean, lambda tag: _is_trigger(tag, trigger))
        absorbed = () if decoupled else options.prune
        kept = [tag for tag in found if _is_trigger(tag, trigger) or not matches(tag, absorbed)]
        caption = options.separator.join(kept)
    if decoupled:
        return without_trigger(caption, trigger, options)
    return with_trigger(caption, trigger, options) if adds_trigger(options) else caption


def unmatched(written: Iterable[str], options: CaptionOptions) -> list[str]:
    """Find what `prune` and `clean` name and no caption has: misspelt, most likely."""
    named = {name: [name] for name in (*options.prune, *options.clean.unwanted)}
    named |= {name: [glob.escape(name)] for name in options.clean.replacements}  # which are no patterns
    there = {tag for caption in written for tag in tags(caption, options)} if named else set()
    # What a replacement puts there may be pruned.
    there |= {tag for text in options.clean.replacements.values() for tag in tags(text, options)}
    return [name for name, patterns in named.items() if not any(matches(tag, patterns) for tag in there)]


def rearranges(options: CaptionOptions) -> bool:
    """Tell whether exposures see other texts than the planned caption or the empty one."""
    return options.shuffle or options.tag_dropout > 0


def vary(caption: str, options: CaptionOptions, rng: random.Random) -> str:
    """Vary a planned caption for one exposure: empty, in another order, or with tags missing.

    `dropout` is the share of empty captions; all but the first `keep_tokens` tags move with `shuffle`, and are missing
    in a share `tag_dropout` of exposures. `rng` is drawn from once for dropout, then for the shuffle, then once per tag
    for tag dropout; not at all for what is not asked for.
    """
    if options.dropout > 0 and rng.random() < options.dropout:
        return ""
    if not rearranges(options):
        return caption
    found = tags(caption, options)
    kept, moving = found[: options.keep_tokens], found[options.keep_tokens :]
    if options.shuffle:
        rng.shuffle(moving)
    if options.tag_dropout > 0:
        moving = [tag for tag in moving if rng.random() >= options.tag_dropout]
    return options.separator.join([*kept, *moving])


def _clean(found: Sequence[str], options: CleanOptions, is_trigger: Callable[[str], bool]) -> list[str]:
    replacements = {plain(tag): text for tag, text in options.replacements.items()}
    cleaned = []
    for tag in found:
        if is_trigger(tag):
            spelt = replacements.get(plain(tag), tag)
            cleaned.append(spelt if is_trigger(spelt) else tag)
            continue
        tag = replacements.get(plain(tag), tag)
        if options.underscores:
            tag = spaced(tag)
        if options.lowercase:
            tag = tag.lower()
        if tag and not matches(tag, options.unwanted):
            cleaned.append(tag)
    if options.duplicates:
        first: dict[str, str] = {}
        for tag in cleaned:
            first.setdefault(plain(tag), tag)
        cleaned = list(first.values())
    if options.implied:
        names = [plain(tag) for tag in cleaned]
        cleaned = [
            tag
            for tag, name in zip(cleaned, names, strict=True)
            if is_trigger(tag) or not any(other.endswith(f" {name}") for other in names)
        ]
    return cleaned


def matches(tag: str, patterns: Sequence[str]) -> bool:
    """Tell whether a tag is one of some tags or patterns (`* hair`)."""
    name = plain(tag)
    return any(name == (pattern := plain(each)) or fnmatchcase(name, pattern) for each in patterns)


def _is_trigger(tag: str, trigger: str | None) -> bool:
    return bool(trigger) and has_trigger(tag, trigger or "")


@functools.lru_cache(maxsize=256)
def _word(trigger: str) -> re.Pattern[str]:
    """Return the trigger as a word of its own; `hatsune_miku` and `hatsune miku` are the same word."""
    parts = "[ _]+".join(map(re.escape, re.split("[ _]+", trigger)))
    return re.compile(rf"(?<!\w){parts}(?!\w)", re.IGNORECASE)
