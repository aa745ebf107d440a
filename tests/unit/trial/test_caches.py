from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shipped
import torch
from PIL import Image
from tiny_training import make_plan, make_recipe

from lorasweep.components.adapters import lora
from lorasweep.core import registry
from lorasweep.core.records import BaseOptions, Mask, PlannedImage
from lorasweep.data.images import load_mask, plan_mask
from lorasweep.trial import cache
from lorasweep.trial.cache import LatentCache, Store, TextCache

CAPTIONS = ["zkw, red hair", "1girl, smile", "", "hat", "blue dress"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def refuse(*arguments: Any, **knobs: Any) -> Any:
    raise AssertionError("it should have been in the cache")


def test_latents_are_those_of_the_vae(base: Any, store: Store, tiny_sd: Path, tmp_path: Path) -> None:
    image = make_plan(make_recipe(tiny_sd), tmp_path).images[1]
    mean, std = LatentCache(base, store).mean_std(image)
    pixels = torch.from_numpy(np.asarray(Image.open(image.file), dtype=np.float32)) / 127.5 - 1
    assert pixels.min() < -0.99 and pixels.max() > 0.99
    with torch.no_grad():
        wanted = base.vae.encode(pixels.permute(2, 0, 1)[None]).latent_dist
    scale = base.vae.config.scaling_factor
    assert mean.shape == (4, image.bucket.height_px // 4, image.bucket.width_px // 4)
    assert torch.equal(mean, wanted.mean[0] * scale) and torch.equal(std, wanted.std[0] * scale)


def test_masks_in_memory_have_a_bound_too(
    base: Any, store: Store, tiny_sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masked = []
    for number, image in enumerate(make_plan(make_recipe(tiny_sd), tmp_path).images[:2]):
        Image.new("L", (image.width_px, image.height_px), 255 * number).save(tmp_path / f"{number}-mask.png")
        masked.append(dataclasses.replace(image, mask=plan_mask(image, tmp_path / f"{number}-mask.png", "gray")))
    read: list[str] = []

    def counted(image: PlannedImage, mask: Mask) -> Image.Image:
        read.append(mask.file)
        return load_mask(image, mask)

    monkeypatch.setattr(cache, "load_mask", counted)
    for memory_bytes, wanted in ((2**20, 2), (8, 4)):
        latents = LatentCache(base, store, memory_bytes=memory_bytes)
        for image in (*masked, *masked):
            white = float(masked.index(image))
            assert torch.equal(latents.mask(image, (4, 4)), torch.full((1, 4, 4), white))
        assert len(read) == wanted
        read.clear()


def test_another_process_reads_what_one_encoded(
    base: Any, store: Store, tiny_sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = make_plan(make_recipe(tiny_sd), tmp_path).images
    first, texts = LatentCache(base, store), TextCache(base, store)
    first.warm(images)
    texts.warm(CAPTIONS)
    wanted = texts.embed(CAPTIONS)["embeds"]
    monkeypatch.setattr(type(base), "encode_images", refuse)
    monkeypatch.setattr(type(base), "encode_captions", refuse)
    second = LatentCache(base, store)
    for image in images:
        assert all(map(torch.equal, first.mean_std(image), second.mean_std(image)))
    others = TextCache(base, store)
    others.warm(CAPTIONS)
    assert torch.equal(others.embed(CAPTIONS)["embeds"], wanted)
    # In memory by now: the disk is not asked again.
    monkeypatch.setattr(Store, "get", refuse)
    second.warm(images)
    others.warm(CAPTIONS)


@pytest.mark.parametrize("change", ["sha256", "resize_px", "crop_px", "vae"])
def test_latents_are_kept_apart_by_all_they_depend_on(
    base: Any, store: Store, tiny_sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    image = make_plan(make_recipe(tiny_sd), tmp_path).images[0]
    LatentCache(base, store).mean_std(image)
    monkeypatch.setattr(type(base), "encode_images", refuse)
    LatentCache(base, store).mean_std(dataclasses.replace(image, caption="other", repeats=9))
    other: dict[str, Any] = {"sha256": "0" * 64, "resize_px": (40, 40), "crop_px": (1, 0)}
    if change == "vae":
        base.vae_fingerprint = "other"
    else:
        image = dataclasses.replace(image, **{change: other[change]})
    monkeypatch.setattr("lorasweep.trial.cache.load_planned", refuse)
    with pytest.raises(AssertionError, match="should have been"):
        LatentCache(base, store).mean_std(image)


def test_what_other_code_encoded_is_encoded_again(
    base: Any, store: Store, tiny_sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an upgrade that reads captions or pictures otherwise, nothing is as it was read before."""
    image = make_plan(make_recipe(tiny_sd), tmp_path).images[0]
    LatentCache(base, store).mean_std(image)
    TextCache(base, store).warm(CAPTIONS)
    monkeypatch.setattr("lorasweep.trial.cache.code_digest", lambda: "tomorrow's")
    monkeypatch.setattr(type(base), "encode_images", refuse)
    monkeypatch.setattr(type(base), "encode_captions", refuse)
    with pytest.raises(AssertionError, match="should have been"):
        LatentCache(base, store).mean_std(image)
    with pytest.raises(AssertionError, match="should have been"):
        TextCache(base, store).warm(CAPTIONS)


def test_an_embedding_does_not_depend_on_its_company(base: Any, tmp_path: Path) -> None:
    texts = [TextCache(base, Store(tmp_path / str(number))) for number in range(3)]
    together = texts[0].embed(CAPTIONS)["embeds"]
    one_by_one = torch.cat([texts[1].embed([caption])["embeds"] for caption in CAPTIONS])
    backwards = texts[2].embed(CAPTIONS[::-1])["embeds"].flip(0)
    assert torch.equal(together, one_by_one) and torch.equal(together, backwards)
    assert torch.allclose(together, base.encode_captions(CAPTIONS)["embeds"], atol=1e-5)
    assert not together.requires_grad
    assert torch.equal(texts[0].embed(["hat", "hat"])["embeds"], together[3].expand(2, -1, -1))


def test_live_captions_stay_off_the_disk(base: Any, tmp_path: Path) -> None:
    TextCache(base, Store(tmp_path / "cache")).embed(CAPTIONS)
    assert not (tmp_path / "cache").exists()


def test_embeddings_are_the_frozen_encoders_whoever_trains_it(base: Any, tmp_path: Path) -> None:
    wanted = TextCache(base, Store(tmp_path / "a")).embed(CAPTIONS)["embeds"]
    adapter = shipped.build(lora, base, seed=0, dim=2, text_encoder=True)
    for parameter in adapter.parameters()["text_encoder"]:
        parameter.data.normal_(generator=torch.Generator().manual_seed(0))
    live = base.encode_captions(CAPTIONS)["embeds"]
    assert (live - wanted).abs().max() > 0.01
    assert torch.equal(TextCache(base, Store(tmp_path / "b")).embed(CAPTIONS)["embeds"], wanted)
    assert torch.equal(base.encode_captions(CAPTIONS)["embeds"], live)
    assert all(parameter.requires_grad for parameter in adapter.parameters()["text_encoder"])
    adapter.remove()


@torch.no_grad()
@pytest.mark.parametrize("name", ["z_image", "qwen_image", "krea2", "chroma", "qwen_image_21", "lumina2"])
def test_a_language_models_states_are_kept_without_padding_and_in_the_precision_of_training(
    name: str, tiny_flow: Callable[[str], Path], tmp_path: Path
) -> None:
    options = BaseOptions(name=name, path=str(tiny_flow(name)), resolution=32, bucket_step=8)
    base = registry.load("base", name).load(options, device="cpu", precision="bf16")
    captions = ["zkw", "zkw, red hair, blue dress, standing, outstretched arms"]
    TextCache(base, Store(tmp_path / "cache")).warm(captions)  # together
    texts = TextCache(base, Store(tmp_path / "cache"))
    for caption in captions:
        found, alone = texts.embed([caption]), base.encode_captions([caption])
        assert all(torch.equal(found[key], alone[key]) for key in ("embeds", "mask")) and found["mask"].all()
        assert found["embeds"].dtype == torch.bfloat16
    both = texts.embed(captions)["mask"].sum(1).tolist()
    assert both == [texts.embed([caption])["embeds"].shape[1] for caption in captions] and both[0] < both[1]
