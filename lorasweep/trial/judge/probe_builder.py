"""Build the probes: choose images, draw prior pictures and noises, let the base answer.

Takes a base, a recipe, its plan and the caches, gives `probes.Probes`. Everything is drawn from generators
derived from `dataset.holdout_seed` and the images' bytes, so the order of files changes nothing. The adapter
must be silent. Knows nothing about metrics.

Letters: B rows, C H W latent.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lorasweep.components.metrics._offers import prior_prompts
from lorasweep.core import seeds
from lorasweep.core.judging import NoiseName, PriorTier, SetName, probe_timesteps
from lorasweep.core.protocols import Adapter, Base
from lorasweep.core.records import Frame, Plan, PlannedImage, Recipe
from lorasweep.data.captions import without_trigger
from lorasweep.trial import lora_weight
from lorasweep.trial.cache import LatentCache, TextCache
from lorasweep.trial.denoise import denoise
from lorasweep.trial.judge import probes
from lorasweep.trial.judge.probes import NoiseBatch, ProbeBatch, ProbeOptions, Probes, SetNames


def build(
    base: Base,
    recipe: Recipe,
    plan: Plan,
    *,
    latents: LatentCache,
    texts: TextCache,
    adapter: Adapter | None = None,
    options: ProbeOptions = probes.DEFAULTS,
    wanted: SetNames = probes.ALL_SETS,
) -> Probes:
    """Build the sets of probes that are wanted; the adapter that lives in the base right now is silenced.

    The recipe gives the seed, the caption rules and the guidance at which the base draws prior pictures.
    """
    with lora_weight.lora_weight(base, adapter, 0.0):
        return _ProbeBuilder(base, recipe, plan, latents, texts, options).build(wanted)


class _ProbeBuilder:
    """One construction: draws from generators derived from the hold-out seed, asks the base as it goes."""

    def __init__(
        self, base: Base, recipe: Recipe, plan: Plan, latents: LatentCache, texts: TextCache, options: ProbeOptions
    ) -> None:
        self._base, self._recipe, self._plan = base, recipe, plan
        self._latents, self._texts, self._options = latents, texts, options
        self._timesteps = probe_timesteps(options.buckets)
        self._size_px = recipe.picture_px

    def build(self, wanted: SetNames) -> Probes:
        """Build every wanted set that has something to look at."""
        train = self._choose(self._plan.train_images())
        images: dict[SetName, list[PlannedImage]] = {
            "train": train,
            "held_out": self._choose(self._plan.held_out_images()),
        }
        sets = {name: self._of_images(chosen) for name, chosen in images.items() if name in wanted and chosen}
        for tier, prompts in prior_prompts(self._recipe, self._plan, train).items():
            if tier in wanted:
                sets[tier] = self._of_prompts(tier, prompts)
        noise = self._noise_batches(train, wanted)
        return Probes(
            sets=sets,
            timesteps=self._timesteps,
            noise=noise,
            digest=probes.content(sets, noise),
        )

    def _choose(self, images: Sequence[PlannedImage]) -> list[PlannedImage]:
        """Choose not too many images, by a hash of their bytes: stable when folder order or buckets change."""
        seed = self._recipe.dataset.holdout_seed
        return sorted(images, key=lambda image: seeds.derive(seed, "probe", image.sha256))[: self._options.pairs]

    def _of_images(self, images: Sequence[PlannedImage]) -> tuple[ProbeBatch, ...]:
        seed = self._recipe.dataset.holdout_seed
        latents = []
        for image in images:
            mean_CHW, std_CHW = self._latents.mean_std(image)
            draw = torch.randn(mean_CHW.shape, generator=_generator(seed, "latent", image.sha256))
            latents.append(mean_CHW.cpu().float() + std_CHW.cpu().float() * draw)
        captions = [image.caption for image in images]
        noises = min(self._options.noises, -(-self._options.pairs // len(images)))
        frames = [image.frame for image in images]
        return self._batches(latents, captions, frames, [image.sha256 for image in images], noises)

    def _of_prompts(self, name: PriorTier, prompts: Sequence[str]) -> tuple[ProbeBatch, ...]:
        """Let the base draw what it knows: the distribution whose loss is to be noticed."""
        seed = self._recipe.dataset.holdout_seed
        images = self._options.prior_images
        captions = [prompts[place % len(prompts)] for place in range(images)]
        shape = self._base.latent.of(*self._size_px)
        noises = [torch.randn(shape, generator=_generator(seed, name, place)) for place in range(images)]
        guided = self._recipe.sample.guidance > 1
        negatives = [self._recipe.base.negative_prompt] * images
        together = self._texts.embed([*captions, *negatives])  # so that all are padded alike
        frames = [Frame.whole(*self._size_px)] * images
        with self._base.drawing() as base:
            drawn_BCHW = denoise(
                base,
                torch.stack(noises).to(base.dtype),
                {key: tensor[:images] for key, tensor in together.items()},
                {key: tensor[images:] for key, tensor in together.items()} if guided else None,
                frames,
                sampler="ddim",
                steps=self._options.prior_steps,
                guidance=self._recipe.sample.guidance,
            )
        marks = [f"{name}/{place}" for place in range(images)]
        return self._batches(list(drawn_BCHW.cpu()), captions, frames, marks, 1)

    def _batches(
        self,
        latents: Sequence[torch.Tensor],
        captions: Sequence[str],
        frames: Sequence[Frame],
        marks: Sequence[str],
        noises: int,
    ) -> tuple[ProbeBatch, ...]:
        """Cross images with noises and timesteps, in batches of one noise and shape; `marks` name noises."""
        rows: dict[tuple[int, ...], list[tuple[int, int, torch.Tensor]]] = {}
        for place, (latent_CHW, mark) in enumerate(zip(latents, marks, strict=True)):
            for draw in range(noises):
                for t in self._timesteps:
                    generator = _generator(self._recipe.dataset.holdout_seed, "noise", mark, draw, t)
                    noise_CHW = torch.randn(latent_CHW.shape, generator=generator)
                    rows.setdefault((draw, *latent_CHW.shape), []).append((place, t, noise_CHW))
        return tuple(
            self._batch(group[start : start + probes.MAX_ROWS], latents, captions, frames, draw=draw)
            for (draw, *_), group in rows.items()
            for start in range(0, len(group), probes.MAX_ROWS)
        )

    def _batch(
        self,
        rows: Sequence[tuple[int, int, torch.Tensor]],
        latents: Sequence[torch.Tensor],
        captions: Sequence[str],
        frames: Sequence[Frame],
        *,
        draw: int,
    ) -> ProbeBatch:
        """Noise the rows and let the base answer, with and without the trigger."""
        base = self._base
        clean_BCHW = torch.stack([latents[place] for place, _, _ in rows])
        noise_BCHW = torch.stack([noise for _, _, noise in rows])
        t_B = torch.stack([base.path.as_noisy_as(timestep) for _, timestep, _ in rows])
        noisy_BCHW = base.path.add(clean_BCHW, noise_BCHW, t_B).to(base.device, base.dtype)
        target_BCHW = base.path.target(clean_BCHW, noise_BCHW, t_B).to(base.device)
        t_B = t_B.to(base.device)
        words = tuple(captions[place] for place, _, _ in rows)
        plain = tuple(without_trigger(text, self._plan.trigger, self._recipe.captions) for text in words)
        told = tuple(frames[place] for place, _, _ in rows)
        text = self._texts.embed(words)
        base_BCHW = base.predict(noisy_BCHW, t_B, text, told)
        base_loss_B = probes.row_mse(base_BCHW, target_BCHW)
        plain_text, base_plain_loss_B = text, base_loss_B
        if plain != words:
            plain_text = self._texts.embed(plain)
            base_plain_loss_B = probes.row_mse(base.predict(noisy_BCHW, t_B, plain_text, told), target_BCHW)
        return ProbeBatch(
            noisy_BCHW=noisy_BCHW,
            target_BCHW=target_BCHW,
            t_B=t_B,
            timestep_B=torch.tensor([timestep for _, timestep, _ in rows]),
            frames=told,
            image_B=torch.tensor([place for place, _, _ in rows]),
            draw=draw,
            captions=words,
            plain_captions=plain,
            text=text,
            plain_text=plain_text,
            base_BCHW=base_BCHW,
            base_loss_B=base_loss_B,
            base_plain_loss_B=base_plain_loss_B,
        )

    def _noise_batches(self, train: Sequence[PlannedImage], wanted: SetNames) -> dict[NoiseName, NoiseBatch]:
        """Make pure noise under captions that were trained on, and under prompts that were not."""
        count = self._options.magnitude_captions
        captions: dict[NoiseName, Sequence[str]] = {
            "training": list(dict.fromkeys(i.caption for i in train if i.caption))[:count],
            "recombined": list(self._plan.prompts.get("recombined", ()))[:count],
        }
        return {name: self._noise_batch(texts) for name, texts in captions.items() if texts and name in wanted}

    def _noise_batch(self, captions: Sequence[str]) -> NoiseBatch:
        base, seed = self._base, self._recipe.dataset.holdout_seed
        shape = base.latent.of(*self._size_px)
        noises = [
            torch.randn(shape, generator=_generator(seed, "pure noise", draw))
            for draw in range(self._options.magnitude_noises)
        ]
        words = tuple(caption for caption in captions for _ in noises)
        noisy_BCHW = torch.stack(noises * len(captions)).to(base.device, base.dtype)
        t_B = base.path.t_of(torch.ones(len(words))).to(base.device)
        frames = (Frame.whole(*self._size_px),) * len(words)
        text, empty = self._texts.embed(words), self._texts.embed([""] * len(words))
        asked = [base.predict(noisy_BCHW, t_B, told, frames) for told in (text, empty)]
        return NoiseBatch(
            noisy_BCHW=noisy_BCHW,
            t_B=t_B,
            frames=frames,
            captions=words,
            text=text,
            empty=empty,
            base_norm_B=probes.row_norm(asked[0], asked[1]),
        )


def _generator(seed: int, *names: str | int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seeds.derive(seed, *names))
