"""What the captions of a dataset will teach: where triggers are, fused and absorbed tags, spellings, copies.

Takes a recipe and planned images, gives back findings. The captions are those that are trained on, so that a
caption policy which mends a fault ends its finding.
"""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from lorasweep.core.findings import Finding
from lorasweep.core.hydra_text import write_text
from lorasweep.core.printable import some
from lorasweep.core.records import PlannedImage, Recipe
from lorasweep.data import captions, mending
from lorasweep.plan.image_findings import aside
from lorasweep.plan.trigger import is_class

FUSED = 0.8  # share of a concept's captions from which a tag cannot be told from the trigger
FEWEST = 5  # captions of a concept, to speak of shares
_MOSTLY = 0.5  # share of captions with a class word, from which the others lack it
# What belongs to a subject, in booru tags: meant to be absorbed by its trigger.
_OWN = (
    *("* hair", "* cut", "*bangs", "*ponytail", "twintails", "*braid*", "*bun", "*drills", "sidelocks", "ahoge"),
    *("* eyes", "* pupils", "heterochromia", "* skin", "freckles", "mole *", "fang*", "beard", "mustache"),
    *("* breasts", "*horns", "* ears", "tail", "* tail", "*wings"),
)
_WEIGHT = re.compile(r"\(([^()]*):\d*\.?\d+\)")  # of prompts, as (hat:1.2)
_CHOICE = re.compile(r"\{[^{}]*\|[^{}]*\}|<(lora|lyco|hypernet):")
_PLACE = re.compile(r"\[(trigger|name)\]|\{(trigger|name)\}", re.IGNORECASE)  # where other trainers put the trigger
_WATERMARKS = {"watermark", "signature", "artist name", "web address", "logo", "copyright name", "twitter username"}
_SYNONYMS = {
    "gray hair": "grey hair",
    "blond hair": "blonde hair",
    "twin tails": "twintails",
    "pony tail": "ponytail",
    "tshirt": "t-shirt",
    "tee shirt": "t-shirt",
    "gray background": "grey background",
    "spectacles": "glasses",
}

Tagged = list[tuple[PlannedImage, list[str]]]


def find(recipe: Recipe, images: Sequence[PlannedImage], triggers: Sequence[str]) -> Iterator[Finding]:
    """Find what captions teach that their owner may not want."""
    tagged = [(image, captions.tags(image.caption, recipe.captions)) for image in images]
    root = Path(recipe.dataset.path or "")
    for trigger in triggers:
        yield from _position(root, tagged, trigger, recipe.captions.keep_tokens)
    yield from _prompt_syntax(root, tagged, triggers)
    yield from _class_words(root, tagged)
    for concept in dict.fromkeys(image.concept for image in images):
        yield from _fused(recipe, [row for row in tagged if row[0].concept == concept], triggers)
    yield from _spellings(root, tagged)
    yield from _side_by_side(root, tagged)
    yield from _once(root, tagged, triggers)
    yield from _watermarks(recipe, tagged)


def _alone(tags: Iterable[str]) -> list[str]:
    """Return patterns that match these tags and no others: `?` and `*_*` are faces, and patterns."""
    return [glob.escape(tag) for tag in tags]


def _where(tagged: Tagged, is_meant: Callable[[list[str]], bool]) -> list[str]:
    return [image.short for image, tags in tagged if is_meant(tags)]


def _rewritten(root: Path, said: str, places: list[str], *words: str) -> Finding:
    """Find captions that these words write anew; without any, nothing mends them."""
    command = mending.rewrite(root, *words) if words else ""
    return Finding(said, level="should", places=places, command=command)


def _position(root: Path, tagged: Tagged, trigger: str, kept: int) -> Iterator[Finding]:
    def is_behind(tags: list[str]) -> bool:
        calls = [captions.has_trigger(tag, trigger) for tag in tags]
        return any(calls) and not any(calls[: max(1, kept)])

    if places := _where(tagged, is_behind):
        said = (
            f"the trigger {trigger} is not in front in {some(places)}: captions.shuffle and tag dropout only "
            "spare what is, and the end of a long caption is cut"
        )
        yield _rewritten(root, said, places, write_text("captions.trigger", trigger), "--trigger-first")


def _prompt_syntax(root: Path, tagged: Tagged, triggers: Sequence[str]) -> Iterator[Finding]:
    """Find weights, choices, LoRAs of prompts, and places for a trigger: which choice is right nobody knows."""
    syntax = (_CHOICE, _WEIGHT, _PLACE)
    found = dict.fromkeys(tag for _, tags in tagged for tag in tags if any(each.search(tag) for each in syntax))
    if found:
        places = _where(tagged, lambda tags: not found.keys().isdisjoint(tags))
        trigger = triggers[0] if triggers else None
        plain = {
            tag: _WEIGHT.sub(r"\1", _PLACE.sub(lambda _: trigger or "", tag))
            for tag in found
            if not _CHOICE.search(tag) and (trigger or not _PLACE.search(tag))
        }
        unclear = [tag for tag in found if _CHOICE.search(tag)]
        keys = [write_text("captions.clean.replacements", plain)] if plain else []
        keys += [write_text("captions.clean.unwanted", _alone(unclear))] if unclear else []
        said = f"what only prompts know is read letter by letter in {some(places)}: {some(list(found))}"
        yield _rewritten(root, said, places, *keys)


