"""Free the tags that the subject has captured: the base draws what they mean to it, and that is kept.

When every caption says `1girl`, `1girl` becomes the subject. Pictures of anybody, captioned `1girl`, balance
that, for as many such tags as there are.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from lorasweep.components.regularizers._source import ExposureShare, Images, LossWeight, Source, Words, refuse_trigger
from lorasweep.core.protocols import ImagePlanner
from lorasweep.core.records import PlannedImage
from lorasweep.data import captions


@dataclass(frozen=True, kw_only=True)
class Neutralize(Source):
    """See `protocols.RegularizationImages`; pictures of captured tags, each captioned as itself."""

    tags: Words
    captured: Annotated[float, Field(gt=0, le=1, description="0.9 is nearly every caption")]
    images: Images
    prior_loss_weight: LossWeight
    share: ExposureShare

    def plan(self, planner: ImagePlanner) -> list[PlannedImage]:
        """Have the base draw every captured tag."""
        tags = list(self.tags) if self.tags is not None else captured_tags(planner, self.captured)
        if not tags:
            message = f"no tag is in {self.captured:.0%} of the captions or more, besides the trigger"
            hint = f"override: regularization.{planner.name}.tags=[...], or a lower .captured"
            raise planner.wrong("tags", message, hint)
        refuse_trigger(planner, "tags", tags, "take it out")
        return planner.drawn(tags, each=self.images)


build = Neutralize


def captured_tags(planner: ImagePlanner, share: float) -> list[str]:
    """List tags in at least this share of the training captions, the commonest first; not the trigger's own."""
    options = planner.recipe.captions
    found = [captions.tags(image.caption, options) for image in planner.train]
    counts = Counter(tag for tags in found for tag in dict.fromkeys(tags))
    common = [tag for tag, count in counts.most_common() if count >= share * len(found)]
    trigger = planner.trigger
    return [tag for tag in common if not (trigger and captions.has_trigger(tag, trigger))]
