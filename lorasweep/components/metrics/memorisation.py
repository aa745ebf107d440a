"""M: does it return its training images?

**Copies.** A picture's distance to the training images is that to the nearest of them: 1 - cosine of
standardised features, a mean over a grid of tiles. How near is too near is learned from pictures that cannot
be copies: held-out images of the same subject and, while those are few, training images against the *other*
training images, near-duplicates left out. A picture nearer than their 5 % quantile is a copy. `copy_rate` is the
share of copies among the pictures with the trigger, so an adapter that knows the subject and copies nothing has
about 0.05, whatever the subject, the base and the encoder; a little more where the reference is small. `tile_max`
is the same with the *worst* tile in the place of the mean: a copy of the whole picture, which a plain background
cannot fake. Both are asked of VAE latents (copies pixel by pixel), of the frozen UNet's features (copies put
together anew) and, where a copy is configured, of SSCD, and averaged. `nearness` has no threshold: 1 -
distance over the reference's median, 0 for a held-out image, 1 for a training image.

**Magnitude.** With m(c) the norm of eps(x_T, c) - eps(x_T, nothing) on pure noise, the first step of any
sampler,

    magnitude_ratio = log median m(training captions) / median m(recombined prompts), minus the base's

A caption that was memorised pulls harder than one that was not. The level itself would not do: a trigger that
was well learned pulls hard as well.

Source: the calibrated rate is ours; tile maximum from Carlini et al. (arXiv 2301.13188, section 4.2), with
cosine for l2; magnitude from Wen et al. (ICLR 2024, arXiv
2407.21720, eq. 4), with the ratio, the base's subtracted, for the level.

Letters: N pictures, M training images, T tiles, D numbers per tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lorasweep.components.metrics import _similarity as similarity
from lorasweep.components.metrics._offers import Tiers, num_pictures
from lorasweep.core.judging import Symptom
from lorasweep.core.protocols import Encoder, JudgeContext
from lorasweep.core.records import Measurement, Plan, Recipe

if TYPE_CHECKING:
    import torch
    from PIL import Image


NAME = "memorisation"
NEEDS_PICTURES = False  # the magnitude needs none, and `measure` says so for the rest
PROBES = ("training", "recombined")
SYMPTOMS = (
    Symptom(
        name="memorisation",
        letter="M",
        rank=1,
        metric="memorisation/copy_rate",
        says="it copies its training images",
        definite=0.25,  # 0.05 is what copies nothing, by how a copy is told
    ),
    Symptom(
        name="nearness",
        letter="M",
        rank=2,
        metric="memorisation/nearness",
        says="its pictures drift towards its training images",
    ),
)
KINDS = ("latents", "features")
RATES = ("copy_rate", "tile_max", "nearness")
MIN_REFERENCE = 4  # pictures that cannot be copies, fewest for a quantile
ENOUGH_HELD_OUT = 20  # for a 5 % quantile of their own
ONE_IMAGE = "the training images are one picture over and over"
NO_CAPTIONS = "needs training captions and recombined prompts"
DUPLICATE = 0.25  # of the usual distance, below which two training images are the same picture twice
EXACT = 1e-6  # distance below which they are so whatever the others are


@dataclass(frozen=True, kw_only=True)
class Memorisation:
    """See the module."""

    tiers: Tiers
    chance: Annotated[float, Field(gt=0, le=0.5)]
    magnitude: bool

    def measure(self, context: JudgeContext) -> Measurement:
        """Measure on the pictures at the judged weight, and, if asked, on pure noise."""
        copies, magnitude = self._copies(context), _magnitude(context) if self.magnitude else Measurement()
        return Measurement(values=copies.values | magnitude.values, missing=copies.missing | magnitude.missing)

    def _copies(self, context: JudgeContext) -> Measurement:
        drawn = [picture.image for picture in context.pictures(*self.tiers)]
        base = [picture.image for picture in context.base_pictures(*self.tiers)]
        reason = _why_not(context, drawn, base)
        if reason:
            return Measurement(missing={f"{NAME}/{name}": reason for name in RATES})
        assert context.gallery is not None  # noqa: S101 - for the type checker; `_why_not` has looked
        train, held_out = list(context.gallery.train), list(context.gallery.held_out)
        cut, images = len(train), [*base, *train, *held_out]
        values: dict[str, float] = {}
        kinds = self._kinds(context)
        for kind, (encoder, feature) in kinds.items():
            known = context.features(images, encoder=encoder, keep=True)[feature]
            found = context.features(drawn, encoder=encoder)[feature]
            if known.dim() == 2:  # one descriptor for the whole picture
                known, found = known[:, None], found[:, None]
            scale, theirs = known[: len(base)], known[len(base) :]
            mine, theirs = (similarity.standardised(tiles, scale) for tiles in (found, theirs))
            twins = context.gallery.twins
            found_here = rates(mine, theirs[:cut], theirs[cut:], kind=kind, chance=self.chance, twins=twins)
            if not found_here:
                return Measurement(missing={f"{NAME}/{name}": ONE_IMAGE for name in RATES})
            values |= found_here
        for name in RATES:
            values[f"{NAME}/{name}"] = sum(values[f"{NAME}/{name}_{kind}"] for kind in kinds) / len(kinds)
        return Measurement(values=values)

    @staticmethod
    def _kinds(context: JudgeContext) -> dict[str, tuple[Encoder | None, str]]:
        """Tell which encoder's which features to look at, by the name of a kind; None is the frozen base."""
        kinds: dict[str, tuple[Encoder | None, str]] = {kind: (None, kind) for kind in KINDS}
        if (sscd := context.encoder("sscd")) is not None:
            kinds["sscd"] = (sscd, "whole")
        return kinds


