"""How many tokens captions have, how often each tag reaches the text encoder, and for how many concepts.

Takes planned images and the base's window, gives back counts and sentences. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lorasweep.components.bases._tokens import TextWindow
from lorasweep.core.findings import Finding
from lorasweep.core.records import CaptionOptions, Plan, PlannedImage
from lorasweep.data import captions


def tag_exposures(images: Sequence[PlannedImage], seen: Sequence[int], options: CaptionOptions) -> dict[str, int]:
    """Count how often training reads each tag, or is expected to where captions vary; the most frequent first."""
    total: dict[str, float] = {}
    there = 1 - options.dropout
    for image, times in zip(images, seen, strict=True):
        tags = captions.tags(image.caption, options)
        for tag in dict.fromkeys(tags):
            gone = 0.0 if tag in tags[: options.keep_tokens] else options.tag_dropout ** tags.count(tag)
            total[tag] = total.get(tag, 0.0) + times * there * (1 - gone)
    return {tag: round(times) for tag, times in sorted(total.items(), key=lambda item: -item[1])}


def long_captions(plan: Plan, window: TextWindow) -> Iterator[str]:
    """Say how captions are read that are longer than a text encoder's window."""
    images = [*plan.images, *plan.reg_images]
    long = {image.file: image for image in images if not window.fits(image.caption)}
    if long:
        longest = max(long.values(), key=lambda image: window.tokens(image.caption))
        most = window.tokens(longest.caption)
        chunks = f"they are read whole, in up to {-(-most // window.length)} chunks of {window.length}"
        read = "what goes beyond is not read" if window.cut else f"{chunks}, as with kohya's max_token_length"
        yield Finding(
            f"{len(long)} of {len(images)} captions are longer than {window.length} tokens ({longest.path.name} has "
            f"{most}): {read}",
            places=[image.short for image in long.values()],
        )


@dataclass(frozen=True)
class SharedTag:
    """A tag in the captions of more than one concept that is trained more than any of them."""

    tag: str  # as in the captions
    times: int  # a caption with it is seen
    concepts: int  # that have it
    largest: int  # times the most frequent concept is seen

    @property
    def ratio(self) -> float:
        """How many times as much as the most frequent concept."""
        return self.times / self.largest

    def decoupled(self, share: float) -> int:
        """Estimate how often it would be trained if a share of each concept's images did without it."""
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
