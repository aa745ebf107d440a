"""Fixed questions for the denoiser: the same noisy latents, timesteps and captions for every trial and rung.

    Plan  ->  Probes: rows of (x_t, t, caption, target) with the base's answers, for training images, held-out
              images, and pictures that the base itself drew for prompts that have nothing to do with the
              subject; and pure noise with captions that were trained on, and prompts that were not

Losses of different steps, weights and trials are then paired row by row, which is what makes differences of a
few per cent visible (most of the spread of a denoising loss comes from t and from the noise). Everything is
drawn from `dataset.holdout_seed`, never from the recipe's seed. Knows nothing about any metric.

Letters: B rows, C H W latent, L tokens, D text width.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lorasweep import inference, seeds
from lorasweep.data.captions import without_trigger
from lorasweep.records import PlannedImage, digest

if TYPE_CHECKING:
    import numpy as np
    import torch

    from lorasweep.protocols import Adapter, Base, Latents, Texts
    from lorasweep.records import Plan, Recipe

PriorTier = Literal["plain", "class", "neighbour", "unrelated"]
SetName = Literal["train", "held_out", "plain", "class", "neighbour", "unrelated"]
PRIOR_TIERS: tuple[PriorTier, ...] = ("plain", "class", "neighbour", "unrelated")  # from near to far
NoiseName = Literal["training", "recombined"]
MAX_ROWS = 16  # rows per forward pass; bounds memory
KEPT = 4  # sets of probes kept per process: trials of one sweep need one per dataset, base and bucket choice

_built: OrderedDict[str, Probes] = OrderedDict()


@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """How many probes. The defaults cost a judged checkpoint about 140 forward passes, less than 4 samples.

    Attributes:
        buckets: timestep buckets; each is asked at its middle.
        pairs: of image and noise, for training and for held-out images: as many images as there are, and
            where they are few, more noises of each. Images are the sample, so a new one beats a new noise.
        noises: at most so many per image.
        prior_images: pictures the base draws per tier of `PRIOR_TIERS`; drift is no small difference, so a
            few do.
        prior_steps: denoising steps of those pictures.
        magnitude_captions: captions that were trained on, and prompts that were not, asked on pure noise.
        magnitude_noises: noises for each of them.
    """

    buckets: int = 4
    pairs: int = 6
    noises: int = 4
    prior_images: int = 2
    prior_steps: int = 10
    magnitude_captions: int = 3
    magnitude_noises: int = 2


@dataclass(frozen=True, kw_only=True)
class ProbeBatch:
    """Rows of one latent shape, with the base's answers.

    Attributes:
        noisy_BCHW, target_BCHW: x_t and what the model should predict from it (noise, or v).
        timestep_B: in [0, number of training timesteps).
        image_B: which image of its set a row looks at.
        draw: which of an image's noises these rows have; every image has a noise 0.
        captions, plain_captions: with and without the trigger; equal when there is no trigger.
        text_BLD, plain_text_BLD: their embeddings by the frozen text encoder.
        base_BCHW: the base's prediction with the caption.
        base_loss_B, base_plain_loss_B: the base's squared error, mean over a row, with and without the
            trigger.
    """

    noisy_BCHW: torch.Tensor
    target_BCHW: torch.Tensor
    timestep_B: torch.Tensor
    image_B: torch.Tensor
    draw: int
    captions: tuple[str, ...]
    plain_captions: tuple[str, ...]
    text_BLD: torch.Tensor
    plain_text_BLD: torch.Tensor
    base_BCHW: torch.Tensor
    base_loss_B: torch.Tensor
    base_plain_loss_B: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class NoiseBatch:
    """Pure noise at the last timestep, asked with captions and with nothing.

    Attributes:
        noisy_BCHW: the noise; rows of one noise repeat it.
        timestep_B: the last one.
        captions: one per row.
        text_BLD, empty_BLD: their embeddings, and the empty caption's, by the frozen text encoder.
        base_norm_B: the base's norm of the difference that the caption makes.
    """

    noisy_BCHW: torch.Tensor
    timestep_B: torch.Tensor
    captions: tuple[str, ...]
    text_BLD: torch.Tensor
    empty_BLD: torch.Tensor
    base_norm_B: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Probes:
    """All rows of one dataset on one base.

    Attributes:
        sets: batches by what they look at; a set without images is absent.
        timesteps: the fixed t of each bucket, ascending.
        num_timesteps: of the base's noise schedule.
        train_pixels: training images as the VAE gives them back, (H, W, 3) uint8 arrays.
        noise: pure noise with "training" captions and "recombined" prompts; either may be absent.
        digest: hex, of every question asked: equal digests mean equal probes.
    """

    sets: dict[SetName, tuple[ProbeBatch, ...]]
    timesteps: tuple[int, ...]
    num_timesteps: int
    train_pixels: tuple[np.ndarray, ...]
    noise: dict[NoiseName, NoiseBatch]
    digest: str


def build(
    base: Base,
    recipe: Recipe,
    plan: Plan,
    *,
    latents: Latents,
    texts: Texts,
    adapter: Adapter | None = None,
    options: ProbeOptions | None = None,
) -> Probes:
    """Build the probes, or return those that this process built before for the same base and data.

    Args:
        base: answers the probes once, without any adapter's help.
        recipe: gives the seed, the caption rules and the guidance at which the base draws prior pictures.
        plan: gives images in their buckets, captions and prompts.
        latents: of the plan's images.
        texts: of captions, by the frozen text encoder.
        adapter: the one that lives in the base right now, so that it can be silenced.
        options: how many; the defaults when None.
    """
    options = options or ProbeOptions()
    key = _key(base, recipe, plan, options)
    if key not in _built:
        with inference.at_weight(base, adapter, 0.0):
            _built[key] = _Builder(base, recipe, plan, latents, texts, options).all()
    _built.move_to_end(key)
    while len(_built) > KEPT:
        _built.popitem(last=False)
    return _built[key]


def predict(
    base: Base, noisy_BCHW: torch.Tensor, timestep_B: torch.Tensor, text_BLD: torch.Tensor
) -> torch.Tensor:
    """The UNet's prediction as float32, at whatever weight is in force; (B, C, H, W)."""
    out = base.unet(noisy_BCHW, timestep_B, encoder_hidden_states=text_BLD, return_dict=False)[0]
    return out.float()


