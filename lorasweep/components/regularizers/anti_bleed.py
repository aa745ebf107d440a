"""Against bleeding from the trigger: what its words mean to the base is drawn by the base, and kept.

`Mona_Taco` pulls Mona Lisas and tacos into a character, and the character into them. Pictures of `Mona` and
of `Taco`, captioned so, tell the training that those two words go on meaning what they meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lorasweep.components.regularizers._source import ExposureShare, Images, LossWeight, Source, Words, refuse_trigger
from lorasweep.core.protocols import ImagePlanner
from lorasweep.core.records import PlannedImage

_WORD = re.compile(r"[^\W\d_]{2,}")  # two letters or more: what stands between blanks, digits and marks


@dataclass(frozen=True, kw_only=True)
class AntiBleed(Source):
    """See `protocols.RegularizationImages`; pictures of the words in the trigger, each captioned as itself."""

    words: Words
    images: Images
    prior_loss_weight: LossWeight
    share: ExposureShare

    def plan(self, planner: ImagePlanner) -> list[PlannedImage]:
        """Have the base draw every word of the trigger."""
        trigger = planner.trigger
        words = words_of(trigger or "") if self.words is None else list(self.words)
        if not words:
            got = f"the trigger is {trigger!r}" if trigger else "there is no trigger"
            raise planner.wrong(
                "words",
                f"there is no word to keep: {got}",
                f"override: regularization.{planner.name}.words=[...]",
            )
        hint = "mona_taco would be taken apart; for one word, give those that it bleeds into"
        refuse_trigger(planner, "words", words, hint)
        return planner.drawn(words, each=self.images)


build = AntiBleed


def words_of(trigger: str) -> list[str]:
    """List the words inside a trigger, each once: Mona_Taco has Mona and Taco, MonaTaco is one word."""
    first: dict[str, str] = {}
    for word in _WORD.findall(trigger):
        first.setdefault(word.casefold(), word)
    return list(first.values())
