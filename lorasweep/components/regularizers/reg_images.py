"""Regularization images: pictures of the class, trained on beside the subject's, as kohya's trainers do.

Their captions say what they show and have no trigger, so the class stays what it was while the trigger takes
on the subject.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from lorasweep.components.regularizers._source import ExposureShare, LossWeight, Source
from lorasweep.core.protocols import ImagePlanner
from lorasweep.core.ranges import Text
from lorasweep.core.records import PlannedImage


@dataclass(frozen=True, kw_only=True)
class RegImages(Source):
    """See `protocols.RegularizationImages`; without a path the world's strangers, so many.

    Source: kohya-ss/sd-scripts, library/train_util.py, DreamBoothDataset and `prior_loss_weight`. `share` is
    ours; kohya's is 1.
    """

    path: Text | None
    prior_loss_weight: LossWeight
    share: ExposureShare
    strangers: Annotated[int, Field(ge=1, le=10_000, description="e.g. 40")]
    needs_dataset = False

    def plan(self, planner: ImagePlanner) -> list[PlannedImage]:
        """Find them in the folder; without one, have the dollhouse's world draw strangers."""
        if self.path is not None:
            return planner.found(Path(self.path).expanduser())
        if planner.recipe.dataset.drawn is None:
            hint = "override: regularization.reg_images.path=some/folder; or regularization=neutralize"
            raise planner.wrong("path", "must be given with images of your own", hint)
        return planner.strangers(self.strangers)


build = RegImages


def problems(*, path: str | None) -> list[tuple[str, str, str]]:
    """Name a folder that is not there."""
    if path is None or Path(path).expanduser().is_dir():
        return []
    return [("path", f"no such folder: {path!r}", f"looked at {Path(path).expanduser().absolute()}")]
