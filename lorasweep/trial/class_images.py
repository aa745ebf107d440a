"""Have the base draw the regularization images that a plan only names: each once for all trials on a machine.

    Plan with drawings  ->  cache/class_images/ab/abcd....png  ->  Plan with the digests of those files

A picture's file is named by a digest of all that it depends on (see `plan.regularization`) and appears whole.
Each is drawn in a batch of its own, so that it does not depend on which others were there already. Workers
that want the same pictures share the drawing between them. Knows nothing about training.
"""

from __future__ import annotations

import dataclasses

from filelock import FileLock, Timeout
from PIL.PngImagePlugin import PngInfo

from lorasweep.core import files
from lorasweep.core.protocols import Base
from lorasweep.core.records import Plan, PlannedImage, Recipe
from lorasweep.plan import cost
from lorasweep.plan.sample_requests import ImageRequest
from lorasweep.trial import sample


def draw(base: Base, recipe: Recipe, plan: Plan) -> Plan:
    """Draw what is not there yet, of the plan's `reg_images` that have drawings; no adapter lives in the base.

    Returns:
        The plan with the `sha256` of every picture filled in; their files are there.
    """
    wanted = [image for image in plan.reg_images if image.drawing is not None]
    if missing := [image for image in wanted if not image.path.exists()]:
        # What another worker is drawing is skipped at first, and waited for at the end.
        for wait in (False, True):
            for image in missing:
                _draw_if_missing(base, recipe, image, wait=wait)
    found = tuple(
        image if image.drawing is None else dataclasses.replace(image, sha256=files.sha256(image.path))
        for image in plan.reg_images
    )
    return dataclasses.replace(plan, reg_images=found)


def _draw_if_missing(base: Base, recipe: Recipe, image: PlannedImage, *, wait: bool) -> None:
    """Draw a picture, unless another worker has done so, or does so now and this one does not wait."""
    folder = image.path.parent
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock").acquire(blocking=wait):  # one for the few that share a folder
            if not image.path.exists():
                _draw_one(base, recipe, image)
    except Timeout:
        pass


def _draw_one(base: Base, recipe: Recipe, image: PlannedImage) -> None:
    assert image.drawing is not None
    request = ImageRequest(
        tier="class",
        prompt=image.drawing.prompt,
        negative_prompt=recipe.base.negative_prompt,
        seed=image.drawing.seed,
        weight=0.0,
        width_px=image.width_px,
        height_px=image.height_px,
    )
    work = cost.denoised_pixels(image.width_px * image.height_px, recipe.sample)
    with cost.measured(recipe.base, "draw_one", work):
        (picture,) = sample.draw(base, None, [request], recipe.sample)
    about = PngInfo()
    about.add_itxt("prompt", request.prompt)
    files.write_atomic(image.path, lambda path: picture.save(path, pnginfo=about))
