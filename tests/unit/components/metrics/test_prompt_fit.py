"""C where no reader knows the world: which of some texts a picture fits best, counted by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lorasweep.components.metrics.prompt_control import PromptControl
from lorasweep.core.judging import Picture
from lorasweep.core.records import CaptionOptions

CAPTIONS = ("zkw, beach", "zkw", "zkw, hat", "zkw, sea", "zkw, hill", "zkw, moor")
# Recombined prompts, then training captions that are none of them, without the trigger; three at most.
TEXTS = ("hat", "coat", "beach", "sea", "hill")


def shown(*fits: str) -> list[Picture]:
    """Pictures drawn for a hat, a hat, a coat, a coat, and the text that each fits best."""
    asked = ("zkw, hat", "zkw, hat", "zkw, coat", "zkw, coat")
    return [
        Picture(prompt=prompt, seed=seed, image=torch.eye(len(TEXTS))[TEXTS.index(fit)])  # type: ignore[arg-type]
        for seed, (prompt, fit) in enumerate(zip(asked, fits, strict=True))
    ]


def about(drawn: list[Picture], base: list[Picture], asked: list[Any]) -> Any:
    return SimpleNamespace(
        plan=SimpleNamespace(trigger="zkw", prompts={"recombined": ("zkw, hat", "zkw, coat")}),
        recipe=SimpleNamespace(captions=CaptionOptions()),
        gallery=SimpleNamespace(train_captions=CAPTIONS),
        pictures=lambda *tiers: drawn,
        base_pictures=lambda *tiers: base,
        prompt_fit=lambda name, texts: asked.append((name, texts)) or "fit",
        features=lambda pictures, *, encoder, keep: {encoder: torch.stack(pictures)},
    )


@pytest.mark.parametrize("least", [0.5, 0.75, 0.76])
def test_control_is_the_share_that_fits_its_own_prompt_over_the_bases(least: float) -> None:
    asked: list[Any] = []
    context = about(shown("hat", "beach", "sea", "hat"), shown("hat", "hat", "coat", "hat"), asked)
    found = PromptControl(min_base_accuracy=least, encoder="clip", also=())._control_by_fit(context, "clip")
    assert asked == [("clip", TEXTS)]
    assert (found.values["prompt_control/accuracy"], found.values["prompt_control/base_accuracy"]) == (0.25, 0.75)
    assert found.values.get("prompt_control/score") == (pytest.approx(1 / 3) if least <= 0.75 else None)


def test_a_picture_that_fits_nothing_by_a_number_has_chosen_nothing() -> None:
    drawn = shown("hat", "hat", "coat", "coat")
    drawn[0].image[0] = math.nan  # type: ignore[index]
    found = PromptControl(min_base_accuracy=0.5, encoder="clip", also=())._control_by_fit(
        about(drawn, shown("hat", "hat", "coat", "coat"), []), "clip"
    )
    assert math.isnan(found.values["prompt_control/score"]) and found.values["prompt_control/base_accuracy"] == 1
