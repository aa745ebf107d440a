"""The word that calls the subject: the one that is given, or one that its captions really have.

Takes a recipe and found images, gives back a trigger per folder's class tokens. A folder's name alone makes
no trigger where there are captions, as in kohya's trainers; only `captions.add_trigger` puts it into them.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from lorasweep.core.findings import Finding
from lorasweep.core.hydra_text import write_text
from lorasweep.core.printable import some
from lorasweep.core.records import CaptionOptions, Recipe
from lorasweep.data import captions, mending
from lorasweep.data.folder import FoundImage

_MOST = 0.9  # the share of captions that begin with a tag which then is the trigger
_HALF = 0.5  # the share of captions that have a folder's word which then is the trigger
_RARE = 0.1  # the share of captions with a word near the trigger: a slip, not another subject
_LONGEST = 3  # words: more are a sentence
# What tags and folders call a whole class, or a picture: never one subject's own word.
_CLASS = re.compile(
    r"\d*\+?(girl|boy|other)s?|solo|(wo)?m[ae]n|males?|females?|persons?|people|characters?|child(ren)?|kids?|"
    r"styles?|concepts?|photos?|images?|pictures?|masterpiece|absurdres|highres|([a-z]+ )?quality|"
    r"score \d( up)?|rating .*|no humans"
)


def find_triggers(recipe: Recipe, found: Sequence[FoundImage]) -> dict[str, str | None]:
    """Find the trigger of every folder, by its class tokens."""
    drawn = recipe.dataset.drawn
    fixed = recipe.captions.trigger or (drawn.subject if drawn else None)
    groups: dict[str, list[FoundImage]] = {}
    for image in found:
        groups.setdefault(image.class_tokens, []).append(image)
    return {tokens: fixed or _trigger(tokens, group, recipe.captions) for tokens, group in groups.items()}


def notes(recipe: Recipe, found: Sequence[FoundImage], triggers: dict[str, str | None]) -> Iterator[str]:
    """Say which triggers are to be taken out in vain, misspelt, or lacking and put there by nothing."""
    clean, known = recipe.captions.clean, dict.fromkeys(filter(None, triggers.values()))
    replaced = [tag for tag, text in clean.replacements.items() if captions.plain(tag) != captions.plain(text)]
    named = {captions.plain(tag) for tag in (*recipe.captions.prune, *clean.unwanted, *replaced)}
    for trigger in known:
        if is_class(trigger):
            yield f"the trigger {trigger} calls a whole class: all of it will look like the subject; a word of its own?"
        if captions.plain(trigger) in named:
            yield f"the trigger {trigger} stays in the captions, though captions.prune or .clean names it"
    if len(every := by_images(found, triggers)) > 1:
        words = ", ".join(every)
        yield f"the folders have triggers of their own, {words}: recombined prompts call {every[0]} alone"
    policy = dataclasses.replace(recipe.captions, add_trigger=False)
    for trigger in known:
        called = {
            image: captions.planned(image.text, trigger, policy)
            for image in found
            if triggers[image.class_tokens] == trigger and image.caption
        }
        yield from _unsaid(recipe, called, trigger, others=[word for word in known if word != trigger])


def _unsaid(recipe: Recipe, called: dict[FoundImage, str], trigger: str, others: Sequence[str]) -> Iterator[Finding]:
    """Say which captions have a word in place of the trigger that is nearly it, and which have neither."""
    root = Path(recipe.dataset.path or "")
    lacking = {image for image, text in called.items() if not captions.has_trigger(text, trigger)}
    spelt = {captions.plain(word) for word in others}
    slips: dict[str, list[FoundImage]] = {}
    for image, text in called.items():
        for tag in dict.fromkeys(captions.tags(text, recipe.captions)):
            if _is_near(tag, trigger) and captions.plain(tag) not in spelt:
                slips.setdefault(tag, []).append(image)
    for tag, images in slips.items():
        places = [image.short for image in images]
        if len(lacking) == len(called) and len(places) >= _MOST * len(called):
            sentence = f"the trigger {trigger} is in no caption, and {tag} in {len(places)} of {len(called)}"
            command = mending.look_again(root, write_text("captions.trigger", tag))
        elif len(places) <= max(1, _RARE * len(called)):
            sentence = f"{tag} in {some(places)} is nearly the trigger {trigger}"
            command = mending.rewrite(root, write_text("captions.clean.replacements", {tag: trigger}))
        else:
            continue
        lacking.difference_update(images)
        yield Finding(f"{sentence}: a slip of the keyboard?", level="must", places=places, command=command)
    if lacking and not captions.adds_trigger(recipe.captions):
        yield Finding(
            f"the trigger {trigger} is not in {len(lacking)} of {len(called)} captions: "
            "captions.add_trigger=true would put it in front of them",
            level="must",
            places=[image.short for image in called if image in lacking],
            command=mending.rewrite(root, write_text("captions.trigger", trigger), "captions.add_trigger=true"),
        )


def _is_near(tag: str, trigger: str) -> bool:
    """Tell whether one letter more, less, another or a swap of two makes one word the other."""
    one, other = sorted((captions.plain(tag), captions.plain(trigger)), key=len)
    if one == other or len(one) < 3 or len(other) - len(one) > 1 or is_class(tag):
        return False
    first = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
    if len(one) < len(other):
        return one[first:] == other[first + 1 :]
    swapped = one[first + 1 : first + 2] + one[first : first + 1] + one[first + 2 :]
    return one[first + 1 :] == other[first + 1 :] or swapped == other[first:]


def by_images(found: Sequence[FoundImage], triggers: dict[str, str | None]) -> tuple[str, ...]:
    """List all triggers, that of most images first; none twice in another spelling."""
    counts = Counter(trigger for image in found if (trigger := triggers[image.class_tokens]))
    distinct: dict[str, str] = {}
    for trigger, _ in counts.most_common():
        distinct.setdefault(captions.plain(trigger), trigger)
    return tuple(distinct.values())


def _trigger(tokens: str, group: Sequence[FoundImage], options: CaptionOptions) -> str | None:
    texts = [image.caption for image in group if image.caption]
    if not texts:
        return first_word(tokens)
    tagged = [captions.tags(text, options) for text in texts]
    every = {captions.plain(tag) for tags in tagged for tag in tags}
    half = _HALF * len(texts)
    inside = [word for word in _beginnings(tokens) if sum(captions.has_trigger(text, word) for text in texts) >= half]
    own = next((word for word in inside if captions.plain(word) in every), None)
    leading = _leading(tagged) if own is None else None
    if own is None and leading is not None:
        own = next((word for word in inside if captions.has_trigger(leading, word)), leading)
    own = own or next(iter(inside), None)
    if own is None:
        return first_word(tokens) if options.add_trigger else None
    return captions.spelling(own, texts)


def first_word(tokens: str) -> str | None:
    """Tell what a folder's words begin with, unless it is a class word."""
    return next((word for word in tokens.split()[:1] if not is_class(word)), None)


def _beginnings(tokens: str) -> Iterator[str]:
    """Return what a folder's words begin with, the longest first, class words at its end left out."""
    words = re.split("[ _]+", tokens.strip(" _"))
    while words and is_class(words[-1]):
        words.pop()
    for count in range(len(words), 0, -1):
        beginning = " ".join(words[:count])
        if not is_class(beginning):
            yield beginning


def is_class(word: str) -> bool:
    """Tell whether a word is that of a whole class, or of a picture."""
    return not word or _CLASS.fullmatch(captions.plain(word)) is not None


def _leading(tagged: Sequence[Sequence[str]]) -> str | None:
    """Return the tag that nearly all captions begin with, when it can be a name."""
    firsts = Counter(tags[0] for tags in tagged if tags)
    tag, count = firsts.most_common(1)[0] if firsts else ("", 0)
    fits = count >= _MOST * firsts.total() and len(tag.split()) <= _LONGEST and not is_class(tag)
    return tag if fits else None