def row_mse(left_BCHW: torch.Tensor, right_BCHW: torch.Tensor) -> torch.Tensor:
    """Squared error, mean over each row; (B,)."""
    return (left_BCHW - right_BCHW).square().flatten(1).mean(1)


def row_norm(left_BCHW: torch.Tensor, right_BCHW: torch.Tensor) -> torch.Tensor:
    """Euclidean norm of the difference of each row; (B,)."""
    return (left_BCHW - right_BCHW).flatten(1).norm(dim=1)


def _key(base: Base, recipe: Recipe, plan: Plan, options: ProbeOptions) -> str:
    """Everything that decides the probes."""
    images = [[i.sha256, i.caption, i.split, i.bucket, i.resize_px, i.crop_px] for i in plan.images]
    priors = [plan.prompts, recipe.base.neighbour_prompts]
    size = [recipe.sample.width, recipe.sample.height, recipe.sample.guidance, recipe.base.negative_prompt]
    where = [base.fingerprint, str(base.device), str(base.dtype), recipe.base.clip_skip]
    data = [images, plan.trigger, recipe.captions.separator, recipe.dataset.holdout_seed]
    return digest([where, data, priors, size, options])


class _Builder:
    """One construction: draws from generators derived from the hold-out seed, asks the base as it goes."""

    def __init__(
        self,
        base: Base,
        recipe: Recipe,
        plan: Plan,
        latents: Latents,
        texts: Texts,
        options: ProbeOptions,
    ) -> None:
        self._base, self._recipe, self._plan = base, recipe, plan
        self._latents, self._texts, self._options = latents, texts, options
        self._num = int(base.noise_schedule.config.num_train_timesteps)
        self._timesteps = tuple(int((k + 0.5) * self._num / options.buckets) for k in range(options.buckets))

    def all(self) -> Probes:
        """Build every set that has something to look at."""
        train = self._choose(self._plan.train_images())
        sets: dict[SetName, tuple[ProbeBatch, ...]] = {
            "train": self._of_images(train),
            "held_out": self._of_images(self._choose(self._plan.held_out_images())),
        }
        for tier, prompts in self._prior_prompts(train).items():
            sets[tier] = self._of_prompts(tier, prompts)
        sets = {name: batches for name, batches in sets.items() if batches}
        noise = self._noise_batches(train)
        return Probes(
            sets=sets,
            timesteps=self._timesteps,
            num_timesteps=self._num,
            train_pixels=self._decode(train),
            noise=noise,
            digest=_content(sets, noise),
        )

    def _prior_prompts(self, train: Sequence[PlannedImage]) -> dict[PriorTier, tuple[str, ...]]:
        """Prompts by tier; "plain" are training captions without the trigger, unless "class" is just that."""
        stripped = [without_trigger(i.caption, self._plan.trigger, self._recipe.captions) for i in train]
        plain = tuple(dict.fromkeys(text for text in stripped if text)) if self._plan.trigger else ()
        chosen = {tier: tuple(self._plan.prompts.get(tier, ())) for tier in ("class", "unrelated")}
        everything = {
            without_trigger(i.caption, self._plan.trigger, self._recipe.captions)
            for i in self._plan.train_images()
        }
        found: dict[PriorTier, tuple[str, ...]] = {
            "plain": () if set(chosen["class"]) & everything else plain,
            "class": chosen["class"],
            "neighbour": tuple(self._recipe.base.neighbour_prompts),
            "unrelated": chosen["unrelated"],
        }
        return {tier: prompts for tier, prompts in found.items() if prompts}

    def _choose(self, images: Sequence[PlannedImage]) -> list[PlannedImage]:
        """Not too many images, by a hash of their bytes: stable when folder order or buckets change."""
        seed = self._recipe.dataset.holdout_seed
        return sorted(images, key=lambda image: seeds.derive(seed, "probe", image.sha256))[
            : self._options.pairs
        ]

    def _of_images(self, images: Sequence[PlannedImage]) -> tuple[ProbeBatch, ...]:
        import torch

        seed = self._recipe.dataset.holdout_seed
        latents = []
        for image in images:
            mean_CHW, std_CHW = self._latents.mean_std(image)
            draw = torch.randn(mean_CHW.shape, generator=_generator(seed, "latent", image.sha256))
            latents.append(mean_CHW.cpu().float() + std_CHW.cpu().float() * draw)
        captions = [image.caption for image in images]
        noises = min(self._options.noises, -(-self._options.pairs // max(1, len(images))))
        return self._batches(latents, captions, [image.sha256 for image in images], noises)

    def _of_prompts(self, name: PriorTier, prompts: Sequence[str]) -> tuple[ProbeBatch, ...]:
        """Let the base draw what it knows: the distribution whose loss is to be noticed."""
        seed = self._recipe.dataset.holdout_seed
        images = self._options.prior_images
        captions = [prompts[place % len(prompts)] for place in range(images)]
        wanted, side_px = self._recipe.sample, self._recipe.base.resolution
        pipe = self._base.pipeline("ddim")
        pipe.set_progress_bar_config(disable=True)
        negatives = [self._recipe.base.negative_prompt] * images
        drawn_BCHW = pipe(
            prompt_embeds=self._texts.embed(captions).to(self._base.device, self._base.dtype),
            negative_prompt_embeds=self._texts.embed(negatives).to(self._base.device, self._base.dtype),
            width=wanted.width or side_px,
            height=wanted.height or side_px,
            num_inference_steps=self._options.prior_steps,
            guidance_scale=wanted.guidance,
            generator=[_generator(seed, name, place) for place in range(images)],
            output_type="latent",
        ).images
        marks = [f"{name}/{place}" for place in range(images)]
        return self._batches(list(drawn_BCHW.cpu().float()), captions, marks, 1)

    def _batches(
        self, latents: Sequence[torch.Tensor], captions: Sequence[str], marks: Sequence[str], noises: int
    ) -> tuple[ProbeBatch, ...]:
        """Cross images with noises and timesteps, in batches of one noise and shape; `marks` name noises."""
        import torch

        rows: dict[tuple[int, ...], list[tuple[int, int, torch.Tensor]]] = {}
        for place, (latent_CHW, mark) in enumerate(zip(latents, marks, strict=True)):
            for draw in range(noises):
                for t in self._timesteps:
                    generator = _generator(self._recipe.dataset.holdout_seed, "noise", mark, draw, t)
                    noise_CHW = torch.randn(latent_CHW.shape, generator=generator)
                    rows.setdefault((draw, *latent_CHW.shape), []).append((place, t, noise_CHW))
        return tuple(
            self._batch(group[start : start + MAX_ROWS], latents, captions, draw=draw)
            for (draw, *_), group in rows.items()
            for start in range(0, len(group), MAX_ROWS)
        )

    def _batch(
        self,
        rows: Sequence[tuple[int, int, torch.Tensor]],
        latents: Sequence[torch.Tensor],
        captions: Sequence[str],
        *,
        draw: int,
    ) -> ProbeBatch:
        """Noise the rows and let the base answer, with and without the trigger."""
        import torch

        base, schedule = self._base, self._base.noise_schedule
        clean_BCHW = torch.stack([latents[place] for place, _, _ in rows])
        noise_BCHW = torch.stack([noise for _, _, noise in rows])
        timestep_B = torch.tensor([t for _, t, _ in rows])
        noisy_BCHW = schedule.add_noise(clean_BCHW, noise_BCHW, timestep_B)
        target_BCHW = noise_BCHW
        if schedule.config.prediction_type == "v_prediction":
            target_BCHW = schedule.get_velocity(clean_BCHW, noise_BCHW, timestep_B)
        words = tuple(captions[place] for place, _, _ in rows)
        plain = tuple(without_trigger(text, self._plan.trigger, self._recipe.captions) for text in words)
        text_BLD = self._texts.embed(words).to(base.device, base.dtype)
        noisy_BCHW = noisy_BCHW.to(base.device, base.dtype)
        timestep_B, target_BCHW = timestep_B.to(base.device), target_BCHW.to(base.device)
        base_BCHW = predict(base, noisy_BCHW, timestep_B, text_BLD)
        base_loss_B = row_mse(base_BCHW, target_BCHW)
        plain_text_BLD, base_plain_loss_B = text_BLD, base_loss_B
        if plain != words:
            plain_text_BLD = self._texts.embed(plain).to(base.device, base.dtype)
            base_plain_loss_B = row_mse(predict(base, noisy_BCHW, timestep_B, plain_text_BLD), target_BCHW)
        return ProbeBatch(
            noisy_BCHW=noisy_BCHW,
            target_BCHW=target_BCHW,
            timestep_B=timestep_B,
            image_B=torch.tensor([place for place, _, _ in rows]),
            draw=draw,
            captions=words,
            plain_captions=plain,
            text_BLD=text_BLD,
            plain_text_BLD=plain_text_BLD,
            base_BCHW=base_BCHW,
            base_loss_B=base_loss_B,
            base_plain_loss_B=base_plain_loss_B,
        )

    def _noise_batches(self, train: Sequence[PlannedImage]) -> dict[NoiseName, NoiseBatch]:
        """Pure noise under captions that were trained on, and under prompts that were not."""
        count = self._options.magnitude_captions
        captions: dict[NoiseName, Sequence[str]] = {
            "training": list(dict.fromkeys(i.caption for i in train if i.caption))[:count],
            "recombined": list(self._plan.prompts.get("recombined", ()))[:count],
        }
        return {name: self._noise_batch(texts) for name, texts in captions.items() if texts}

    def _noise_batch(self, captions: Sequence[str]) -> NoiseBatch:
        import torch

        base, factor = self._base, 2 ** (len(self._base.vae.config.block_out_channels) - 1)
        wanted, side_px = self._recipe.sample, self._recipe.base.resolution
        shape = ((wanted.height or side_px) // factor, (wanted.width or side_px) // factor)
        seed, channels = self._recipe.dataset.holdout_seed, base.unet.config.in_channels
        noises = [
            torch.randn((channels, *shape), generator=_generator(seed, "pure noise", draw))
            for draw in range(self._options.magnitude_noises)
        ]
        words = tuple(caption for caption in captions for _ in noises)
        noisy_BCHW = torch.stack(noises * len(captions)).to(base.device, base.dtype)
        timestep_B = torch.full((len(words),), self._num - 1, device=base.device)
        text_BLD = self._texts.embed(words).to(base.device, base.dtype)
        empty_BLD = self._texts.embed([""] * len(words)).to(base.device, base.dtype)
        asked = [predict(base, noisy_BCHW, timestep_B, text) for text in (text_BLD, empty_BLD)]
        return NoiseBatch(
            noisy_BCHW=noisy_BCHW,
            timestep_B=timestep_B,
            captions=words,
            text_BLD=text_BLD,
            empty_BLD=empty_BLD,
            base_norm_B=row_norm(asked[0], asked[1]),
        )

    def _decode(self, images: Sequence[PlannedImage]) -> tuple[np.ndarray, ...]:
        import torch

        pixels = []
        for image in images:
            mean_CHW, _ = self._latents.mean_std(image)
            latent_BCHW = mean_CHW[None].to(self._base.device, self._base.dtype)
            decoded = self._base.vae.decode(latent_BCHW / self._base.vae.config.scaling_factor).sample[0]
            levels = ((decoded.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
            pixels.append(levels.permute(1, 2, 0).cpu().numpy())
        return tuple(pixels)


def _content(sets: dict[SetName, tuple[ProbeBatch, ...]], noise: dict[NoiseName, NoiseBatch]) -> str:
    """Hex digest of what is asked: noisy latents, timesteps and words; the answers are not part of it."""
    total = hashlib.sha256()
    asked: list[tuple[str, ProbeBatch | NoiseBatch]] = [
        (name, batch) for name, batches in sets.items() for batch in batches
    ]
    for name, batch in [*asked, *noise.items()]:
        total.update(f"{name} {batch.captions} {batch.timestep_B.tolist()}".encode())
        total.update(batch.noisy_BCHW.float().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def _generator(seed: int, *names: str | int) -> torch.Generator:
    import torch

    return torch.Generator("cpu").manual_seed(seeds.derive(seed, *names))
