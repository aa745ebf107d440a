"""How like the training pictures are other pictures, by an encoder, the background greyed out?

    resemblance = mean cosine with the training pictures, on a scale where the base's pictures have 0 and the
                  held-out images 1

What identity and bleed share on a base without a reader. Backgrounds are greyed out with the words that
nearly all captions share; where captions share none, the whole picture counts.

Source: mean pairwise cosine as DreamBooth's CLIP-I and DINO (arXiv 2208.12242, section 4.1), the background
masked as in T-LoRA (arXiv 2507.05964); the scale is ours, so that encoders can be compared.

Letters: N pictures, M training pictures, D numbers per picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorasweep.metrics import similarity
from lorasweep.metrics.encoders import choose
from lorasweep.metrics.encoders.mask import Masked, subject_words

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from lorasweep.metrics.context import JudgeContext
    from lorasweep.metrics.encoders.choose import EncoderName

LEAST_SPAN = (
    0.02  # cosine between the base's pictures and the held-out images, below which an encoder is blind
)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Mean cosines with the training pictures.

    Attributes:
        none: of the base's pictures.
        full: of held-out images, or of training pictures with the other ones where none are held out.
    """

    none: float
    full: float

    def place(self, cosine: float) -> float:
        """Where a mean cosine lies: 0 like the base's pictures, 1 like held-out images."""
        return (cosine - self.none) / (self.full - self.none)


class Resemblance:
    """One encoder's view of one dataset; `reason` says why there is none, empty when there is."""

    def __init__(
        self, context: JudgeContext, name: EncoderName, base_pictures: Sequence[Image.Image]
    ) -> None:
        """Look at the dataset.

        Args:
            context: gives the gallery and the base.
            name: of the encoder.
            base_pictures: of the base, for the prompts in question: they are the zero of the scale.
        """
        self._context, self._name = context, name
        self.reason = self._why_not(base_pictures)
        if self.reason:
            return
        self._base_ND = self._features(base_pictures, keep=True)
        assert context.gallery is not None  # noqa: S101 - for the type checker; `_why_not` has looked
        self._train_MD = self._features(context.gallery.train, keep=True)
        held_out = context.gallery.held_out
        full = self._cosine(self._features(held_out, keep=True)) if held_out else self._among_training()
        self.scale = Scale(none=self._cosine(self._base_ND), full=full)
        if self.scale.full - self.scale.none < LEAST_SPAN:
            self.reason = f"{name} cannot tell the subject from what the base draws"

    def of(self, pictures: Sequence[Image.Image]) -> float:
        """Mean cosine of pictures with the training pictures, in [-1, 1]."""
        return self._cosine(self._features(pictures, keep=False))

    def _features(self, pictures: Sequence[Image.Image], *, keep: bool) -> torch.Tensor:
        context = self._context
        encoder = choose.load(self._name, context.base, context.recipe.encoders)
        words = subject_words(context.recipe, context.plan)
        if words and encoder is not None:
            encoder = Masked(encoder, context.base, words)
        return context.features(pictures, encoder=encoder, keep=keep)["whole"]

    def _cosine(self, features_ND: torch.Tensor) -> float:
        return float(similarity.cosines(*self._centred(features_ND, self._train_MD)).mean())

    def _among_training(self) -> float:
        import torch

        cosines_MM = similarity.cosines(*self._centred(self._train_MD, self._train_MD))
        return float(cosines_MM[~torch.eye(len(cosines_MM), dtype=torch.bool)].mean())

    def _centred(self, *features: torch.Tensor) -> list[torch.Tensor]:
        """The UNet's features are nearly parallel and need centring; published encoders' do not."""
        if self._name != "base":
            return [one.double() for one in features]
        return [similarity.standardised(one[:, None], self._base_ND[:, None])[:, 0] for one in features]

    def _why_not(self, base_pictures: Sequence[Image.Image]) -> str:
        context = self._context
        if choose.load(self._name, context.base, context.recipe.encoders) is None:
            return choose.not_here(self._name)
        if context.gallery is None or len(context.gallery.train) < 2:
            return "needs two training images"
        return "" if len(base_pictures) > 1 else "needs two pictures by the base"
