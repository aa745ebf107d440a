"""B, F and C on pictures whose answer is known, with a reader that reads what we painted."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import shipped
import torch
from PIL import Image

from lorasweep.components.metrics import _reader_scores as reader_scores
from lorasweep.components.metrics import burn, identity, prompt_control
from lorasweep.core import judging
from lorasweep.core.records import CaptionOptions
from lorasweep.data.captions import without_trigger
from lorasweep.dollhouse.reader.labels import HEADS
from lorasweep.dollhouse.reader.reader import Reading
from lorasweep.dollhouse.world import SUBJECTS, prompts, sample_spec, tags
from lorasweep.dollhouse.world.dataset import prompt_specs
from lorasweep.plan.sample_requests import ImageRequest
from lorasweep.trial.judge import judge
from lorasweep.trial.sample import Sample

ZKW = SUBJECTS["zkw"]
STRANGER = {
    "hair_color": "red",
    "hair_style": "bob cut",
    "eye_color": "blue",
    "skin": "tan",
    "head_mark": "none",
    "face_mark": "none",
    "mark_color": "none",
}


class PlantedReader:
    """Reads the number painted into a picture's first pixel as an index into a list of truths."""

    def __init__(self, truths: list[dict[str, str]]) -> None:
        self._truths = truths

    def read(self, images_BCHW: torch.Tensor) -> Reading:
        numbers = (images_BCHW[:, 0, 0, 0] * 255).round().int().tolist()
        probabilities = {
            head: torch.stack(
                [
                    torch.nn.functional.one_hot(
                        torch.tensor(values.index(self._truths[number][head])), len(values)
                    ).float()
                    for number in numbers
                ]
            )
            for head, values in HEADS.items()
        }
        count = len(numbers)
        return Reading(probabilities=probabilities, nuisances_BN=torch.zeros(count, 4), corrupt_B=torch.zeros(count))


@dataclasses.dataclass
class Gallery:
    """Writes pictures with planted truths and keeps the samples."""

    folder: Path
    truths: list[dict[str, str]] = dataclasses.field(default_factory=list)

    def add(self, tier: Any, prompt: str, truth: dict[str, str], weight: float) -> Sample:
        number = len(self.truths)
        self.truths.append(truth)
        file = self.folder / f"{number}.png"
        Image.fromarray(np.full((8, 8, 3), number, dtype=np.uint8)).save(file)
        request = ImageRequest(
            tier=tier, prompt=prompt, negative_prompt="", seed=0, weight=weight, width_px=8, height_px=8
        )
        return Sample(file=file, request=request)


def shown(spec: Any, **changes: str) -> dict[str, str]:
    return {head: getattr(spec, head) for head in HEADS} | changes


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery(tmp_path)


def situation(context: Any, gallery: Gallery, samples: list[Sample], base_samples: list[Sample]) -> Any:
    reader = PlantedReader(gallery.truths)
    return dataclasses.replace(context, samples=samples, base_samples=base_samples, reader=reader, _cache={})


def test_every_prompt_of_the_world_parses_back_into_what_it_asked_for() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        spec = sample_spec(rng)
        asked = reader_scores.asked_for(", ".join(tags(spec)), CaptionOptions())
        assert asked.pop("accessory", "none") == spec.accessory
        assert len(asked) == 8 and all(getattr(spec, name) == value for name, value in asked.items())
    assert reader_scores.asked_for("zkw, 1girl, plaid hair, red gadget, masterpiece", CaptionOptions()) == {}


