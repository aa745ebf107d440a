"""Encoders on tiny random models in the real formats, against transformers' own answers."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_encoders import write_clip, write_dino, write_sscd

from lorasweep.components.metrics import _offers
from lorasweep.core.records import CaptionOptions, EncoderOptions
from lorasweep.trial.judge import encoders
from lorasweep.trial.judge.encoders import frozen_base, local, mask, prompt_fit
from lorasweep.trial.judge.features import FeatureCache


def picture(seed: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    levels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3))
    return Image.fromarray(levels.astype(np.uint8))


PICTURES = [picture(seed) for seed in range(5)]


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory, tiny_sd: Path) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip"), tiny_sd)


def test_clip_gives_what_transformers_gives(clip_folder: Path) -> None:
    from transformers import CLIPModel, CLIPTokenizer

    clip = local.Clip(clip_folder)
    whole = clip.encode(PICTURES[:2])["whole"]
    model = CLIPModel.from_pretrained(clip_folder).eval()
    tokens = CLIPTokenizer.from_pretrained(clip_folder)(["red dress", "hat"], padding=True, return_tensors="pt")
    with torch.no_grad():
        out = model(pixel_values=local.prepared(PICTURES[:2], clip_folder), **tokens)
    assert whole.shape == (2, 12) and not torch.allclose(whole[0], whole[1])
    unit = torch.nn.functional.normalize
    assert torch.allclose(unit(whole, dim=-1), out.image_embeds, atol=1e-5)
    assert torch.allclose(unit(clip.encode_texts(["red dress", "hat"]), dim=-1), out.text_embeds, atol=1e-5)
    fit = prompt_fit.FitByClip(clip, ("red dress", "hat")).encode(PICTURES[:2])["fit"]
    assert torch.allclose(fit, out.logits_per_image / model.logit_scale.exp(), atol=1e-5)


@pytest.mark.parametrize("size", [(32, 32), (50, 31), (20, 47)])
def test_preparation_is_transformers_own(clip_folder: Path, size: tuple[int, int]) -> None:
    from transformers import CLIPImageProcessorPil

    image = picture(7, size)
    expected = CLIPImageProcessorPil.from_pretrained(clip_folder)(image, return_tensors="pt").pixel_values
    assert torch.allclose(local.prepared([image], clip_folder), expected, atol=1e-4)


def test_dino_is_the_class_token(tmp_path: Path) -> None:
    model = write_dino(tmp_path)
    found = local.Dino(tmp_path).encode(PICTURES[:2])["whole"]
    with torch.no_grad():
        expected = model(pixel_values=local.prepared(PICTURES[:2], tmp_path)).last_hidden_state[:, 0]
    assert torch.allclose(found, expected, atol=1e-5)


def test_dino_sees_wide_pictures_squared_where_its_config_is_of_old(tmp_path: Path) -> None:
    """As facebook/dino-vitb16 has it: one number for both sides."""
    model = write_dino(tmp_path)
    how = {"do_normalize": True, "do_resize": True, "feature_extractor_type": "ViTFeatureExtractor", "resample": 3}
    how |= {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "size": 24}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(how))
    wide = picture(7, (60, 32))
    square = local.prepared([wide.resize((24, 24), Image.Resampling.BICUBIC)], tmp_path)
    with torch.no_grad():
        expected = model(pixel_values=square).last_hidden_state[:, 0]
    assert torch.allclose(local.Dino(tmp_path).encode([wide])["whole"], expected, atol=1e-5)


def test_sscd_is_read_from_torchscript(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # how its authors publish it
        found = local.Sscd(write_sscd(tmp_path / "sscd.torchscript.pt")).encode(PICTURES[:3])["whole"]
    assert found.shape == (3, 16) and not torch.allclose(found[0], found[1])


def test_what_is_not_configured_is_not_there(base: Any, clip_folder: Path) -> None:
    assert encoders.load("dino", base, EncoderOptions()) is None
    assert "encoders.dino=" in _offers.not_here("dino")
    assert _offers.first_configured(("dino", "clip"), EncoderOptions()) == "base"
    configured = EncoderOptions(clip=str(clip_folder))
    assert _offers.first_configured(("dino", "clip"), configured) == "clip"
    assert isinstance(encoders.load("clip", base, configured), local.Clip)


def test_paths_are_checked_before_anything_runs(tmp_path: Path) -> None:
    from lorasweep import config
    from lorasweep.core.errors import ConfigError

    with pytest.raises(ConfigError) as raised:
        config.compose_recipe([f"encoders.clip={tmp_path}", f"encoders.sscd={tmp_path}/nothing.pt"])
    text = str(raised.value)
    assert "model.safetensors" in text and "encoders.sscd" in text


def test_tiles_are_cut_where_they_say() -> None:
    latent = torch.arange(2 * 4 * 8 * 8, dtype=torch.float32).reshape(2, 4, 8, 8)
    tiles = frozen_base.latent_tiles(latent)
    assert tiles.shape == (2, 16, 16)
    assert torch.equal(tiles[1, 6].reshape(4, 2, 2), latent[1, :, 2:4, 4:6])
    ragged = frozen_base.latent_tiles(torch.arange(9 * 10.0).reshape(1, 1, 9, 10))
    assert ragged.shape == (1, 16, 4) and ragged[0, 0, 0] == 1  # row 0, column 1: one column is left out
    few = frozen_base.latent_tiles(torch.tensor([[[[1.0], [2.0]]]]))  # sample.width=4 sample.height=8: no empty tiles
    assert few.flatten().tolist() == [1.0] * 8 + [2.0] * 8


def test_features_do_not_depend_on_the_company_and_are_asked_for_once(base: Any) -> None:
    cache, encoder = FeatureCache(), frozen_base.FrozenBase(base)
    alone = cache.features(encoder, PICTURES[:1])
    again = FeatureCache().features(encoder, PICTURES)
    for name in ("latents", "features", "whole"):
        assert torch.equal(alone[name][0], again[name][0]), name
    asked = []
    counting = SimpleNamespace(
        fingerprint="x",
        encode=lambda pictures: asked.append(len(pictures)) or {"whole": torch.zeros(len(pictures), 1)},
    )
    cache.features(counting, PICTURES)
    cache.features(counting, PICTURES[::-1])
    assert asked == [4, 4]


def test_another_clip_skip_is_another_ruler(base: Any) -> None:
    """Arms of both share a worker, and the disk: neither is measured by what the other's empty caption means."""
    cache, rulers = FeatureCache(), [frozen_base.FrozenBase(each) for each in (base, base.with_clip_skip(2))]
    alone = [FeatureCache().features(ruler, PICTURES[:1])["features"] for ruler in rulers]
    together = [cache.features(ruler, PICTURES[:1])["features"] for ruler in rulers]
    assert not torch.equal(*alone) and all(map(torch.equal, together, alone))
    kinds = [mask.Masked(rulers[0], ruler.base, "1girl").fingerprint for ruler in rulers]
    assert kinds[0] != kinds[1]


