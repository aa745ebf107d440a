"""Everything that a metric may look at, with the answers that several metrics share asked for only once.

Takes the live base and adapter, the records, the probes and the pictures; gives per-row losses and pictures
by tier. Knows nothing about what the numbers mean.

Letters: N rows of a set of probes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from lorasweep.trial import lora_weight
from lorasweep.trial.judge import probes as probing
from lorasweep.trial.judge.encoders.frozen_base import FrozenBase
from lorasweep.trial.judge.features import FeatureCache

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from lorasweep.core.protocols import Adapter, Base, Text
    from lorasweep.core.records import Plan, PromptTier, Recipe
    from lorasweep.trial.judge.encoders import Encoder
    from lorasweep.trial.judge.gallery import Gallery
    from lorasweep.trial.judge.probes import NoiseName, ProbeBatch, Probes, SetName
    from lorasweep.trial.judge.score import Kind
    from lorasweep.trial.sample import Sample

Answer = TypeVar("Answer")
# Which of the parts that an adapter trains is at work.
Part = Literal["both", "unet", "text_encoder"]  # the denoiser, all text encoders
PARTS: tuple[Part, ...] = ("unet", "text_encoder")


@dataclass(frozen=True, kw_only=True)
class Rows:
    """One number per probe row, and which row is which; all (N,)."""

    adapted: torch.Tensor
    base: torch.Tensor
    timestep: torch.Tensor
    image: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Magnitudes:
    """How hard captions pull on pure noise: norm of the difference that each makes; both (N,)."""

    adapted: torch.Tensor
    base: torch.Tensor


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
        left_out: (k, K): of the evidence (probe images, pictures) every K-th unit from the k-th on is not
            looked at, for standard errors; None looks at all.
        gallery: the dataset as pictures, from `gallery.build`; None leaves out what compares with it.
        feature_cache: of this process, or of nobody but this context.
        fidelity: what F is read from in this trial, once that is settled (`score.kind_of`).
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
    left_out: tuple[int, int] | None = None
    gallery: Gallery | None = None
    feature_cache: FeatureCache = field(default_factory=FeatureCache, repr=False, compare=False)
    fidelity: Kind | None = None
    _asked: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def leaving_out(self, part: int, parts: int, *, history: Sequence[Mapping[str, float]]) -> JudgeContext:
        """The same with one part of the evidence left out; forward passes already made are not made again."""
        return replace(self, left_out=(part, parts), history=history)

    @property
    def trains_text(self) -> bool:
        """Whether the adapter sits in the text encoder too, so that its parts can be judged apart."""
        return lora_weight.trains_text(self.adapter)

    def losses(
        self,
        name: SetName,
        weight: float,
        *,
        trigger: bool = True,
        part: Part = "both",
        first_noise: bool = False,
    ) -> Rows:
        """Squared error of the prediction per row, adapted and base.

        Args:
            name: a set that `probes.sets` has.
            weight: LoRA weight.
            trigger: False asks with captions from which the trigger was removed.
            part: what of the adapter is at work.
            first_noise: only the rows of every image's first noise, for questions that need fewer.
        """
        batches = self._batches(name, first_noise)
        found = [loss_B for loss_B, _ in self._answers(batches, weight, trigger, part)]
        base = [batch.base_loss_B if trigger else batch.base_plain_loss_B for batch in batches]
        return self._rows(batches, found, base)

    def drift(self, name: SetName, weight: float, *, part: Part = "both") -> Rows:
        """Squared distance between adapted and base prediction per row, beside the base's squared error."""
        batches = self._batches(name, False)
        found = [distance_B for _, distance_B in self._answers(batches, weight, True, part)]
        return self._rows(batches, found, [batch.base_loss_B for batch in batches])

    def magnitudes(self, name: NoiseName) -> Magnitudes | None:
        """How hard captions pull on pure noise at the weight that counts; None without such captions."""
        batch = self.probes.noise.get(name)
        if batch is None:
            return None
        key = ("magnitudes", name, self.weight)
        if key not in self._asked:
            with lora_weight.at_weight(self.base, self.adapter, self.weight):
                texts = [batch.text, batch.empty]
                if self.trains_text:
                    texts = [self.base.encode_captions(w) for w in (batch.captions, [""] * len(batch.captions))]
                asked = [self.base.predict(batch.noisy_BCHW, batch.t_B, text, batch.frames) for text in texts]
            adapted = probing.row_norm(asked[0], asked[1]).double().cpu()
            self._asked[key] = Magnitudes(adapted=adapted, base=batch.base_norm_B.double().cpu())
        found: Magnitudes = self._asked[key]
        return found

    def remembered(self, key: str, compute: Callable[[], Answer]) -> Answer:
        """What `compute` gives, computed once for this checkpoint whatever evidence is left out."""
        if key not in self._asked:
            self._asked[key] = compute()
        answer: Answer = self._asked[key]
        return answer

    def pictures(self, tier: PromptTier) -> list[tuple[Sample, Image.Image]]:
        """This step's pictures of a tier at the weight that counts."""
        # Numbered over all tiers, so that a part that is left out takes from each tier in turn.
        counted = [sample for sample in self.samples if sample.request.weight == self.weight]
        mine = [(place, s) for place, s in enumerate(counted) if s.request.tier == tier]
        kept = [sample for place, sample in mine if not self._is_left_out(place)]
        return [(sample, self._opened(sample)) for sample in kept or [sample for _, sample in mine]]

    def base_pictures(self, tier: PromptTier) -> list[tuple[Sample, Image.Image]]:
        """The base's pictures for the prompts and seeds of `pictures(tier)`."""
        wanted = {(s.request.prompt, s.request.seed) for s, _ in self.pictures(tier)}
        return [
            (sample, self._opened(sample))
            for sample in self.base_samples
            if sample.request.tier == tier and (sample.request.prompt, sample.request.seed) in wanted
        ]

    def _is_left_out(self, place: int) -> bool:
        return self.left_out is not None and place % self.left_out[1] == self.left_out[0]

    def _thinned(self, rows: Rows) -> Rows:
        """The rows without the images that are left out, unless none would stay."""
        import torch

        kept_N = torch.tensor([not self._is_left_out(image) for image in rows.image.tolist()])
        if self.left_out is None or not kept_N.any():
            return rows
        return Rows(
            adapted=rows.adapted[kept_N],
            base=rows.base[kept_N],
            timestep=rows.timestep[kept_N],
            image=rows.image[kept_N],
        )

    def features(
        self, pictures: Sequence[Image.Image], *, encoder: Encoder | None = None, keep: bool = False
    ) -> dict[str, torch.Tensor]:
        """Features of pictures of one size, with the adapter silenced; (B, ...) by name.

        Args:
            pictures: at least one, RGB.
            encoder: the frozen base when None.
            keep: pictures that come back in other trials: the base's and the dataset's.
        """
        with lora_weight.at_weight(self.base, self.adapter, 0.0):
            return self.feature_cache.features(encoder or FrozenBase(self.base), pictures, keep=keep)

    def _opened(self, sample: Sample) -> Image.Image:
        key = ("picture", sample.file)
        if key not in self._asked:
            self._asked[key] = sample.open()
        picture: Image.Image = self._asked[key]
        return picture

    def _batches(self, name: SetName, first_noise: bool) -> list[ProbeBatch]:
        return [batch for batch in self.probes.sets[name] if not first_noise or batch.draw == 0]

    def _answers(
        self, batches: Sequence[ProbeBatch], weight: float, trigger: bool, part: Part
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Squared error, and squared distance from the base, of each row of each batch; asked for once."""
        keys = [("answers", id(batch), weight, trigger, part) for batch in batches]  # probes outlive this
        fresh = {key: batch for key, batch in zip(keys, batches, strict=True) if key not in self._asked}
        if fresh:
            asked = list(fresh.values())
            said = self._predictions(asked, self._texts(asked, weight, trigger, part), weight, part)
            for key, batch, said_BCHW in zip(fresh, asked, said, strict=True):
                self._asked[key] = (
                    probing.row_mse(said_BCHW, batch.target_BCHW),
                    probing.row_mse(said_BCHW, batch.base_BCHW),
                )
        return [self._asked[key] for key in keys]

    def _texts(self, batches: Sequence[ProbeBatch], weight: float, trigger: bool, part: Part) -> list[Text]:
        """Captions of each batch as the text encoders, adapted if they are, understand them."""
        if not self.trains_text or part == "unet":
            return [batch.text if trigger else batch.plain_text for batch in batches]
        with lora_weight.at_weight(self.base, self.adapter, weight):
            return [self.base.encode_captions(batch.captions if trigger else batch.plain_captions) for batch in batches]

    def _predictions(
        self, batches: Sequence[ProbeBatch], texts: Sequence[Text], weight: float, part: Part
    ) -> list[torch.Tensor]:
        with lora_weight.at_weight(self.base, self.adapter, 0.0 if part == "text_encoder" else weight):
            return [
                self.base.predict(batch.noisy_BCHW, batch.t_B, text, batch.frames)
                for batch, text in zip(batches, texts, strict=True)
            ]

    def _rows(
        self, batches: Sequence[ProbeBatch], adapted: Sequence[torch.Tensor], base: Sequence[torch.Tensor]
    ) -> Rows:
        """One table of several batches, without the images that are left out."""
        import torch

        rows = Rows(
            adapted=torch.cat(list(adapted)).double().cpu(),
            base=torch.cat(list(base)).double().cpu(),
            timestep=torch.cat([batch.timestep_B for batch in batches]),
            image=torch.cat([batch.image_B for batch in batches]).cpu(),
        )
        return self._thinned(rows)
