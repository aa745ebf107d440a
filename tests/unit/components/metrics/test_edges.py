"""Datasets and numbers that metrics do not expect: nothing raises, and what cannot be told has a reason."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from lorasweep.cli import main
from lorasweep.components.metrics import _similarity as similarity
from lorasweep.components.metrics import burn, diversity, memorisation, norms


def some(count: int, seed: int = 0) -> torch.Tensor:
    """Features of different pictures, (N, T, D)."""
    return torch.randn(count, 4, 10, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def situation(base: torch.Tensor, drawn: torch.Tensor) -> Any:
    """Pictures are numbered, and their features are the rows of these."""
    rows = torch.cat([base, drawn])
    pictures = [
        SimpleNamespace(prompt=str(n), seed=0, image=Image.new("RGB", (4, 4), (n, 0, 0))) for n in range(len(rows))
    ]
    for place, picture in enumerate(pictures[len(base) :]):
        picture.prompt = str(place)
    return SimpleNamespace(
        weight=0.7,
        gallery=None,
        pictures=lambda *tiers: pictures[len(base) :],
        base_pictures=lambda *tiers: pictures[: len(base)],
        features=lambda images, *, encoder=None, keep=False: {
            "features": torch.stack([rows[image.getpixel((0, 0))[0]] for image in images])
        },
    )


@pytest.mark.parametrize("metric", ["diversity", "burn"])
def test_a_base_that_draws_one_picture_sets_no_scale(metric: str) -> None:
    key = {"diversity": "diversity/relative", "burn": "burn/score"}[metric]
    built: Any = {"diversity": diversity.build(tiers=()), "burn": burn.build(min_reference=3)}[metric]
    fine = built.measure(situation(some(5), some(5, seed=1)))
    assert math.isfinite(fine.values[key])
    for base in (some(1).expand(5, -1, -1), torch.cat([some(1).expand(6, -1, -1), some(1, seed=3)])):
        found = built.measure(situation(base, some(len(base), seed=1)))
        assert key not in found.values and "one and the same" in found.missing[key]


def test_features_that_are_not_numbers_are_told_by_a_number_that_is_none() -> None:
    broken = some(5)
    broken[0, 0, 0] = math.nan
    for base, drawn in ((broken, some(5, seed=1)), (some(5), broken)):
        found = diversity.build(tiers=()).measure(situation(base, drawn))
        assert math.isnan(found.values["diversity/relative"]) and not found.missing
    assert math.isnan(similarity.vendi(torch.full((3, 3), math.nan)))
    found = memorisation.rates(broken, some(12), some(4, seed=5), kind="x", chance=0.05)
    assert all(map(math.isnan, found.values())), "nothing is known of copies either"


def test_copies_of_a_dataset_of_copies() -> None:
    """Every image twice says no more of how near is too near than every image once; one image alone says nothing."""
    train, near = some(12), some(12) + 0.1 * some(12, seed=2)
    nobody = torch.empty(0, 4, 10, dtype=torch.float64)
    once = memorisation.rates(near, train, nobody, kind="x", chance=0.05)
    twice = memorisation.rates(near, torch.cat([train, train, train[:2]]), nobody, kind="x", chance=0.05)
    assert once["memorisation/copy_rate_x"] == 1
    # Those without a twin are none, so that there is no reference but what is held out.
    assert twice == {}
    held_out = some(4, seed=5)
    found = memorisation.rates(near, torch.cat([train, train]), held_out, kind="x", chance=0.05)
    assert found["memorisation/copy_rate_x"] == 1, "twins do not hide copies"


@pytest.mark.parametrize("told", [True, False], ids=["seen by their pixels", "seen by what is held out"])
def test_near_duplicates_in_the_majority_hide_no_copies(told: bool) -> None:
    """Ten of twelve images have a second shot, nearer to them than any copy that an adapter draws."""
    train = some(12)
    dataset = torch.cat([train, train[:10] + 0.02 * some(10, seed=1)])
    near, others = train + 0.3 * some(12, seed=2), some(12, seed=3)
    held_out = some(0 if told else 4, seed=5)
    twins = [(place, 12 + place) for place in range(10)] if told else []
    rates = functools.partial(memorisation.rates, kind="x", chance=0.05)
    found = rates(near, dataset, held_out, twins=twins)
    assert found["memorisation/copy_rate_x"] == found["memorisation/tile_max_x"] == 1
    strangers = rates(others, dataset, held_out, twins=twins)
    assert strangers["memorisation/copy_rate_x"] <= 0.25 and abs(strangers["memorisation/nearness_x"]) < 0.2
    # Without any of them, nothing is otherwise; and where all are alike, they are as good as any.
    assert rates(near, train, held_out, twins=[]) == rates(near, train, held_out, twins=[tuple(range(12))])


def test_a_layer_of_zeros_has_no_share_of_change() -> None:
    zero, plain = (torch.nn.Linear(4, 6, bias=False).requires_grad_(False) for _ in range(2))
    zero.weight.data.zero_()
    layers = {name: SimpleNamespace(get_base_layer=lambda layer=layer: layer) for name, layer in
              {"unet.zero": zero, "unet.plain": plain}.items()}  # fmt: skip
    adapter = SimpleNamespace(layers=layers, delta=lambda layer: torch.ones(6, 4), by_module=dict)
    context: Any = SimpleNamespace(adapter=adapter, weight=0.5, memoized=lambda key, compute: compute())
    found = norms.build(decompose=8).measure(context).values
    assert found["norms/relative_max"] == pytest.approx(float(0.5 * torch.ones(6, 4).norm() / plain.weight.norm()))
    assert all(map(math.isfinite, found.values()))
    del layers["unet.plain"]
    assert "that is on" in norms.build(decompose=8).measure(context).missing["norms/relative"]


@pytest.fixture
def told(
    on_tiny_sd: list[str], home: Path, capsys: pytest.CaptureFixture[str], quick_trials: None
) -> Callable[..., Any]:
    """What `train --json` says after two steps on the images of a folder."""

    def train(*words: str) -> Any:
        quick = ["train.max_steps=2", "train.rungs=1", "sample.steps=1", "sample.seeds=[0]"]
        quick += [f"dataset.path={home / 'images'}", "captions.trigger=zkw", "tracking=none"]
        assert main(["train", "--json", *on_tiny_sd, *quick, *words]) == 0
        return json.loads(capsys.readouterr().out)

    (home / "images").mkdir()
    return train


def test_one_picture_over_and_over_is_trained_on_and_judged(home: Path, told: Callable[..., Any]) -> None:
    for number in range(4):
        image = home / "images" / f"{number}.png"
        Image.linear_gradient("L").convert("RGB").resize((32, 32)).save(image, compress_level=number)
        image.with_suffix(".txt").write_text("zkw, 1girl")
    found = told("dataset.holdout=0", "sample.weights=[0.7]", "metrics=[memorisation,diversity,burn,norms]")
    assert "one picture over and over" in found["missing"]["memorisation/copy_rate"]
    assert math.isfinite(found["metrics"]["norms/relative"])


def test_at_a_weight_of_the_ladder_two_weights_make_no_parabola(home: Path, told: Callable[..., Any]) -> None:
    for number in range(6):
        image = home / "images" / f"{number}.png"
        Image.effect_noise((32, 32), 10 + number).convert("RGB").save(image)
        image.with_suffix(".txt").write_text(f"zkw, {number}")
    metrics = ["metrics=[useful_weight,generalisation]", "metrics.useful_weight.weights=[1.0]"]
    found = told("sample.weights=[0.7,1.0]", *metrics)
    assert "useful_weight/slope" in found["metrics"], found["missing"]
    (run,) = (home / "outputs" / "train").glob("*-s0")
    ladder = json.loads((run / "metrics.json").read_text())["ladder"]
    (at_1,) = [step for step in ladder if step["weight"] == 1.0]
    assert "besides 0 and this one" in at_1["missing"]["useful_weight/slope"]