def test_the_ruler_does_not_bend_with_the_adapter(context: Any, perturb: Any) -> None:
    before = context.features(PICTURES[:2])
    perturb(context.adapter, 0.5)
    fresh = dataclasses.replace(context, feature_cache=FeatureCache(), _cache={})
    after = fresh.features(PICTURES[:2])
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_picture_fits_the_prompt_that_predicts_its_noise_best(base: Any) -> None:
    prompts = ("red dress", "blue hat", "")
    fit = prompt_fit.FitByBase(base, prompts).encode(PICTURES[:2])["fit"]
    latent = base.encode_images(frozen_base.pixels(PICTURES[:2]))[0]
    total = torch.zeros(2)
    with torch.no_grad():
        for timestep in prompt_fit.TIMESTEPS:
            t = torch.tensor([timestep])
            from lorasweep.core import seeds

            generator = torch.Generator().manual_seed(seeds.derive(0, "fit", int(t)))
            noise = torch.randn(latent.shape[1:], generator=generator)
            for row in range(2):
                alpha = base.noise_schedule.alphas_cumprod[t]
                noisy = alpha.sqrt() * latent[row : row + 1] + (1 - alpha).sqrt() * noise
                said = base.unet(noisy, t, encoder_hidden_states=base.encode_captions(["blue hat"])["embeds"]).sample
                total[row] += (said[0] - noise).square().mean()
    assert torch.allclose(fit[:, 1], -total, rtol=1e-4)
    assert len({round(float(x), 6) for x in fit[0]}) == 3


def test_what_is_not_the_subject_is_grey(base: Any) -> None:
    seen = mask.foreground(base, PICTURES[:2], "1girl")
    assert seen.shape == (2, 8, 8) and 0.1 < float(seen.float().mean()) < 0.9
    half = torch.zeros(1, 8, 8, dtype=torch.bool)
    half[:, :, :4] = True
    painted = np.asarray(mask.grey_out(PICTURES[:1], half)[0])
    assert (painted[:, 16:] == 128).all()
    assert (painted[:, :16] == np.asarray(PICTURES[0])[:, :16]).all()


def test_words_for_the_subject_are_what_captions_share() -> None:
    texts = ["zkw, 1girl, red dress", "zkw, 1girl, hat", "zkw, 1girl, red dress, city"]
    plan = SimpleNamespace(trigger="zkw", train_images=lambda: [SimpleNamespace(caption=text) for text in texts])
    recipe = SimpleNamespace(captions=CaptionOptions())
    assert mask.subject_words(recipe, plan) == "1girl, red dress"  # type: ignore[arg-type]