def test_identity_is_the_readers_answer_at_the_weight_that_counts(context: Any, gallery: Gallery) -> None:
    spec = prompt_specs("zkw", count=1)["in_distribution"][0]
    nobody = shown(spec, **STRANGER)
    samples = [
        gallery.add("in_distribution", "zkw, a", shown(spec), 0.7),
        gallery.add("in_distribution", "zkw, b", shown(spec, eye_color="blue"), 0.7),
        gallery.add("in_distribution", "zkw, c", nobody, 1.0),
    ]
    chance = nobody | {"skin": ZKW.skin}  # the base happens to draw one of seven features
    base = [gallery.add("in_distribution", f"zkw, {letter}", chance, 0.0) for letter in "ab"]
    metric = shipped.build(identity, tiers=["in_distribution"])
    found = metric.measure(situation(context, gallery, samples, base)).values
    assert found["identity/all_features"] == 0.5
    assert found["identity/likeness"] == pytest.approx(13 / 14)
    assert found["identity/score"] == pytest.approx((13 / 14 - 1 / 7) / (6 / 7))
    as_base = [gallery.add("in_distribution", f"zkw, {letter}", chance, 0.7) for letter in "ab"]
    assert metric.measure(situation(context, gallery, as_base, base)).values["identity/score"] == 0
    readerless = dataclasses.replace(context, samples=samples, base_samples=base, _cache={})
    asked_for_it = shipped.build(identity, tiers=["in_distribution"], encoder="reader").measure(readerless)
    assert not asked_for_it.values and "dollhouse" in asked_for_it.missing["identity/score"]
    without_images = metric.measure(readerless)
    assert not without_images.values and "training images" in without_images.missing["identity/score"]


def test_control_is_relative_to_what_the_base_draws(context: Any, gallery: Gallery) -> None:
    asked = prompts("zkw", count=4)["recombined"]
    specs = prompt_specs("zkw", count=4)["recombined"]
    good = [gallery.add("recombined", p, shown(s), 0.7) for p, s in zip(asked, specs, strict=True)]
    deaf = [
        gallery.add("recombined", p, shown(s, background="city", outfit="coat", pose="standing"), 0.7)
        for p, s in zip(asked, specs, strict=True)
    ]
    base = [
        gallery.add("recombined", p, shown(s, background="city", hair_color="red"), 0.0)
        for p, s in zip(asked, specs, strict=True)
    ]
    metric = shipped.build(prompt_control, min_base_accuracy=0.3)
    obeys = metric.measure(situation(context, gallery, good, base)).values
    assert obeys["prompt_control/accuracy"] == 1
    assert obeys["prompt_control/base_accuracy"] == pytest.approx(0.75)  # background of four; hair is nobody's order
    assert obeys["prompt_control/score"] == pytest.approx(4 / 3)
    refuses = metric.measure(situation(context, gallery, deaf, base)).values
    assert refuses["prompt_control/score"] == pytest.approx(1 / 3)


def test_bleed_counts_the_subjects_features_without_the_trigger(context: Any, gallery: Gallery) -> None:
    spec = prompt_specs("zkw", count=1)["class"][0]
    stranger, horned = shown(spec, **STRANGER), shown(spec, **STRANGER | {"head_mark": ZKW.head_mark})
    base = [gallery.add("class", "x", stranger, 0.0), gallery.add("unrelated", "beach", stranger, 0.0)]
    drawn = [gallery.add("class", "x", stranger, 0.7), gallery.add("unrelated", "beach", horned, 0.7)]
    found = shipped.build(prompt_control, min_base_accuracy=0.3).measure(situation(context, gallery, drawn, base))
    assert found.values["prompt_control/bleed_class"] == 0
    assert found.values["prompt_control/bleed_unrelated"] == pytest.approx(1 / 7)  # one feature of seven
    assert "prompt_control/score" in found.missing


