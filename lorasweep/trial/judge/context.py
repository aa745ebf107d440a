"""Everything that a metric may look at, with the answers that several metrics share asked for only once.

Takes the live base and adapter, the records, the probes and the pictures; gives per-row losses and pictures
by tier. Knows nothing about what the numbers mean.

Letters: N rows of a set of probes.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from lorasweep.core.judging import EncoderName, Gallery, Magnitudes, NoiseName, Part, Picture, Rows, SetName
from lorasweep.core.protocols import Adapter, Base, Encoder, ImageList, Text
from lorasweep.core.records import Plan, PromptTier, Recipe
from lorasweep.trial import lora_weight
from lorasweep.trial.judge import encoders
from lorasweep.trial.judge import probes as probing
from lorasweep.trial.judge.encoders.frozen_base import FrozenBase
from lorasweep.trial.judge.encoders.local import Clip
from lorasweep.trial.judge.encoders.mask import Masked, subject_words
from lorasweep.trial.judge.encoders.prompt_fit import FitByBase, FitByClip
from lorasweep.trial.judge.features import FeatureCache

if TYPE_CHECKING:
    import torch

    from lorasweep.trial.judge.probes import ProbeBatch, Probes
    from lorasweep.trial.judge.score import Kind
    from lorasweep.trial.sample import Sample

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class JudgeContext:
    """One adapter at one step, about to be judged: what `protocols.JudgeContext` says that metrics may ask."""

    base: Base  # live, as the adapter, and left as they were
    adapter: Adapter
    recipe: Recipe
    plan: Plan
    probes: Probes  # from `probe_builder.build`
    weight: float  # the judged LoRA weight
    samples: Sequence[Sample]  # pictures drawn at this step, at any weights; may be empty
    base_samples: Sequence[Sample]  # the base's pictures for the same prompts and seeds
    reader: Any  # reads a dollhouse picture back (`lorasweep.dollhouse.reader`); None on any other base
    step: int  # optimizer steps so far
    history: Sequence[Mapping[str, float]] = ()  # values of the earlier rungs, oldest first
    # (k, K): every K-th unit of the evidence (probe images, pictures) from the k-th on is not looked at; None: all is
    left_out: tuple[int, int] | None = None
    gallery: Gallery | None = None  # from `gallery.build`; None leaves out what compares with it
    feature_cache: FeatureCache = field(default_factory=FeatureCache, repr=False, compare=False)
    fidelity: Kind | None = None  # what F is read from in this trial, once that is settled (`score.kind_of`)
    # what these very weights of the adapter have said about the probes so far, at any LoRA weight; added to
    answers: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    _cache: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def leaving_out(self, part: int, parts: int, *, history: Sequence[Mapping[str, float]]) -> JudgeContext:
        """Return the same with one part of the evidence left out; forward passes already made are not made again."""
        return replace(self, left_out=(part, parts), history=history)

    def at_weight(self, weight: float) -> JudgeContext:
        """Return the same checkpoint at another weight, about which there is no history."""
        return replace(self, weight=weight, history=(), _cache={})

    @functools.cached_property
    def trains_text(self) -> bool:
        """See the protocol."""
        return lora_weight.trains_text(self.adapter)

    @property
    def probe_sets(self) -> Collection[SetName]:
        """See the protocol."""
        return self.probes.sets

    def losses(
        self, name: SetName, weight: float, *, trigger: bool = True, part: Part = "both", first_noise: bool = False
    ) -> Rows:
        """See the protocol."""
        batches = self._batches(name, first_noise)
        found = [loss_B for loss_B, _ in self._answers(batches, weight, trigger, part)]
        base = [batch.base_loss_B if trigger else batch.base_plain_loss_B for batch in batches]
        return self._rows(batches, found, base)

    def drift(self, name: SetName, weight: float, *, part: Part = "both") -> Rows:
        """See the protocol."""
        batches, path = self._batches(name, False), self.base.path
        # In units of the noise that an answer implies, epsilon's own: means over levels are then alike on every path.
        units = [path.snr(batch.t_B) / path.error_scale(batch.t_B) for batch in batches]
        answers = self._answers(batches, weight, True, part)
        found = [distance_B * unit_B for (_, distance_B), unit_B in zip(answers, units, strict=True)]
        base = [batch.base_loss_B * unit_B for batch, unit_B in zip(batches, units, strict=True)]
        return self._rows(batches, found, base)

    def magnitudes(self, name: NoiseName) -> Magnitudes | None:
        """See the protocol."""
        batch = self.probes.noise.get(name)
        if batch is None:
            return None

        key = ("magnitudes", name, self.weight)
        if key not in self.answers:
            with lora_weight.lora_weight(self.base, self.adapter, self.weight):
                texts = [batch.text, batch.empty]
                if self.trains_text:
                    texts = [self.base.encode_captions(w) for w in (batch.captions, [""] * len(batch.captions))]
                asked = [self.base.predict(batch.noisy_BCHW, batch.t_B, text, batch.frames) for text in texts]
            adapted = probing.row_norm(asked[0], asked[1]).cpu().double()
            self.answers[key] = Magnitudes(adapted=adapted, base=batch.base_norm_B.cpu().double())
        found: Magnitudes = self.answers[key]
        return found

    def memoized(self, key: str, compute: Callable[[], T]) -> T:
        """See the protocol."""
        if key not in self._cache:
            self._cache[key] = compute()
        found: T = self._cache[key]
        return found

    def pictures(self, *tiers: PromptTier) -> list[Picture]:
        """See the protocol."""
        return [self._opened(sample) for tier in tiers for sample in self._samples_of(tier)]

    def base_pictures(self, *tiers: PromptTier) -> list[Picture]:
        """See the protocol."""
        found = []
        for tier in tiers:
            wanted = {(s.request.prompt, s.request.seed) for s in self._samples_of(tier)}
            mine = [s for s in self.base_samples if s.request.tier == tier]
            found += [self._opened(s) for s in mine if (s.request.prompt, s.request.seed) in wanted]
        return found

    def _samples_of(self, tier: PromptTier) -> list[Sample]:
        # Numbered over all tiers, so that a part that is left out takes from each tier in turn.
        judged = [sample for sample in self.samples if sample.request.weight == self.weight]
        mine = [(place, sample) for place, sample in enumerate(judged) if sample.request.tier == tier]
        kept = [sample for place, sample in mine if not self._is_left_out(place)]
        return kept or [sample for _, sample in mine]

    def _is_left_out(self, place: int) -> bool:
        return self.left_out is not None and place % self.left_out[1] == self.left_out[0]

    def features(
        self, pictures: ImageList, *, encoder: Encoder | None = None, keep: bool = False
    ) -> dict[str, torch.Tensor]:
        """See the protocol."""
        return self.feature_cache.features(
            encoder or FrozenBase(self.base),
            pictures,
            keep=keep,
            while_encoding=lambda: lora_weight.lora_weight(self.base, self.adapter, 0.0),
        )

    def encoder(self, name: EncoderName, *, subject_only: bool = False) -> Encoder | None:
        """See the protocol."""
        found = encoders.load(name, self.base, self.recipe.encoders)
        words = subject_words(self.recipe, self.plan) if subject_only else ""
        return Masked(found, self.base, words) if found is not None and words else found

    def prompt_fit(self, name: EncoderName, prompts: tuple[str, ...]) -> Encoder | None:
        """See the protocol."""
        if name == "base":
            return FitByBase(self.base, prompts)
        clip = self.encoder(name)
        return FitByClip(clip, prompts) if isinstance(clip, Clip) else None

    def _opened(self, sample: Sample) -> Picture:
        image = self.memoized(f"picture {sample.file}", sample.open)
        return Picture(prompt=sample.request.prompt, seed=sample.request.seed, image=image)

    def _batches(self, name: SetName, first_noise: bool) -> list[ProbeBatch]:
        return [batch for batch in self.probes.sets[name] if not first_noise or batch.draw == 0]

    def _answers(
        self, batches: Sequence[ProbeBatch], weight: float, trigger: bool, part: Part
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Ask once for squared error, and squared distance from the base, of each row of each batch."""
        how = (weight, trigger, part)
        keys = [("answers", batch, *how) for batch in batches]
        if not all(key in self.answers for key in keys):
            if how == (self.weight, True, "both"):
                # Those of all sets, which other metrics ask for: an adapter is merged once, not once a set.
                batches = [batch for batches in self.probes.sets.values() for batch in batches]
            every = {("answers", batch, *how): batch for batch in batches}
            fresh = {key: batch for key, batch in every.items() if key not in self.answers}
            asked = list(fresh.values())
            said = self._predictions(asked, self._texts(asked, weight, trigger, part), weight, part)
            for key, batch, said_BCHW in zip(fresh, asked, said, strict=True):
                self.answers[key] = (
                    probing.row_mse(said_BCHW, batch.target_BCHW),
                    probing.row_mse(said_BCHW, batch.base_BCHW),
                )
        return [self.answers[key] for key in keys]

    def _texts(self, batches: Sequence[ProbeBatch], weight: float, trigger: bool, part: Part) -> list[Text]:
        """Encode captions of each batch as the text encoders, adapted if they are, understand them."""
        if not self.trains_text or part == "unet":
            return [batch.text if trigger else batch.plain_text for batch in batches]
        with lora_weight.lora_weight(self.base, self.adapter, weight):
            return [self.base.encode_captions(batch.captions if trigger else batch.plain_captions) for batch in batches]

    def _predictions(
        self, batches: Sequence[ProbeBatch], texts: Sequence[Text], weight: float, part: Part
    ) -> list[torch.Tensor]:
        with lora_weight.lora_weight(self.base, self.adapter, 0.0 if part == "text_encoder" else weight):
            return [
                answer for asked in _together(batches, texts) for answer in self._predict(*zip(*asked, strict=True))
            ]

    def _predict(self, batches: Sequence[ProbeBatch], texts: Sequence[Text]) -> Sequence[torch.Tensor]:
        """Ask the base about batches of one shape in one forward pass."""
        import torch

        text = {name: torch.cat([text[name] for text in texts]) for name in texts[0]}
        frames = [frame for batch in batches for frame in batch.frames]
        noisy_BCHW, t_B = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("noisy_BCHW", "t_B"))
        return self.base.predict(noisy_BCHW, t_B, text, frames).split([len(batch.t_B) for batch in batches])

    def _rows(
        self, batches: Sequence[ProbeBatch], adapted: Sequence[torch.Tensor], base: Sequence[torch.Tensor]
    ) -> Rows:
        """Return one table of several batches, without the images that are left out, unless none would stay."""
        import torch

        image_N = torch.cat([batch.image_B for batch in batches]).cpu()
        kept_N = torch.tensor([not self._is_left_out(image) for image in image_N.tolist()])
        kept_N |= ~kept_N.any()
        return Rows(
            adapted=torch.cat(list(adapted)).cpu().double()[kept_N],
            base=torch.cat(list(base)).cpu().double()[kept_N],
            timestep=torch.cat([batch.timestep_B for batch in batches])[kept_N],
            image=image_N[kept_N],
        )


def _together(batches: Sequence[ProbeBatch], texts: Sequence[Text]) -> Iterator[list[tuple[ProbeBatch, Text]]]:
    """Group neighbours of one shape to as many rows as a forward pass takes."""

    def shape(asked: tuple[ProbeBatch, Text]) -> Any:
        return asked[0].noisy_BCHW.shape[1:], {name: tensor.shape[1:] for name, tensor in asked[1].items()}

    for _, alike in itertools.groupby(zip(batches, texts, strict=True), shape):
        group: list[tuple[ProbeBatch, Text]] = []
        for asked in alike:
            if group and sum(len(batch.t_B) for batch, _ in [*group, asked]) > probing.MAX_ROWS:
                yield group
                group = []
            group.append(asked)
        yield group
