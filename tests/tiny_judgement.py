"""A judged situation on the tiny random Stable Diffusion: base, LoRA, probes, pictures."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest
import shipped
import torch

from lorasweep.core import seeds
from lorasweep.core.records import (
    Bucket,
    CaptionOptions,
    EncoderOptions,
    PlannedImage,
    SampleOptions,
)

PROMPTS = {
    "in_distribution": ("zkw, 1girl, red dress, standing",),
    "recombined": ("zkw, 1girl, blue dress, hat",),
    "class": ("1girl, green hair, blue dress",),
    "unrelated": ("simple background",),
}


_built: dict[tuple[str, torch.dtype], Any] = {}  # probes by base, of the recipe and plan below


def planned(number: int, split: str) -> PlannedImage:
    shape = Bucket(width_px=32, height_px=32) if number % 2 else Bucket(width_px=40, height_px=24)
    return PlannedImage(
        file=f"/nowhere/{number}.png",
        sha256=f"{number:064x}",
        concept="1_zkw",
        caption=f"zkw, 1girl, {('red', 'blue', 'green')[number % 3]} dress",
        split=split,  # type: ignore[arg-type]
        repeats=1,
        width_px=32,
        height_px=32,
        bucket=shape,
        resize_px=(shape.width_px, shape.height_px),
        crop_px=(0, 0),
    )


class Latents:
    """Latents drawn from the image's hash, so that equal images have equal latents."""

    def mean_std(self, image: PlannedImage) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(seeds.derive(0, image.sha256))
        shape = (4, image.bucket.height_px // 4, image.bucket.width_px // 4)
        return torch.randn(shape, generator=generator), torch.full(shape, 0.01)


class Texts:
    def __init__(self, base: Any) -> None:
        self._base = base

    def embed(self, captions: Iterable[str]) -> Any:
        with torch.no_grad():
            return self._base.encode_captions(list(captions))


@pytest.fixture
def adapter(base: Any) -> Any:
    from lorasweep.components.adapters import lora

    made = shipped.build(lora, base, seed=0, dim=4, alpha=4.0, targets="full")
    yield made
    made.remove()


@pytest.fixture
def perturb() -> Callable[[Any, float], None]:
    """Give the LoRA's zero matrices values, so that it acts."""

    def act(adapter: Any, scale: float) -> None:
        generator = torch.Generator().manual_seed(1)
        state = adapter.state_dict()
        adapter.load_state_dict({k: v + scale * torch.randn(v.shape, generator=generator) for k, v in state.items()})

    return act


@pytest.fixture
def recipe() -> Any:
    return SimpleNamespace(
        base=SimpleNamespace(negative_prompt="", clip_skip=1, neighbour_prompts=()),
        picture_px=(32, 32),
        sample=SampleOptions(steps=2),
        captions=CaptionOptions(),
        encoders=EncoderOptions(),
        dataset=SimpleNamespace(path=None, holdout_seed=0, dollhouse=SimpleNamespace(subject="zkw")),
    )


@pytest.fixture
def plan() -> Any:
    images = [planned(n, "train") for n in range(4)] + [planned(n, "held_out") for n in range(4, 6)]
    return SimpleNamespace(
        images=tuple(images),
        trigger="zkw",
        prompts=PROMPTS,
        train_images=lambda: tuple(i for i in images if i.split == "train"),
        held_out_images=lambda: tuple(i for i in images if i.split == "held_out"),
    )


@pytest.fixture
def build_probes(base: Any, adapter: Any, recipe: Any, plan: Any) -> Callable[[], Any]:
    from lorasweep.trial.judge import probe_builder, probes

    def build() -> Any:
        options = probes.ProbeOptions(prior_images=2, prior_steps=2)
        caches = {"latents": Latents(), "texts": Texts(base)}
        return probe_builder.build(base, recipe, plan, **caches, adapter=adapter, options=options)

    return build


@pytest.fixture
def context(base: Any, adapter: Any, recipe: Any, plan: Any, build_probes: Callable[[], Any]) -> Any:
    from lorasweep.trial.judge.context import JudgeContext

    if (kind := (base.fingerprint, base.dtype)) not in _built:
        _built[kind] = build_probes()
    return JudgeContext(
        base=base,
        adapter=adapter,
        recipe=recipe,
        plan=plan,
        probes=copy.deepcopy(_built[kind]),
        weight=0.7,
        samples=(),
        base_samples=(),
        reader=None,
        step=10,
    )
