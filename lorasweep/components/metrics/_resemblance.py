"""How like the training pictures are other pictures, where no reader knows the subject?

    scale = make_scale(context, encoder's name, the base's pictures)
    scale.likeness(pictures)[0]      0 as the base's pictures of the same prompts, 1 as the subject's
    scale.gain(pictures, base's)     how much more of the subject they show than the base's did

What identity and bleed share. Published encoders are asked as their papers ask them, by cosines; the base
itself by means, because its features hold scene and style before they hold anybody's face, and only
differences between many pictures bring the subject out.

Letters: N pictures, M training pictures, T tiles, D numbers per tile or picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from lorasweep.components.metrics import _similarity as similarity
from lorasweep.components.metrics._offers import by_ending, not_here
from lorasweep.core.judging import EncoderName, Gallery
from lorasweep.core.protocols import Encoder, JudgeContext
from lorasweep.core.records import Measurement, Plan

if TYPE_CHECKING:
    import torch
    from PIL import Image

    Pictures = Sequence[Image.Image]

LEAST_SPAN = 0.02  # between the base's pictures and the subject's, below which an encoder is blind
FEWEST = 2  # pictures on either side
TOO_FEW_TRAINED, TOO_FEW_DRAWN = "needs two training images", "needs two pictures"
DETAILS = {  # of a likeness, by the kind of encoder
    "base": ("distance", "base_distance"),
    "published": ("resemblance", "base_resemblance", "held_out_resemblance"),
}


def ask_encoders(ask: Callable[[str], Measurement], encoder: str, also: Sequence[str]) -> Measurement:
    """Ask the encoder that counts, and others under names ending in theirs."""
    found = Measurement()
    for ending, each in by_ending(encoder, also).items():
        answer = ask(each)
        found.values.update({f"{name}{ending}": value for name, value in answer.values.items()})
        found.missing.update({f"{name}{ending}": why for name, why in answer.missing.items()})
    return found


def too_few(plan: Plan, drawn: int) -> str:
    """Tell why nothing can be said of so many pictures, before they are drawn; empty when it can."""
    if len(plan.train_images()) < FEWEST:
        return TOO_FEW_TRAINED
    return TOO_FEW_DRAWN if drawn < FEWEST else ""


class CannotTell(Exception):
    """Why an encoder has nothing to say about a dataset."""


Likeness = tuple[float, dict[str, float]]  # a number, and what it came from


class SimilarityScale(Protocol):
    """How like the subject pictures are, as one encoder sees one dataset."""

    def likeness(self, pictures: Pictures) -> Likeness:
        """Return how like the subject's pictures are: 0 like the base's, 1 like the subject's; may lie outside."""

    def gain(self, pictures: Pictures, base: Pictures) -> float:
        """Return how much more of the subject pictures show than the base's for the same prompts, on that scale."""


def make_scale(context: JudgeContext, name: EncoderName, base_pictures: Pictures) -> SimilarityScale:
    """Make the scale of one encoder for a dataset; its zero are the base's pictures for the prompts in question.

    Raises:
        CannotTell: there is no such encoder here, too few pictures, or no difference that it sees.
    """
    encoder = context.encoder(name, subject_only=True)
    if encoder is None:
        raise CannotTell(not_here(name))
    if context.gallery is None or len(context.gallery.train) < FEWEST:
        raise CannotTell(TOO_FEW_TRAINED)
    if len(base_pictures) < FEWEST:
        raise CannotTell("needs two pictures by the base")
    if name == "base":
        return ByMeans(context, context.gallery, base_pictures)
    return ByCosines(context, context.gallery, name, encoder, base_pictures)