def test_captions_without_the_trigger_are_no_strangers(context: Any, gallery: Gallery) -> None:
    caption = next(image.caption for image in context.plan.train_images())
    plain = without_trigger(caption, context.plan.trigger, context.recipe.captions)
    assert plain != caption
    prompts_of = {**context.plan.prompts, "class": (plain,)}
    derived = dataclasses.replace(context, plan=SimpleNamespace(**vars(context.plan) | {"prompts": prompts_of}))
    spec = prompt_specs("zkw", count=1)["class"][0]
    stranger, horned = shown(spec, **STRANGER), shown(spec, **STRANGER | {"head_mark": ZKW.head_mark})
    base = [gallery.add("class", plain, stranger, 0.0), gallery.add("unrelated", "beach", stranger, 0.0)]
    drawn = [gallery.add("class", plain, horned, 0.7), gallery.add("unrelated", "beach", stranger, 0.7)]
    found = shipped.build(prompt_control, min_base_accuracy=0.3).measure(situation(derived, gallery, drawn, base))
    assert found.values["prompt_control/bleed_plain"] == pytest.approx(1 / 7)
    assert "prompt_control/bleed_class" not in found.values
    assert "leave open who comes" in found.missing["prompt_control/bleed_class"]
    assert found.values["prompt_control/bleed_unrelated"] == 0


def noise(seed: int, gain: float = 1.0) -> np.ndarray:
    pixels = np.random.default_rng(seed).normal(0, 20, (32, 32, 3)) + np.array([150, 120, 90])
    return (128 + (pixels - 128) * gain).clip(1, 254).astype(np.uint8)


def test_burn_in_closed_form() -> None:
    def row(*values: float) -> torch.Tensor:
        return torch.tensor(values)[:, None, None]  # as many pictures, one tile, one number

    base, none = row(0.0, 2.0), row()
    # The base's are 2 apart, squared 4; 7 is 5 from the nearest of them, and 3 from 4.
    assert burn.strangeness(row(7.0), base, none) == pytest.approx(25 / 4)
    assert burn.strangeness(row(7.0), base, row(4.0)) == pytest.approx(9 / 4)
    assert burn.strangeness(row(7.0, 2.0), base, row(4.0)) == pytest.approx(9 / 8), "the mean over pictures"
    assert burn.strangeness(row(2.0, 4.0, 0.0), base, row(4.0)) == 0


def test_burn_is_little_for_what_is_near_and_grows_with_what_was_never_seen() -> None:
    generator = torch.Generator().manual_seed(0)

    def pictures(count: int) -> torch.Tensor:
        return torch.randn(count, 16, 24, generator=generator)

    base, trained = pictures(16), pictures(20)
    near = base + 0.3 * pictures(16)  # the base's pictures, a little changed
    assert burn.strangeness(base, base, trained) == pytest.approx(0)
    assert 0 < burn.strangeness(near, base, trained) < 0.15
    broken = [burn.strangeness(near + noise * pictures(16), base, trained) for noise in (1, 2, 4)]
    assert 0.2 < broken[0] < broken[1] < broken[2]
    one_tile = near.clone()
    one_tile[:, 3] += 10
    assert burn.strangeness(one_tile, base, trained) > 2 * burn.strangeness(near, base, trained)
    # Place by place: what belongs at the top is strange at the bottom, when places differ.
    places = 3 * pictures(1)
    upside_down = (near + places).flip(1)
    assert burn.strangeness(near + places, base + places, trained + places) < 0.15
    assert burn.strangeness(upside_down, base + places, trained + places) > 1


def test_twins_among_the_bases_pictures_make_nothing_strange() -> None:
    """The base does not know the trigger: with and without it, it draws the same."""
    generator = torch.Generator().manual_seed(0)
    base, trained, drawn = (torch.randn(n, 16, 24, generator=generator) for n in (8, 8, 8))
    twins = torch.cat([base, base + 1e-3 * torch.randn(8, 16, 24, generator=generator)])
    alone = burn.strangeness(drawn, base, trained)
    assert burn.strangeness(drawn, twins, trained) == pytest.approx(alone, rel=0.1)


def test_what_is_fried_lies_outside_the_interval_and_grows_with_saturation() -> None:
    reference = [noise(seed, gain) for seed, gain in enumerate(np.linspace(0.6, 1.4, 9))]
    assert max(burn.excesses([noise(50, 0.9), noise(51, 1.2)], reference).values()) == 0
    scores = [max(burn.excesses([noise(50, gain)], reference).values()) for gain in (1.6, 2.0, 3.0)]
    assert 0 < scores[0] < scores[1] < scores[2]


