"""V: does it still draw different pictures? Effective number of different ones, against the base's.

    relative = Vendi(its pictures) / Vendi(the base's, same prompts and seeds)

on the frozen base's features. Two pictures count as the same when they are near and as different when they
are as far apart as the base's usually are: the kernel is exp(-2 d^2 / D^2), d their distance and D the median
distance of the base's pictures, so a change that is the same in all pictures, the subject's face for one,
takes nothing away by itself. 1 is as varied as the base; an adapter that draws one picture over and over has
1 / n. Some loss is the very point of teaching a subject: everybody becomes the same person.

Noise and corruption *raise* diversity, so read it beside burn.

Source: Friedman and Dieng, "The Vendi score" (arXiv 2210.02410), eq. 2; the ratio to the base is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorasweep.metrics import similarity
from lorasweep.records import Measurement, PromptTier

if TYPE_CHECKING:
    import torch

    from lorasweep.metrics.context import JudgeContext

NAME = "diversity"
FEWEST = 3  # pictures; of two, one number decides


@dataclass(frozen=True, kw_only=True)
class Diversity:
    """See the module."""

    tiers: tuple[PromptTier, ...]
    needs_samples = True

    def measure(self, context: JudgeContext) -> Measurement:
        """Measure on this step's pictures at the weight that counts."""
        base = {
            (s.request.prompt, s.request.seed): i for t in self.tiers for s, i in context.base_pictures(t)
        }
        drawn = {(s.request.prompt, s.request.seed): i for t in self.tiers for s, i in context.pictures(t)}
        pairs = [pair for pair in drawn if pair in base]
        if len(pairs) < FEWEST:
            reason = f"needs {FEWEST} pictures that the base drew as well, got {len(pairs)}"
            return Measurement(missing={f"{NAME}/relative": reason})
        base_ND = context.features([base[pair] for pair in pairs], keep=True)["whole"]
        drawn_ND = context.features([drawn[pair] for pair in pairs])["whole"]
        mine_NN, theirs_NN = kernel(drawn_ND, base_ND), kernel(base_ND, base_ND)
        return Measurement(
            values={
                f"{NAME}/vendi": similarity.vendi(mine_NN),
                f"{NAME}/base_vendi": similarity.vendi(theirs_NN),
                f"{NAME}/relative": relative(mine_NN, theirs_NN),
            }
        )


def build(*, tiers: Sequence[PromptTier]) -> Diversity:
    """Build the metric.

    Args:
        tiers: prompt tiers whose pictures are counted together.
    """
    return Diversity(tiers=tuple(tiers))


def kernel(features_ND: torch.Tensor, base_ND: torch.Tensor) -> torch.Tensor:
    """How much the same every two pictures are, (N, N) in [0, 1], measured by the base's pictures; PSD.

    Args:
        features_ND: of the pictures to compare, standardised inside.
        base_ND: of two or more different pictures by the base.
    """
    import torch

    mine_ND, theirs_ND = (
        similarity.standardised(f[:, None], base_ND[:, None])[:, 0] for f in (features_ND, base_ND)
    )
    usual = torch.pdist(theirs_ND).median()
    return (-2 * torch.cdist(mine_ND, mine_ND).square() / usual.square()).exp()


def relative(mine_NN: torch.Tensor, theirs_NN: torch.Tensor) -> float:
    """Ratio of the two Vendi scores; > 0, 1 when equally varied."""
    return similarity.vendi(mine_NN) / similarity.vendi(theirs_NN)
