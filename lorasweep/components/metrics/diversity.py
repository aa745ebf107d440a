"""V: does it still draw different pictures? Effective number of different ones, against the base's.

    relative = Vendi(its pictures) / Vendi(the base's, same prompts and seeds)

on the frozen base's features, cut into tiles and standardised by the base's own pictures (`similarity`).
Two pictures are the same as far as their features point the same way from there: the kernel is (1 + cosine)
/ 2. 1 is as varied as the base; an adapter that draws one picture over and over has 1 / Vendi(the base's).
What all pictures share, the subject's face for one, takes some variety away, and so does a look that all of
them have.

Directions rather than distances: with a kernel of distances broken pictures, which are far from everything,
counted as variety, and adapters whose pictures had become the same were said to draw more different ones than
the base (docs/decisions/2026-11-23-overcooking-proof.md).

Source: Friedman and Dieng, "The Vendi score" (arXiv 2210.02410), eq. 2; the ratio to the base is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorasweep.components.metrics import _similarity as similarity
from lorasweep.components.metrics._offers import Tiers, num_pictures
from lorasweep.core.judging import Symptom
from lorasweep.core.protocols import JudgeContext
from lorasweep.core.records import Measurement, Plan, Recipe

if TYPE_CHECKING:
    import torch


NAME = "diversity"
NEEDS_PICTURES = True
PROBES = ()
SYMPTOMS = (
    Symptom(
        name="diversity",
        letter="V",
        rank=4,
        metric="diversity/relative",
        says="every seed gives the same picture",
        inverted=True,
        definite=0.5,  # half of the base's variety
    ),
)
FEWEST = 3  # pictures; of two, one number decides


@dataclass(frozen=True, kw_only=True)
class Diversity:
    """See the module."""

    tiers: Tiers

    def measure(self, context: JudgeContext) -> Measurement:
        """Measure on this step's pictures at the judged weight."""
        base = {(picture.prompt, picture.seed): picture.image for picture in context.base_pictures(*self.tiers)}
        drawn = {(picture.prompt, picture.seed): picture.image for picture in context.pictures(*self.tiers)}
        pairs = [pair for pair in drawn if pair in base]
        if len(pairs) < FEWEST:
            reason = f"needs {FEWEST} pictures that the base drew as well, got {len(pairs)}"
            return Measurement(missing={f"{NAME}/relative": reason})
        base_NTD = context.features([base[pair] for pair in pairs], keep=True)["features"]
        if similarity.is_one_picture(base_NTD):
            return Measurement(missing={f"{NAME}/relative": similarity.ONE_PICTURE})
        drawn_NTD = context.features([drawn[pair] for pair in pairs])["features"]
        mine_NN, theirs_NN = kernel(drawn_NTD, base_NTD), kernel(base_NTD, base_NTD)
        return Measurement(
            values={
                f"{NAME}/vendi": similarity.vendi(mine_NN),
                f"{NAME}/base_vendi": similarity.vendi(theirs_NN),
                f"{NAME}/relative": relative(mine_NN, theirs_NN),
            }
        )


build = Diversity


def names(recipe: Recipe, plan: Plan) -> dict[str, str]:
    """Return the numbers that `measure` gives for a recipe, and why it cannot; empty when it can."""
    pictures = num_pictures(recipe, plan, recipe.metrics[NAME]["tiers"])
    why = "" if pictures >= FEWEST else f"needs {FEWEST} pictures that the base drew as well, got {pictures}"
    return {f"{NAME}/{name}": why for name in ("vendi", "base_vendi", "relative")}


def kernel(features_NTD: torch.Tensor, base_NTD: torch.Tensor) -> torch.Tensor:
    """Return how much the same every two pictures are, (N, N) in [0, 1], seen from the base's pictures; PSD."""
    standard_ND = similarity.standardised(features_NTD, base_NTD).flatten(1)
    return (1 + similarity.cosines(standard_ND, standard_ND)) / 2


def relative(mine_NN: torch.Tensor, theirs_NN: torch.Tensor) -> float:
    """Return ratio of the two Vendi scores; > 0, 1 when equally varied."""
    return similarity.vendi(mine_NN) / similarity.vendi(theirs_NN)
