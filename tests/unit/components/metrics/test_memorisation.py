"""M with planted copies, held-out images and strangers; the magnitude in closed form."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lorasweep.components.metrics import memorisation
from lorasweep.core.judging import Gallery, Magnitudes
from lorasweep.core.records import EncoderOptions, SampleOptions
from lorasweep.plan.sample_requests import ImageRequest
from lorasweep.trial.sample import Sample

SIZE = (32, 32)


def draw(seed: int) -> Image.Image:
    """A smooth random picture with a common theme, as pictures of one subject have."""
    rng = np.random.default_rng(seed)
    theme = np.random.default_rng(1234).integers(0, 256, (4, 4, 3)).astype(float)
    coarse = 0.4 * theme + 0.6 * rng.integers(0, 256, (4, 4, 3))
    return Image.fromarray(coarse.astype(np.uint8)).resize(SIZE, Image.Resampling.BICUBIC)


def noisy(picture: Image.Image, seed: int, scale: float = 4.0) -> Image.Image:
    levels = np.asarray(picture).astype(float)
    levels += scale * np.random.default_rng(seed).standard_normal(levels.shape)
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


TRAIN = tuple(draw(seed) for seed in range(12))
HELD_OUT = tuple(draw(seed) for seed in range(100, 104))
GALLERY = Gallery(train=TRAIN, held_out=HELD_OUT, train_captions=tuple("zkw" for _ in TRAIN))


@pytest.fixture
def judged(context: Any, tmp_path: Any) -> Any:
    """Measure a list of pictures as if the adapter had drawn them."""

    def samples(pictures: list[Image.Image], name: str, weight: float) -> list[Sample]:
        made = []
        for place, picture in enumerate(pictures):
            file = tmp_path / f"{name}_{place}.png"
            picture.save(file)
            request = ImageRequest(
                tier="in_distribution",
                prompt=f"zkw, {place}",
                negative_prompt="",
                seed=0,
                weight=weight,
                width_px=SIZE[0],
                height_px=SIZE[1],
            )
            made.append(Sample(file=file, request=request))
        return made

    def measure(pictures: list[Image.Image], gallery: Gallery | None = GALLERY) -> Any:
        base = [draw(seed) for seed in range(500, 500 + len(pictures))]
        changed = dataclasses.replace(
            context,
            samples=samples(pictures, "drawn", 0.7),
            base_samples=samples(base, "base", 0.0),
            gallery=gallery,
            _cache={},
        )
        return memorisation.build(tiers=["in_distribution"], chance=0.05, magnitude=False).measure(changed)

    return measure


def test_a_planted_copier_is_caught_and_held_out_images_and_strangers_are_not(judged: Any) -> None:
    copier = judged([noisy(picture, seed) for seed, picture in enumerate(TRAIN[:8])]).values
    assert copier["memorisation/copy_rate"] == 1
    assert copier["memorisation/tile_max"] == 1
    assert copier["memorisation/nearness"] > 0.8
    held_out = judged(list(HELD_OUT)).values
    assert held_out["memorisation/copy_rate"] == 0
    assert held_out["memorisation/tile_max"] == 0
    assert abs(held_out["memorisation/nearness"]) < 0.3
    half = judged([*(noisy(p, 1) for p in TRAIN[:4]), *HELD_OUT]).values
    assert half["memorisation/copy_rate"] == 0.5


def test_reasons(judged: Any) -> None:
    assert "training images" in judged(list(TRAIN[:2]), None).missing["memorisation/copy_rate"]
    few = Gallery(train=TRAIN[:2], held_out=(), train_captions=("a", "b"))
    assert "got 2" in judged(list(TRAIN[:2]), few).missing["memorisation/copy_rate"]
    assert "no pictures" in judged([]).missing["memorisation/tile_max"]


def test_the_rate_of_pictures_like_any_other_is_the_chance() -> None:
    """Exchangeable features: by construction 5 % lie below the held-out images' 5 % quantile."""
    generator = torch.Generator().manual_seed(0)

    def some(count: int) -> torch.Tensor:
        return torch.randn(count, 4, 16, generator=generator, dtype=torch.float64)

    rate = memorisation.rates(some(4000), some(30), some(4000), kind="x", chance=0.05)
    assert rate["memorisation/copy_rate_x"] == pytest.approx(0.05, abs=0.015)
    assert rate["memorisation/tile_max_x"] == pytest.approx(0.05, abs=0.015)
    assert rate["memorisation/nearness_x"] == pytest.approx(0, abs=0.05)


def test_a_duplicate_in_the_dataset_does_not_hide_copies() -> None:
    generator = torch.Generator().manual_seed(0)
    train = torch.randn(12, 4, 16, generator=generator, dtype=torch.float64)
    held_out = torch.randn(4, 4, 16, generator=generator, dtype=torch.float64)
    doubled = torch.cat([train, train[:1] + 1e-3])
    near = train + 0.3 * torch.randn(12, 4, 16, generator=generator, dtype=torch.float64)
    rate = memorisation.rates(near, doubled, held_out, kind="x", chance=0.05)
    assert rate["memorisation/copy_rate_x"] == 1


def test_magnitude_is_the_log_of_a_ratio_over_the_bases() -> None:
    def answers(name: str) -> Magnitudes:
        adapted = {"training": [1.0, 8.0, 9.0], "recombined": [2.0, 2.0, 4.0]}[name]
        base = {"training": [3.0, 3.0, 3.0], "recombined": [1.5, 1.5, 1.5]}[name]
        return Magnitudes(adapted=torch.tensor(adapted), base=torch.tensor(base))

    found = memorisation._magnitude(SimpleNamespace(magnitudes=answers))  # type: ignore[arg-type]
    assert found.values["memorisation/magnitude_ratio"] == pytest.approx(np.log((8 / 2) / (3 / 1.5)))


def test_magnitudes_agree_with_a_plain_computation(context: Any, perturb: Any) -> None:
    idle = context.magnitudes("training")
    assert torch.allclose(idle.adapted, idle.base, rtol=1e-5)
    perturb(context.adapter, 0.1)
    context.answers.clear()
    found = context.magnitudes("training").adapted
    assert not torch.allclose(found, idle.base, rtol=1e-3)
    batch = context.probes.noise["training"]
    context.adapter.set_weight(0.7)
    with torch.no_grad():
        texts = [context.base.encode_captions([words])["embeds"] for words in (batch.captions[0], "")]
        asked = [
            context.base.unet(batch.noisy_BCHW[:1], batch.t_B[:1], encoder_hidden_states=text).sample for text in texts
        ]
    context.adapter.set_weight(1.0)
    assert float(found[0]) == pytest.approx(float((asked[0] - asked[1]).norm()), rel=1e-4)


def test_without_prompts_that_call_the_subject_no_copies_are_offered() -> None:
    recipe: Any = SimpleNamespace(
        sample=SampleOptions(),
        encoders=EncoderOptions(),
        metrics={"memorisation": {"tiers": ("in_distribution",), "magnitude": False}},
    )
    undrawn = "no pictures with the trigger are drawn"
    for prompts, why in (({"class": ("1girl",)}, undrawn), ({"in_distribution": ("zkw",)}, "")):
        plan: Any = SimpleNamespace(prompts=prompts, train_images=lambda: [0] * 4, held_out_images=list)
        assert set(memorisation.names(recipe, plan).values()) == {why}