class ByMeans:
    """By the frozen base: how far the mean picture has gone from the base's to the subject's, tile by tile.

    With d^2(a, b) the squared distance of two sets' mean features, freed of what scatter within them adds,

        likeness = 1 - d^2(drawn, training) / d^2(base's, training)
        gain     = <drawn - base's, training - all of the base's> / |training - all of the base's|^2 (means)

    The mean over prompts leaves scenes behind, because the base drew the same ones. A picture that overshoots
    the subject, or falls apart, is far from it again.

    Source: the unbiased estimator of the kernel distance (Gretton et al., JMLR 13, 2012, eq. 3; on deep
    features KID, arXiv 1801.01401), with a linear kernel. The ratios are ours.
    """

    def __init__(self, context: JudgeContext, gallery: Gallery, base_pictures: Pictures) -> None:
        self._context = context
        self._reference_NTD = context.features(base_pictures, keep=True)["features"]
        self._base_ND = similarity.standardised(self._reference_NTD, self._reference_NTD).flatten(1)
        self._train_MD = self._features(gallery.train, keep=True)
        self._apart = squared_distance(self._base_ND, self._train_MD)
        if self._apart < LEAST_SPAN:
            raise CannotTell("the base cannot tell the subject from what it draws")

    def likeness(self, pictures: Pictures) -> Likeness:
        """See the class; at least two pictures. Distances are per number, in the base's own spread."""
        mine = squared_distance(self._features(pictures), self._train_MD)
        details = zip(DETAILS["base"], (mine, self._apart), strict=True)
        return 1 - mine / self._apart, dict(details)

    def gain(self, pictures: Pictures, base: Pictures) -> float:
        """See the class."""
        to_subject_D = self._train_MD.mean(0) - self._base_ND.mean(0)
        moved_D = self._features(pictures).mean(0) - self._features(base, keep=True).mean(0)
        return float(moved_D @ to_subject_D / to_subject_D.square().sum())

    def _features(self, pictures: Pictures, *, keep: bool = False) -> torch.Tensor:
        raw_NTD = self._context.features(pictures, keep=keep)["features"]
        return similarity.standardised(raw_NTD, self._reference_NTD).flatten(1)


class ByCosines:
    """By a published encoder: mean cosine with the training pictures, the background greyed out.

    Backgrounds are greyed out with the words that nearly all captions share; where captions share none, the
    whole picture counts. The scale is 0 for the base's pictures and 1 for held-out images, or for training
    pictures with the other ones where none are held out.

    Source: mean pairwise cosine as DreamBooth's CLIP-I and DINO (arXiv 2208.12242, section 4.1), the
    background masked as in T-LoRA (arXiv 2507.05964); the scale is ours, so that encoders can be compared.
    """

    def __init__(
        self, context: JudgeContext, gallery: Gallery, name: EncoderName, encoder: Encoder, base_pictures: Pictures
    ) -> None:
        self._context, self._encoder = context, encoder
        self._train_MD = self._features(gallery.train, keep=True)
        held_out = gallery.held_out
        self._none = self._cosine(base_pictures, keep=True)
        self._full = self._cosine(held_out, keep=True) if held_out else self._among_training()
        if self._full - self._none < LEAST_SPAN:
            raise CannotTell(f"{name} cannot tell the subject from what the base draws")

    def likeness(self, pictures: Pictures) -> Likeness:
        """See the class; details are mean cosines with the training pictures, each in [-1, 1]."""
        mine = self._cosine(pictures)
        details = zip(DETAILS["published"], (mine, self._none, self._full), strict=True)
        return self._place(mine), dict(details)

    def gain(self, pictures: Pictures, base: Pictures) -> float:
        """Return likeness over the base's."""
        return self._place(self._cosine(pictures)) - self._place(self._cosine(base, keep=True))

    def _place(self, cosine: float) -> float:
        return (cosine - self._none) / (self._full - self._none)

    def _cosine(self, pictures: Pictures, *, keep: bool = False) -> float:
        features_ND = self._features(pictures, keep=keep)
        return float(similarity.cosines(features_ND.double(), self._train_MD.double()).mean())

    def _among_training(self) -> float:
        import torch

        cosines_MM = similarity.cosines(self._train_MD.double(), self._train_MD.double())
        return float(cosines_MM[~torch.eye(len(cosines_MM), dtype=torch.bool)].mean())

    def _features(self, pictures: Pictures, *, keep: bool) -> torch.Tensor:
        return self._context.features(pictures, encoder=self._encoder, keep=keep)["whole"]


def squared_distance(left_ND: torch.Tensor, right_MD: torch.Tensor) -> float:
    """Return unbiased squared distance of two sets' means, two or more rows each, per number; about 0 for one kind."""
    between = (left_ND.mean(0) - right_MD.mean(0)).square()
    scatter = sum(rows.var(0, correction=1) / len(rows) for rows in (left_ND, right_MD))
    return float((between - scatter).mean())
