"""Everything that a metric may look at, with the answers that several metrics share asked for only once.

Takes the live base and adapter, the records, the probes and the pictures; gives per-row losses and pictures
by tier. Knows nothing about what the numbers mean.

Letters: N rows of a set of probes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lorasweep import inference
from lorasweep.metrics import probes as probing

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from lorasweep.metrics.probes import ProbeBatch, Probes, SetName
    from lorasweep.protocols import Adapter, Base
    from lorasweep.records import Plan, PromptTier, Recipe
    from lorasweep.sample import Sample


@dataclass(frozen=True, kw_only=True)
class Rows:
    """One number per probe row, and which row is which; all (N,)."""

    adapted: torch.Tensor
    base: torch.Tensor
    timestep: torch.Tensor
    image: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class JudgeContext:
    """One adapter at one step, about to be judged.

    Attributes:
        base, adapter: live; left as they were.
        recipe, plan: what is being cooked.
        probes: from `probes.build`.
        weight: the LoRA weight that counts.
        samples: pictures drawn at this step, at any weights; may be empty.
        base_samples: the base's pictures for the same prompts and seeds.
        reader: reads a dollhouse picture back (`lorasweep.dollhouse.reader`); None on any other base.
        step: optimizer steps so far.
        history: values of the earlier rungs, oldest first.
    """

    base: Base
    adapter: Adapter
    recipe: Recipe
    plan: Plan
    probes: Probes
    weight: float
    samples: Sequence[Sample]
    base_samples: Sequence[Sample]
    reader: Any
    step: int
    history: Sequence[Mapping[str, float]] = ()
    _asked: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def losses(self, name: SetName, weight: float, *, trigger: bool = True) -> Rows:
        """Squared error of the prediction per row, adapted and base.

        Args:
            name: a set that `probes.sets` has.
            weight: LoRA weight.
            trigger: False asks with captions from which the trigger was removed.
        """
        import torch

        key = ("losses", name, weight, trigger)
        if key not in self._asked:
            batches = self.probes.sets[name]
            found = [
                probing.row_mse(prediction, batch.target_BCHW)
                for batch, prediction in zip(batches, self._predict(name, weight, trigger), strict=True)
            ]
            base = [batch.base_loss_B if trigger else batch.base_plain_loss_B for batch in batches]
            self._asked[key] = self._rows(batches, torch.cat(found), torch.cat(base))
        rows: Rows = self._asked[key]
        return rows

    def drift(self, name: SetName, weight: float) -> Rows:
        """Squared distance between adapted and base prediction per row, beside the base's squared error."""
        import torch

        batches = self.probes.sets[name]
        found = [
            probing.row_mse(prediction, batch.base_BCHW)
            for batch, prediction in zip(batches, self._predict(name, weight, True), strict=True)
        ]
        return self._rows(batches, torch.cat(found), torch.cat([batch.base_loss_B for batch in batches]))

    def pictures(self, tier: PromptTier) -> list[tuple[Sample, Image.Image]]:
        """This step's pictures of a tier at the weight that counts."""
        return [
            (sample, self._opened(sample))
            for sample in self.samples
            if sample.request.tier == tier and sample.request.weight == self.weight
        ]

    def base_pictures(self, tier: PromptTier) -> list[tuple[Sample, Image.Image]]:
        """The base's pictures for the prompts and seeds of `pictures(tier)`."""
        wanted = {(s.request.prompt, s.request.seed) for s, _ in self.pictures(tier)}
        return [
            (sample, self._opened(sample))
            for sample in self.base_samples
            if sample.request.tier == tier and (sample.request.prompt, sample.request.seed) in wanted
        ]

    def _opened(self, sample: Sample) -> Image.Image:
        key = ("picture", sample.file)
        if key not in self._asked:
            self._asked[key] = sample.open()
        picture: Image.Image = self._asked[key]
        return picture

    def _predict(self, name: SetName, weight: float, trigger: bool) -> list[torch.Tensor]:
        found = []
        with inference.at_weight(self.base, self.adapter, weight):
            for batch in self.probes.sets[name]:
                text_BLD = batch.text_BLD if trigger else batch.plain_text_BLD
                if inference.trains_text(self.adapter):
                    text_BLD = self.base.encode_captions(batch.captions if trigger else batch.plain_captions)
                found.append(probing.predict(self.base, batch.noisy_BCHW, batch.timestep_B, text_BLD))
        return found

    @staticmethod
    def _rows(batches: Sequence[ProbeBatch], adapted: torch.Tensor, base: torch.Tensor) -> Rows:
        import torch

        return Rows(
            adapted=adapted.double().cpu(),
            base=base.double().cpu(),
            timestep=torch.cat([batch.timestep_B for batch in batches]).cpu(),
            image=torch.cat([batch.image_B for batch in batches]).cpu(),
        )
