"""What a process keeps in memory between trials: one base, whatever the recipes say about prompts."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from lorasweep import api, config, plan
from lorasweep.components.bases import stable_diffusion
from lorasweep.core.records import Recipe
from lorasweep.trial.resources import TrialResources

TINY = ["base=stable_diffusion", "base.resolution=32", "base.bucket_step=8", "train.device=cpu"]
QUICK = ["dataset.dollhouse.images=4", "sample.steps=2", "sample.seeds=[0]", "sample.guidance=4"]


def _recipe(folder: Path, *words: str) -> Recipe:
    return config.compose_recipe([*TINY, *QUICK, f"base.path={folder}", *words])


def test_prompts_and_clip_skip_put_no_second_base_into_memory(home: Path, tiny_sd: Path) -> None:
    resources = TrialResources()
    plain = resources.base(_recipe(tiny_sd))
    others = [
        _recipe(tiny_sd, "base.negative_prompt=red hat"),
        _recipe(tiny_sd, "base.unrelated_prompts=[smile]"),
        _recipe(tiny_sd, "base.neighbour_prompts=[blue hat]"),
        _recipe(tiny_sd, "base.clip_skip=2"),
    ]
    for recipe in others:
        base = resources.base(recipe)
        assert base.unet is plain.unet and base.parts["text_encoder"] is plain.parts["text_encoder"], recipe.base
        assert base.clip_skip == recipe.base.clip_skip
    assert resources.base(_recipe(tiny_sd)) is plain


def test_a_copy_of_the_base_elsewhere_is_the_same_base(home: Path, tiny_sd: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(tiny_sd, tmp_path / "copied")
    resources = TrialResources()
    assert resources.base(_recipe(tiny_sd)) is resources.base(_recipe(copied))


def test_other_weights_or_precision_take_the_place_of_the_last_base(home: Path, tiny_sd: Path, tmp_path: Path) -> None:
    import gc
    import weakref

    from tiny_sd import make_tiny_sd

    other, resources = make_tiny_sd(tmp_path / "other", seed=1), TrialResources()
    for recipe in (_recipe(other), _recipe(tiny_sd, "train.precision=bf16")):
        first = weakref.ref(resources.base(_recipe(tiny_sd)).unet)
        second = resources.base(recipe)
        gc.collect()
        assert first() is None, "the base that was there before is gone"
        assert second.fingerprint == stable_diffusion.fingerprint(recipe.base)
        assert str(second.dtype) == {"fp32": "torch.float32", "bf16": "torch.bfloat16"}[recipe.train.precision]


def test_clip_skip_still_acts_on_captions_and_on_the_bases_pictures(home: Path, tiny_sd: Path) -> None:
    resources, (one, two) = TrialResources(), (_recipe(tiny_sd), _recipe(tiny_sd, "base.clip_skip=2"))
    texts = [resources.caches(recipe)[1].embed(["zkw, red hat"])["embeds"] for recipe in (one, two, one)]
    assert torch.equal(texts[0], texts[2]) and not torch.equal(texts[0], texts[1])
    pictures = [_pictures(resources, recipe) for recipe in (one, two, one)]
    assert np.array_equal(pictures[0], pictures[2]) and not np.array_equal(pictures[0], pictures[1])


def test_the_negative_prompt_still_acts_on_the_bases_pictures(home: Path, tiny_sd: Path) -> None:
    resources = TrialResources()
    plain, negative = (_recipe(tiny_sd, f"base.negative_prompt={text}") for text in ("''", "red hat"))
    assert not np.array_equal(_pictures(resources, plain), _pictures(resources, negative))


def test_the_bases_pictures_are_drawn_by_the_code_that_draws_the_others(
    home: Path, tiny_sd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = _recipe(tiny_sd)
    planned, folders = plan.make_plan(recipe), []
    for code in ("today's", "tomorrow's", "today's"):
        monkeypatch.setattr("lorasweep.trial.resources.code_digest", lambda code=code: code)
        folders.append(TrialResources().base_samples(recipe, planned)[0].file.parent)
    assert folders[0] == folders[2] != folders[1]


def test_the_bases_pictures_are_drawn_again_when_the_cache_was_emptied(home: Path, tiny_sd: Path) -> None:
    resources, recipe = TrialResources(), _recipe(tiny_sd)
    before = _pictures(resources, recipe)
    api.clear_cache("base_samples")
    assert np.array_equal(_pictures(resources, recipe), before)


def _pictures(resources: TrialResources, recipe: Recipe) -> np.ndarray:
    samples = resources.base_samples(recipe, plan.make_plan(recipe))
    return np.stack([np.asarray(sample.open()) for sample in samples])