def test_picture_statistics_in_closed_form() -> None:
    red = burn.statistics(np.full((8, 8, 3), [255, 0, 0], dtype=np.uint8))
    assert red == {"saturation": 1.0, "contrast": pytest.approx(0), "clipped": 1.0, "grain": pytest.approx(0)}
    board = np.indices((8, 8)).sum(0) % 2 * 255
    checkers = burn.statistics(np.repeat(board[..., None], 3, -1).astype(np.uint8))
    assert checkers["contrast"] == pytest.approx(0.5)
    assert checkers["grain"] == pytest.approx(4)
    assert checkers["saturation"] == 0
    column = np.full((4, 8, 3), 128, dtype=np.uint8)
    column[:, 0, 0] = 255  # one channel of one of eight columns
    assert burn.statistics(column)["clipped"] == pytest.approx(1 / 8)
    assert burn.statistics(column)["saturation"] == pytest.approx(127 / 255 / 8)


def test_burn_needs_pictures_and_something_to_compare_with(context: Any, gallery: Gallery) -> None:
    drawn = gallery.add("class", "x", {}, 0.7)
    few = dataclasses.replace(context, samples=[drawn], _cache={})
    assert "needs 99 pictures" in burn.build(min_reference=99).measure(few).missing["burn/score"]
    trained = judging.Gallery(train=(few.pictures("class")[0].image,), held_out=(), train_captions=("x",))
    no_base = dataclasses.replace(few, gallery=trained, base_samples=[], _cache={})
    found = burn.build(min_reference=1).measure(no_base)
    assert "by the base, got 0" in found.missing["burn/score"] and found.values["burn/grain"] == 0


def test_burn_is_measured_on_the_features_of_the_frozen_base(
    context: Any, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each picture's number stands for its features: 0, 2 and 4 by the base, 8 trained on, 11 drawn."""
    base = [gallery.add("class", prompt, {}, 0.0) for prompt in "abcdefghijk"]
    drawn = dataclasses.replace(base[0].request, weight=0.7)
    samples = [dataclasses.replace(gallery.add("class", "a", {}, 0.7), request=drawn)]
    wanted = [dataclasses.replace(base[n], request=dataclasses.replace(base[n].request, prompt="a")) for n in (0, 2, 4)]
    trained = judging.Gallery(train=(base[8].open(),), held_out=(), train_captions=("x",))
    situation = dataclasses.replace(context, samples=samples, base_samples=wanted, gallery=trained, _cache={})

    def features(self: Any, pictures: Any, **how: Any) -> dict[str, torch.Tensor]:
        return {"features": torch.tensor([float(np.asarray(p)[0, 0, 0]) for p in pictures])[:, None, None]}

    monkeypatch.setattr(type(context), "features", features)
    found = burn.build(min_reference=4).measure(situation)
    # 11 is 3 from 8; of the base's, two pairs are 2 apart and one is 4.
    assert found.values["burn/score"] == pytest.approx(9 / 4)


def test_judge_says_why_a_metric_is_missing_and_never_returns_a_bad_number(
    context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = judge(context, {name: shipped.knobs("metrics", name) for name in ("burn", "identity")})
    assert "none were drawn at step 10" in found.missing["burn"]
    assert "overcook/score" in found.missing
    from lorasweep.components.metrics import prior_drift
    from lorasweep.core.records import Measurement

    class Broken:
        def measure(self, context: Any) -> Measurement:
            return Measurement(values={"prior_drift/class": 0.0, "prior_drift/unrelated": float("nan")})

    monkeypatch.setattr(prior_drift, "build", lambda **knobs: Broken())
    found = judge(context, {"prior_drift": {"weights": []}})
    assert found.missing["prior_drift/unrelated"] == "was nan at step 10"
    assert found.values["overcook/score"] == 0
