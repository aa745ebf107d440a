"""B: does the picture look like anything? How far it is from all that base and training images show.

Cut into tiles, each tile's frozen-base features are held against the same tile of every picture that is
fine by definition: the base's for the same prompts and seeds, and the training images.

    score = mean over pictures and tiles of the squared distance to the nearest of them / the usual one

The usual squared distance is that of two of the base's pictures (median). 0 is one of them, 1 as far from all
of them as two pictures of other things are from each other; healthy pictures of new scenes have about 0.1,
noise 0.5 and more. A vivid dataset does not count as burned, and neither does a dull one.

Beside it, for people: saturation, contrast, clipping and grain, each by how far it lies outside the interval
that the same pictures span, in interquartile ranges of those. They say in which way a picture is fried. They
are no score: a figure that melts keeps its colours (docs/decisions/2026-11-23-overcooking-proof.md).

Source: ours. The four statistics are after the appearance drift of Laria et al. (arXiv 2410.14159).
Distance to the nearest reference in deep features is PatchCore's (Roth et al., arXiv 2106.08265), with the
neighbours of one place instead of all. Keep guidance fixed when comparing: guidance alone saturates.

Letters: N drawn pictures, B of the base, R training images, T tiles, D numbers per tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lorasweep.components.metrics import _similarity as similarity
from lorasweep.components.metrics._offers import num_pictures
from lorasweep.core.judging import Symptom
from lorasweep.core.protocols import JudgeContext
from lorasweep.core.records import PROMPT_TIERS, Measurement, Plan, Recipe

if TYPE_CHECKING:
    import numpy as np
    import torch


NEEDS_PICTURES = True
PROBES = ()
SYMPTOMS = (
    # Six tenths as far from all that base and training images show as two other pictures are, squared.
    Symptom(name="burn", letter="B", rank=0, metric="burn/score", says="pictures fall apart", definite=0.35),
)
FEWEST_BY_BASE = 3  # pictures; fewer have no usual distance

# The smallest interquartile range that counts, per statistic, so that a reference without any spread (no
# pixel clipped anywhere) does not turn a trace into a catastrophe.
STATISTICS = {"saturation": 0.02, "contrast": 0.02, "clipped": 0.02, "grain": 0.005}


@dataclass(frozen=True, kw_only=True)
class Burn:
    """See the module."""

    min_reference: Annotated[int, Field(ge=2, title="be >= 2, what an interval takes")]

    def measure(self, context: JudgeContext) -> Measurement:
        """Measure on all of this step's pictures at the judged weight."""
        import numpy as np

        drawn = [picture.image for picture in context.pictures(*PROMPT_TIERS)]
        base = [picture.image for picture in context.base_pictures(*PROMPT_TIERS)]
        if not drawn:
            return Measurement(missing={"burn/score": f"no pictures at weight {context.weight:g}"})
        trained = list(context.gallery.train) if context.gallery is not None else []
        fine = [*base, *trained]
        if len(fine) < self.min_reference:
            reason = f"needs {self.min_reference} pictures by the base and of training, got {len(fine)}"
            return Measurement(missing={"burn/score": reason})
        excess = excesses([np.asarray(image) for image in drawn], [np.asarray(image) for image in fine])
        found = Measurement(values={f"burn/{name}": value for name, value in excess.items()})
        if len(base) < FEWEST_BY_BASE:
            found.missing["burn/score"] = f"needs {FEWEST_BY_BASE} pictures by the base, got {len(base)}"
            return found
        fine_RTD = context.features(fine, keep=True)["features"]
        if similarity.is_one_picture(fine_RTD[: len(base)]):
            found.missing["burn/score"] = similarity.ONE_PICTURE
            return found
        drawn_NTD = context.features(drawn)["features"]
        found.values["burn/score"] = strangeness(drawn_NTD, fine_RTD[: len(base)], fine_RTD[len(base) :])
        return found


build = Burn


def names(recipe: Recipe, plan: Plan) -> dict[str, str]:
    """Return the numbers that `measure` gives for a recipe, and why it cannot; empty when it can."""
    by_base, least = num_pictures(recipe, plan, PROMPT_TIERS), recipe.metrics["burn"]["min_reference"]
    fine = by_base + len(plan.train_images())
    too_few = "" if fine >= least else f"needs {least} pictures by the base and of training, got {fine}"
    why = "" if by_base >= FEWEST_BY_BASE else f"needs {FEWEST_BY_BASE} pictures by the base, got {by_base}"
    return {"burn/score": too_few or why} | {f"burn/{name}": too_few for name in STATISTICS}


def strangeness(drawn_NTD: torch.Tensor, base_BTD: torch.Tensor, trained_RTD: torch.Tensor) -> float:
    """Mean squared distance to the nearest picture that is fine, tile by tile, over the usual one; >= 0.

    Fine are the base's for the same prompts and seeds, two or more different ones, and training images, if any.
    """
    import torch

    fine_RTD = torch.cat([base_BTD, trained_RTD])
    drawn_TND, fine_TRD = (similarity.standardised(f, base_BTD).transpose(0, 1) for f in (drawn_NTD, fine_RTD))
    base_TBD = fine_TRD[:, : len(base_BTD)]
    one, other = torch.triu_indices(len(base_BTD), len(base_BTD), offset=1)
    # Of all pairs, not to the nearest: for captions with and without a trigger that it does not know the base
    # draws twins.
    usual = torch.cdist(base_TBD, base_TBD)[:, one, other].square().median()
    return float(torch.cdist(drawn_TND, fine_TRD).amin(2).square().mean() / usual)


def excesses(drawn: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> dict[str, float]:
    """Mean distance outside the interval of fine pictures per statistic, in its interquartile ranges; each >= 0."""
    import numpy as np

    found = {}
    of_drawn, of_reference = _table(drawn), _table(reference)
    for name, least in STATISTICS.items():
        values, fine = of_drawn[name], of_reference[name]
        quarter, three_quarters = np.quantile(fine, [0.25, 0.75])
        outside = np.maximum(0.0, np.maximum(fine.min() - values, values - fine.max()))
        found[name] = float(outside.mean() / max(three_quarters - quarter, least))
    return found


def statistics(pixels_HWC: np.ndarray) -> dict[str, float]:
    """Describe one picture, uint8 RGB: each in [0, 1] except grain, which is in [0, 4].

    saturation: mean chroma (max - min of the channels). contrast: standard deviation of luma. clipped: share of pixels
    with a channel at 0 or 255. grain: mean absolute 4-neighbour Laplacian of luma.
    """
    import numpy as np

    from lorasweep.data import look

    rgb = pixels_HWC.astype(np.float64) / 255.0
    luma_HW = rgb @ np.array([0.2126, 0.7152, 0.0722])  # Rec. 709
    return {
        "saturation": float((rgb.max(-1) - rgb.min(-1)).mean()),
        "contrast": float(luma_HW.std()),
        "clipped": float(((pixels_HWC == 0) | (pixels_HWC == 255)).any(-1).mean()),
        "grain": float(np.abs(look.laplacian(luma_HW)).mean()),
    }


def _table(pictures: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    import numpy as np

    rows = [statistics(picture) for picture in pictures]
    return {name: np.array([row[name] for row in rows]) for name in STATISTICS}
