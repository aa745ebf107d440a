"""What of captions and prompts reaches the text encoder, how often each tag does, and for how many concepts.

Takes planned images and the base's window, gives back counts and sentences. No torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lorasweep.core.findings import Finding
from lorasweep.core.records import CaptionOptions, Plan, PlannedImage, Recipe
from lorasweep.data import captions, mending
from lorasweep.data.leftovers import some

_MOST_SHOWN = 40  # characters of a tag


class Window(Protocol):
    """How much of a text is read; see `components/bases/_tokens.py`."""

    length: int

    def tokens(self, text: str) -> int:
        """Count the tokens of a text, read or not."""

    def read(self, text: str) -> str:
        """The beginning of a text that is read."""


def tag_exposures(
    images: Sequence[PlannedImage], seen: Sequence[int], options: CaptionOptions, window: Window
) -> dict[str, int]:
    """Count how often training reads each tag; the most frequent first.

    Exact where captions do not vary. Where they do, what is expected of dropout, tag dropout and of tags that
    take turns in a caption that is too long.

    Args:
        images: that are trained on.
        seen: times each is seen.
        options: say what separates tags, and how captions vary.
        window: of the base.
    """
    total: dict[str, float] = {}
    for image, times in zip(images, seen, strict=True):
        for tag, share in _shares(image.caption, options, window).items():
            total[tag] = total.get(tag, 0.0) + times * share
    return {tag: round(times) for tag, times in sorted(total.items(), key=lambda item: -item[1])}


def _shares(caption: str, options: CaptionOptions, window: Window) -> dict[str, float]:
    """How often, of an image's exposures, each tag of its caption is read whole."""
    tags = captions.tags(caption, options)
    kept = tags[: options.keep_tokens]
    there = 1 - options.dropout
    stays = there * (1 - options.tag_dropout)
    shares = {tag: there if tag in kept else stays for tag in tags}
    read = window.read(caption)
    if read == caption:
        return shares
    whole = _whole(tags, captions.tags(read, options))
    turn = 0.0
    if options.shuffle:
        # Tags take turns in the room behind those that are kept in place.
        front = window.tokens(options.separator.join([*kept, ""]))
        rest = (window.tokens(caption) - front) * (1 - options.tag_dropout)
        turn = min(1.0, max(0, window.length - front) / max(1.0, rest))
        whole.intersection_update(kept)
    return {tag: share if tag in whole else share * turn * (tag not in kept) for tag, share in shares.items()}


def _whole(tags: Sequence[str], read: Sequence[str]) -> set[str]:
    """The tags that are not cut; the first one counts all the same, since it may be a sentence."""
    return {tag for tag, there in zip(tags, read, strict=False) if tag == there} | set(tags[:1])


def find(recipe: Recipe, plan: Plan, window: Window) -> Iterator[str]:
    """Find captions and prompts that are cut."""
    images = [*plan.images, *plan.reg_images]
    cut = {image.file: image for image in images if window.read(image.caption) != image.caption}
    if cut:
        yield from _cut_captions(recipe, plan, list(cut.values()), len(images), window)
    prompts = [prompt for tier in plan.prompts.values() for prompt in tier]
    if recipe.base.negative_prompt:
        prompts.append(recipe.base.negative_prompt)
    long = [prompt for prompt in prompts if window.read(prompt) != prompt]
    if long:
        kept = window.read(long[0])
        yield (
            f"{len(long)} of {len(prompts)} prompts to judge by are longer than {window.length} tokens: "
            f"their ends are not drawn, e.g. what follows {kept[-40:].strip()!r}"
        )


def _cut_captions(recipe: Recipe, plan: Plan, cut: Sequence[PlannedImage], count: int, window: Window) -> Iterator[str]:
    options = recipe.captions
    longest = max(cut, key=lambda image: window.tokens(image.caption))
    said = (
        f"{len(cut)} of {count} captions are longer than the {window.length} tokens that the text encoder "
        f"reads ({Path(longest.file).name} has {window.tokens(longest.caption)})"
    )
    if options.shuffle:
        yield f"{said}: every step cuts off other tags, which are counted as often as is to be expected"
    else:
        lost = _lost(cut, options, window)
        names = some([f"{_beginning(tag)} ({times})" for tag, times in lost.items()])
        what = f"never read, with the number of captions: {names}" if lost else "the rest is never read"
        places = [f"{Path(image.file).parent.name}/{Path(image.file).name}" for image in cut]
        root = Path(recipe.dataset.path or "")
        command = mending.rewrite(root, mending.listed("captions.clean.unwanted", lost)) if lost else ""
        yield Finding(f"{said}; {what}", level="should", places=places, command=command)
    if plan.trigger and not (options.shuffle and options.keep_tokens == 0):
        called = [image for image in cut if captions.has_trigger(image.caption, plan.trigger)]
        without = [image for image in called if not captions.has_trigger(window.read(image.caption), plan.trigger)]
        if without:
            yield (
                f"the trigger {plan.trigger} is cut off in {len(without)} of {len(called)} captions that are "
                "too long: put it in front in the files"
            )


def _lost(cut: Sequence[PlannedImage], options: CaptionOptions, window: Window) -> Mapping[str, int]:
    """Tags that are not read whole, with the number of captions that lose them; the most frequent first."""
    counts: Counter[str] = Counter()
    for image in cut:
        tags = captions.tags(image.caption, options)
        whole = _whole(tags, captions.tags(window.read(image.caption), options))
        counts.update(tag for tag in dict.fromkeys(tags) if tag not in whole)
    return dict(counts.most_common())


def _beginning(tag: str) -> str:
    """A tag as it is shown: of a sentence, its first words."""
    return tag if len(tag) <= _MOST_SHOWN else f"{tag[:_MOST_SHOWN].rstrip()}..."


@dataclass(frozen=True)
class SharedTag:
    """A tag in the captions of more than one concept that is trained more than any of them.

    Attributes:
        tag: as in the captions.
        times: a caption with it is seen.
        concepts: that have it.
        largest: times the most frequent concept is seen.
    """

    tag: str
    times: int
    concepts: int
    largest: int

    @property
    def ratio(self) -> float:
        """How many times as much as the most frequent concept."""
        return self.times / self.largest

    def decoupled(self, share: float) -> int:
        """About how often it would be trained if a share of each concept's images did without it."""
        return round(self.times * (1 - share))


def shared_tags(plan: Plan, options: CaptionOptions) -> list[SharedTag]:
    """Find the shared tags, the most trained first; none where there is one concept only.

    Three outfits of one character train the character three times as much as each outfit.
    """
    if len(plan.exposures) < 2:
        return []
    owners: dict[str, set[str]] = {}
    for image in plan.train_images():
        for tag in captions.tags(image.caption, options):
            owners.setdefault(tag, set()).add(image.concept)
    largest = max(plan.exposures.values())
    return [
        SharedTag(tag=tag, times=times, concepts=len(owners[tag]), largest=largest)
        for tag, times in plan.tag_exposures.items()
        if times > largest and len(owners.get(tag, ())) > 1
    ]