build = Memorisation


def names(recipe: Recipe, plan: Plan) -> dict[str, str]:
    """Return the numbers that `measure` gives for a recipe, and why it cannot; empty when it can."""
    train, held_out = len(plan.train_images()), len(plan.held_out_images())
    why = _too_few(train, held_out)
    if not num_pictures(recipe, plan, recipe.metrics[NAME]["tiers"]):
        why = "no pictures with the trigger are drawn"
    kinds = ("", *(f"_{kind}" for kind in KINDS), *(("_sscd",) if recipe.encoders.sscd else ()))
    found = {f"{NAME}/{rate}{kind}": why for rate in RATES for kind in kinds}
    if recipe.metrics[NAME]["magnitude"]:
        captioned = any(image.caption for image in plan.train_images()) and plan.prompts.get("recombined")
        found[f"{NAME}/magnitude_ratio"] = "" if captioned else NO_CAPTIONS
    return found


def rates(
    drawn_NTD: torch.Tensor,
    train_MTD: torch.Tensor,
    held_out_HTD: torch.Tensor,
    *,
    kind: str,
    chance: float,
    twins: Sequence[Sequence[int]] = (),
) -> dict[str, float]:
    """Copy rate and nearness by the mean over tiles, copy rate by the worst tile; standardised features.

    Empty where the training images are one picture over and over, and none is held out. `twins` are places of
    near-duplicates among the training images: what is near one of them is no reference for how near another may be.
    """
    import torch

    values, same_MM = {}, _same(len(train_MTD), twins)
    for name, over_tiles in (("copy_rate", torch.mean), ("tile_max", torch.amax)):
        distance_N = over_tiles(1 - similarity.tile_cosines(drawn_NTD, train_MTD), dim=2).amin(1)
        held_out_H = over_tiles(1 - similarity.tile_cosines(held_out_HTD, train_MTD), dim=2).amin(1)
        others_MM = over_tiles(1 - similarity.tile_cosines(train_MTD, train_MTD), dim=2)
        others_M = others_MM.masked_fill(same_MM, torch.inf).amin(1)
        reference = _reference(held_out_H, others_M)
        if not len(reference):
            return {}
        limit = torch.quantile(reference, chance, interpolation="lower")
        beyond_N = distance_N - limit
        values[f"{NAME}/{name}_{kind}"] = float(torch.where(beyond_N.isnan(), beyond_N, (beyond_N < 0).double()).mean())
        if name == "copy_rate":
            values[f"{NAME}/nearness_{kind}"] = float((1 - distance_N / reference.median()).mean())
    return values


def _same(count: int, twins: Sequence[Sequence[int]]) -> torch.Tensor:
    """Tell which training images show the same, (M, M): each itself and its twins, unless all are twins."""
    import torch

    itself_MM = torch.eye(count, dtype=torch.bool)
    same_MM = itself_MM.clone()
    for group in twins:
        places = torch.tensor(group)
        same_MM[places[:, None], places] = True
    return itself_MM if same_MM.all() else same_MM


def _reference(held_out_H: torch.Tensor, others_M: torch.Tensor) -> torch.Tensor:
    """Return distances of pictures that are no copies; images that have a near-duplicate say nothing.

    What is usual, and too near for it, held-out images tell as well: of these none has a twin here.
    """
    import torch

    if len(held_out_H) >= ENOUGH_HELD_OUT:
        return held_out_H
    apart_M = others_M[others_M > EXACT]
    usual = max((float(each.median()) for each in (apart_M, held_out_H) if len(each)), default=0.0)
    return torch.cat([held_out_H, apart_M[apart_M > DUPLICATE * usual]])


def _why_not(context: JudgeContext, drawn: Sequence[Image.Image], base: Sequence[Image.Image]) -> str:
    """Tell why copies cannot be counted; empty when they can."""
    if not drawn or not base:
        return f"no pictures with the trigger at step {context.step}, or none by the base"
    gallery = context.gallery
    return _too_few(len(gallery.train), len(gallery.held_out)) if gallery is not None else _too_few(0, 0)


def _too_few(train: int, held_out: int) -> str:
    if train < 2:
        return "needs two training images"
    if train + held_out < MIN_REFERENCE:
        return f"needs {MIN_REFERENCE} images to learn how near is too near, got {train + held_out}"
    return ""


def _magnitude(context: JudgeContext) -> Measurement:
    """Return the magnitude ratio; forward passes only."""
    name = f"{NAME}/magnitude_ratio"
    seen, recombined = context.magnitudes("training"), context.magnitudes("recombined")
    if seen is None or recombined is None:
        return Measurement(missing={name: NO_CAPTIONS})
    adapted = seen.adapted.median() / recombined.adapted.median()
    base = seen.base.median() / recombined.base.median()
    return Measurement(values={name: float((adapted / base).log())})
