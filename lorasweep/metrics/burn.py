"""B: does the picture look fried? Colour, contrast, clipping and grain, against base and dataset.

Four statistics per picture; each counts only by how far it lies outside the interval that the base's pictures
and the training images span, in interquartile ranges of those. B is the worst of the four means. A vivid
dataset therefore does not count as burned, and neither does a dull one.

Source: ours, after the appearance drift of Laria et al. (arXiv 2410.14159). Keep guidance fixed when
comparing: guidance alone saturates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lorasweep.records import PROMPT_TIERS, Measurement

if TYPE_CHECKING:
    from lorasweep.metrics.context import JudgeContext

# The smallest interquartile range that counts, per statistic, so that a reference without any spread (no
# pixel clipped anywhere) does not turn a trace into a catastrophe.
STATISTICS = {"saturation": 0.02, "contrast": 0.02, "clipped": 0.02, "grain": 0.005}


@dataclass(frozen=True, kw_only=True)
class Burn:
    """See the module."""

    min_reference: int
    needs_samples = True

    def measure(self, context: JudgeContext) -> Measurement:
        """Measure on all of this step's pictures at the weight that counts."""
        drawn = [np.asarray(image) for tier in PROMPT_TIERS for _, image in context.pictures(tier)]
        base = [np.asarray(image) for tier in PROMPT_TIERS for _, image in context.base_pictures(tier)]
        if not drawn:
            return Measurement(missing={"burn/score": f"no pictures at weight {context.weight:g}"})
        trained = context.gallery.train if context.gallery is not None else ()
        reference = [*base, *(np.asarray(image) for image in trained)]
        if len(reference) < self.min_reference:
            reason = f"needs {self.min_reference} pictures by the base and of training, got {len(reference)}"
            return Measurement(missing={"burn/score": reason})
        excess = excesses(drawn, reference)
        values = {f"burn/{name}": value for name, value in excess.items()}
        return Measurement(values=values | {"burn/score": max(excess.values())})


def build(*, min_reference: int) -> Burn:
    """Build the metric.

    Args:
        min_reference: fewest pictures that span an interval worth the name.
    """
    return Burn(min_reference=min_reference)


def excesses(drawn: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> dict[str, float]:
    """Mean distance outside the reference's interval per statistic, in its interquartile ranges; each >= 0.

    Args:
        drawn: pictures to judge, (H, W, 3) uint8.
        reference: pictures that are fine by definition.
    """
    found = {}
    of_drawn, of_reference = _table(drawn), _table(reference)
    for name, least in STATISTICS.items():
        values, fine = of_drawn[name], of_reference[name]
        quarter, three_quarters = np.quantile(fine, [0.25, 0.75])
        outside = np.maximum(0.0, np.maximum(fine.min() - values, values - fine.max()))
        found[name] = float(outside.mean() / max(three_quarters - quarter, least))
    return found


def statistics(pixels_HWC: np.ndarray) -> dict[str, float]:
    """Describe one picture: each in [0, 1] except grain, which is in [0, 4].

    Args:
        pixels_HWC: uint8, RGB.

    Returns:
        saturation: mean chroma (max - min of the channels). contrast: standard deviation of luma. clipped:
        share of pixels with a channel at 0 or 255. grain: mean absolute 4-neighbour Laplacian of luma.
    """
    rgb = pixels_HWC.astype(np.float64) / 255.0
    luma_HW = rgb @ np.array([0.2126, 0.7152, 0.0722])  # Rec. 709
    inner = luma_HW[1:-1, 1:-1]
    laplacian = luma_HW[:-2, 1:-1] + luma_HW[2:, 1:-1] + luma_HW[1:-1, :-2] + luma_HW[1:-1, 2:] - 4 * inner
    return {
        "saturation": float((rgb.max(-1) - rgb.min(-1)).mean()),
        "contrast": float(luma_HW.std()),
        "clipped": float(((pixels_HWC == 0) | (pixels_HWC == 255)).any(-1).mean()),
        "grain": float(np.abs(laplacian).mean()),
    }


def _table(pictures: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    rows = [statistics(picture) for picture in pictures]
    return {name: np.array([row[name] for row in rows]) for name in STATISTICS}