def _class_words(root: Path, tagged: Tagged) -> Iterator[Finding]:
    counts = Counter(tag for _, tags in tagged for tag in dict.fromkeys(tags) if is_class(tag))
    for tag, count in counts.most_common(1):
        places = _where(tagged, lambda tags: not any(map(is_class, tags)))
        if places and count >= max(FEWEST, _MOSTLY * len(tagged)):
            said = f"no class word in {some(places)}, where {count} of {len(tagged)} captions have {tag}"
            yield _rewritten(root, said, places, "--add", tag)


def _fused(recipe: Recipe, tagged: Tagged, triggers: Sequence[str]) -> Iterator[Finding]:
    """Find tags that always come with the trigger: the LoRA cannot learn which of the two is meant."""
    if len(tagged) < FEWEST or not triggers:
        return
    root, concept = Path(recipe.dataset.path or ""), tagged[0][0].concept or "the dataset"
    counts = Counter(tag for _, tags in tagged for tag in dict.fromkeys(map(captions.plain, tags)))
    often = [
        tag
        for tag, count in counts.most_common()
        if count >= FUSED * len(tagged)
        and not is_class(tag)
        and not any(captions.has_trigger(tag, t) for t in triggers)
    ]
    own = [tag for tag in often if captions.matches(tag, _OWN)]
    fused = [] if "neutralize" in recipe.regularization else [tag for tag in often if tag not in own]
    if fused:
        yield Finding(
            f"fused with the trigger: {some([f'{t} ({counts[t]} of {len(tagged)})' for t in fused])} in {concept}: "
            "less of the subject is shown without it, and it may come unasked; add images without it, or let the base "
            "keep what it means",
            level="should",
            places=[concept],
            command=mending.look_again(
                root, "regularization=neutralize", write_text("regularization.neutralize.tags", fused)
            ),
            tags=dict.fromkeys(fused, "fused"),
        )
    if own:
        yield Finding(
            f"traits of the subject's own, in nearly every caption of {concept}: {some(own)}; prune them, and its "
            "trigger absorbs them; keep them, and a prompt can change them",
            places=[concept],
            command=mending.rewrite(root, write_text("captions.prune", _alone(own))),
            tags=dict.fromkeys(own, "absorbed"),
        )


def _spellings(root: Path, tagged: Tagged) -> Iterator[Finding]:
    written: dict[str, Counter[str]] = {}
    for _, tags in tagged:
        for tag in tags:
            written.setdefault(captions.plain(tag), Counter())[tag] += 1
    odd = {tag: counts.most_common(1)[0][0] for counts in written.values() for tag, _ in counts.most_common()[1:]}
    odd |= {tag: _SYNONYMS[tag] for tag in written if _SYNONYMS.get(tag) in written}
    if odd:
        places = _where(tagged, lambda tags: not odd.keys().isdisjoint(tags))
        pairs = some([f"{old} for {new}" for old, new in odd.items()])
        said = f"one thing under several names: {pairs}; each is learnt from fewer images"
        yield _rewritten(root, said, places, write_text("captions.clean.replacements", odd))


def _side_by_side(root: Path, tagged: Tagged) -> Iterator[Finding]:
    """Find tags twice in a caption, or beside one that says the same and more."""

    def twice(tags: list[str]) -> bool:
        return len({captions.plain(tag) for tag in tags}) < len(tags)

    def implied(tags: list[str]) -> bool:
        plain = {captions.plain(tag) for tag in tags}
        words = [tag.split(" ") for tag in plain]
        return any(" ".join(tag[count:]) in plain for tag in words for count in range(1, len(tag)))

    for is_meant, what, knob in (
        (twice, "a tag twice", "duplicates"),
        (implied, "a tag that another implies, as `red hat` does `hat`", "implied"),
    ):
        if places := _where(tagged, is_meant):
            said = f"captions have {what}: {some(places)}; it takes room and weight from the others"
            yield _rewritten(root, said, places, f"captions.clean.{knob}=true")


def _once(root: Path, tagged: Tagged, triggers: Sequence[str]) -> Iterator[Finding]:
    counts = Counter(tag for _, tags in tagged for tag in dict.fromkeys(tags))
    once = {
        tag: None  # in their order
        for tag, count in counts.items()
        if count == 1 and not is_class(tag) and not any(captions.has_trigger(tag, trigger) for trigger in triggers)
    }
    if once and len(tagged) >= FEWEST:
        places = _where(tagged, lambda tags: not once.keys().isdisjoint(tags))
        yield Finding(
            f"tags in a single caption teach next to nothing, unless that image alone shows them: {some([*once])}",
            places=places,
            command=mending.rewrite(root, write_text("captions.clean.unwanted", _alone(once))),
        )


def _watermarks(recipe: Recipe, tagged: Tagged) -> Iterator[Finding]:
    marked = [image for image, tags in tagged if any(captions.plain(tag) in _WATERMARKS for tag in tags)]
    if marked:
        names = some([image.short for image in marked])
        said = "bear a watermark or a signature, which a LoRA learns early: crop it away, or set them aside"
        yield aside(recipe, f"by their tags, {names} {said}", marked)
