"""What every base promises, for each file of conf/base/ or those that `CHOICES` names.

A test module whose base needs a folder of its own replaces the fixture `options`.
"""

from __future__ import annotations

import functools
import json

import pytest
import torch

from lorasweep.core.protocols import Base
from lorasweep.core.records import BaseOptions, Frame, from_dict
from lorasweep.testing import Choice, load, loads_torch
from lorasweep.testing import pytest_generate_tests as pytest_generate_tests

SIZE_PX = (48, 32)
CAPTIONS = ["zkw, red hair", "1girl", ""]


@pytest.fixture
def options(base_choice: Choice) -> BaseOptions:
    """What the file says."""
    return from_dict(BaseOptions, {"name": base_choice[0], **base_choice[1]})


@pytest.fixture
def base(options: BaseOptions) -> Base:
    """The base, loaded on the CPU."""
    return _loaded(options)


@functools.lru_cache(maxsize=1)
def _loaded(options: BaseOptions) -> Base:
    loaded: Base = load("base", (options.name, {})).load(options, device="cpu", precision="fp32")
    return loaded


def test_it_is_checked_and_known_without_torch(options: BaseOptions, base: Base) -> None:
    module = load("base", (options.name, {}))
    assert module.problems(options) == []
    assert module.fingerprint(options) == base.fingerprint != ""
    assert not loads_torch("[module.PARTS for module in registry.modules('base').values()]")


@torch.no_grad()
def test_pictures_latents_and_answers_have_the_shapes_that_are_said(base: Base) -> None:
    shape = (3, *base.latent.of(*SIZE_PX))
    pixels = torch.rand(3, 3, SIZE_PX[1], SIZE_PX[0]) * 2 - 1
    mean, std = base.encode_images(pixels)
    assert mean.shape == std.shape == shape and mean.dtype == std.dtype == torch.float32
    decoded = base.decode_latents(mean)
    assert decoded.shape == pixels.shape and decoded.dtype == torch.float32
    t = base.path.uniform(3, torch.Generator().manual_seed(0))
    text, frames = base.encode_captions(CAPTIONS), [Frame.whole(*SIZE_PX)] * 3
    answer = base.predict(mean, t, text, frames)
    assert answer.shape == base.path.target(mean, mean, t).shape == shape and answer.dtype == torch.float32
    assert base.features(mean, t, text, frames).shape[0] == 3
    json.dumps(base.reproduction("ddim", 4))


@torch.no_grad()
def test_right_answers_lead_back_to_image_and_noise(base: Base) -> None:
    clean, noise = torch.randn(2, 5, *base.latent.of(*SIZE_PX), generator=torch.Generator().manual_seed(0))
    t = base.path.t_of(torch.tensor([0.0, 0.2, 0.5, 0.8, 0.95]))
    noisy, target = base.path.add(clean, noise, t), base.path.target(clean, noise, t)
    for row, (alpha, sigma) in enumerate(zip(*base.path.scales(t), strict=True)):
        found = base.path.split(noisy[row], target[row], float(alpha), float(sigma))
        assert torch.allclose(found[0], clean[row], atol=1e-3) and torch.allclose(found[1], noise[row], atol=1e-3)
    assert torch.allclose(base.path.snr(t), (base.path.scales(t)[0] / base.path.scales(t)[1]) ** 2, rtol=1e-3)
    assert base.path.snr(base.path.as_noisy_as(500)) == pytest.approx(0.3838, rel=0.02)  # Stable Diffusion's


@torch.no_grad()
def test_captions_go_together_whatever_their_length(base: Base) -> None:
    long = "red hair, blue dress, " * 40
    one_by_one = [{name: row[0] for name, row in base.encode_captions([text]).items()} for text in (long, "zkw", "")]
    together, stacked = base.encode_captions([long, "zkw"]), base.stack(one_by_one[:2], one_by_one[2])
    assert base.chunks(long) >= base.chunks("zkw") == base.chunks("") == 1
    assert all(torch.allclose(stacked[name], together[name], atol=1e-5) for name in together)
