"""The base: its tokenizer, its captions, the parts of its training, and the pipelines that ship."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from torch import nn

from lorasweep.dollhouse import flow_weights_dir, weights_dir
from lorasweep.dollhouse.reader.reader import Reader
from lorasweep.dollhouse.world import ATTRIBUTES, sample_spec, tags
from tools.pretrain_dollhouse.__main__ import build_parser
from tools.pretrain_dollhouse.architecture import build_sampler, build_training_noise
from tools.pretrain_dollhouse.captions import Captioner, CaptionNoise, indices_of
from tools.pretrain_dollhouse.loop import Ema, learning_rate, trapezoid
from tools.pretrain_dollhouse.quality import base_quality, folder_megabytes, sample
from tools.pretrain_dollhouse.train_unet import noisy_batch
from tools.pretrain_dollhouse.vocabulary import build_tokenizer, world_words

QUIET = CaptionNoise(empty=0.0, sparse=0.0, drop=0.0, shuffle=0.0, junk=0.0)


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    torch.set_num_threads(1)
    loaded = StableDiffusionPipeline.from_pretrained(weights_dir(), safety_checker=None)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.fixture(scope="module", params=["dollhouse", "dollhouse_flow"])
def either(request: pytest.FixtureRequest, pipeline: StableDiffusionPipeline) -> DiffusionPipeline:
    if request.param == "dollhouse":
        return pipeline
    loaded = DiffusionPipeline.from_pretrained(flow_weights_dir())
    loaded.set_progress_bar_config(disable=True)
    return loaded


def test_words_of_the_world_are_single_tokens() -> None:
    tokenizer = build_tokenizer()
    assert [w for w in world_words() if len(tokenizer(w, add_special_tokens=False).input_ids) != 1] == []


def test_triggers_tokenise_into_pieces_and_back() -> None:
    tokenizer = build_tokenizer()
    for text in ("zkw", "mona taco", "ünï"):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert len(ids) > 1
        assert tokenizer.decode(ids) == text


def test_shipped_tokenizer_is_the_built_one(pipeline: StableDiffusionPipeline) -> None:
    text = "zkw, 1girl, red hair, green dress, night sky"
    assert pipeline.tokenizer(text).input_ids == build_tokenizer()(text).input_ids
    assert pipeline.tokenizer.model_max_length == 77


def test_captions_equal_the_tokenised_tags() -> None:
    tokenizer = build_tokenizer()
    captioner = Captioner(tokenizer, QUIET)
    for seed in range(20):
        spec = sample_spec(np.random.default_rng(seed))
        ids, _ = captioner.batch(np.random.default_rng(0), np.array([indices_of(spec)]))
        padded = tokenizer(", ".join(tags(spec)), padding="max_length", max_length=77).input_ids
        assert ids[0].tolist() == padded


def test_caption_noise_reports_what_is_named() -> None:
    captioner = Captioner(build_tokenizer(), CaptionNoise(empty=1.0))
    spec = sample_spec(np.random.default_rng(0))
    ids, named = captioner.batch(np.random.default_rng(0), np.array([indices_of(spec)]))
    assert (named == -1).all() and named.shape == (1, len(ATTRIBUTES))
    assert len(set(ids[0, 1:].tolist())) == 1


def test_rates_rise_hold_and_fall() -> None:
    shape = [trapezoid(step, peak=1.0, steps=100, warmup=10, cooldown=20) for step in range(100)]
    assert shape[0] == pytest.approx(0.1) and max(shape) == 1.0 and shape[-1] == pytest.approx(0.05)
    cosine = [learning_rate(step, peak=1.0, steps=100, warmup=10) for step in range(100)]
    assert max(cosine) == pytest.approx(1.0) and cosine[-1] < 0.03


def test_average_follows_the_weights() -> None:
    layer = nn.Linear(2, 2)
    ema = Ema(layer, decay=0.9)
    with torch.no_grad():
        layer.weight.fill_(3.0)
    for step in range(200):
        ema.update(layer, step)
    assert torch.allclose(ema.module.weight, layer.weight, atol=1e-4)


def test_noise_is_seeded_and_timesteps_cover_the_range() -> None:
    latent_BCHW = torch.zeros(16, 4, 8, 8)
    schedule = build_training_noise()
    first, second = (
        noisy_batch(latent_BCHW, schedule, torch.Generator().manual_seed(0), lateness=1.0) for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert first[1].min() < 63 and first[1].max() > 936


def test_sampler_does_not_clip_latents() -> None:
    assert build_sampler().config.clip_sample is False


def test_parser_knows_every_stage() -> None:
    arguments = build_parser().parse_args(["--out", "x", "--stage", "unet", "--seed", "0"])
    assert (arguments.stage, arguments.seed) == ("unet", 0)


@pytest.mark.parametrize("folder", [weights_dir(), flow_weights_dir()], ids=lambda folder: folder.name)
def test_shipped_folder_is_small_and_described_and_names_no_local_path(folder: Path) -> None:
    assert folder_megabytes(folder) <= 16.0
    assert (folder / "README.md").read_text().startswith("#")
    configs = list(folder.rglob("*.json"))
    assert len(configs) >= 5
    assert [path.name for path in configs if "_name_or_path" in path.read_text()] == []


def test_shipped_pipeline_samples_out_of_the_box(pipeline: StableDiffusionPipeline) -> None:
    image = pipeline("1girl, red hair", num_inference_steps=4, width=48, height=80).images[0]
    assert image.size == (48, 80)
    assert pipeline("1girl", num_inference_steps=1).images[0].size == (64, 64)


def test_samples_follow_their_seed(either: DiffusionPipeline) -> None:
    first, second, third = (sample(either, ["1girl"], (64, 64), steps=3, seed=s) for s in (0, 0, 1))
    assert torch.equal(first, second) and not torch.equal(first, third)


def test_shipped_base_draws_what_is_asked(either: DiffusionPipeline) -> None:
    found = base_quality(either, Reader.load(), [(64, 64)], count=8, seed=0, steps=8)[(64, 64)]
    assert found["mean"] > 0.75


def test_unpublished_run_folder_is_refused(tmp_path: Path) -> None:
    from tools.pretrain_dollhouse.publish import publish

    with pytest.raises(FileNotFoundError):
        publish(tmp_path, tmp_path / "published")
