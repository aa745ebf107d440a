"""Prior prediction: on regularization images, the right answer is what the frozen base answers.

Such a step asks for no new picture, only for nothing to change: with the base's answer as the target, the
loss is zero exactly where the LoRA does nothing. It costs one more forward pass of the base on those images.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from lorasweep.components.regularizers._source import ExposureShare, LossWeight, Source
from lorasweep.core.protocols import ImagePlanner
from lorasweep.core.records import PlannedImage
from lorasweep.data import captions


@dataclass(frozen=True, kw_only=True)
class PriorPrediction(Source):
    """See `protocols.RegularizationImages`: its target holds for the images of every source.

    Source: Nerogar/OneTrainer, modules/trainer/GenericTrainer.py, at 23df3832: the target of a sample of a
    PRIOR_PREDICTION concept is the prediction of the model without its adapter for the same noisy latent.
    That the dataset itself stands in for such a concept, without its trigger, is ours.
    """

    prior_loss_weight: LossWeight
    share: ExposureShare
    target = "base"
    only_alone = True

    def plan(self, planner: ImagePlanner) -> list[PlannedImage]:
        """Return, without another source, the dataset's own images once more, captions without the trigger."""
        trigger = planner.trigger
        if trigger is None:
            raise planner.wrong(
                "share",
                "without other regularization images it uses the dataset's with the trigger taken out, "
                "and there is no trigger",
                "override: captions.trigger=..., or regularization=[reg_images,prior_prediction]",
            )
        return [
            dataclasses.replace(
                image,
                concept=planner.name,
                split="regularization",
                caption=captions.without_trigger(image.caption, trigger, planner.recipe.captions),
            )
            for image in planner.train
        ]


build = PriorPrediction
