"""Tags that several concepts share, and how much more than each concept they are trained.

Three outfits of one character train the character three times as much as each outfit. Takes a plan, returns
counts; nothing is read or drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

from lorasweep.core.records import CaptionOptions, Plan
from lorasweep.data import captions


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
    """Find the shared tags, the most trained first; none where there is one concept only."""
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
