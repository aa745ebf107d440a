"""What every tagger promises, for each file of conf/tagger/ or those that `CHOICES` names.

A module that needs a folder gets it from a fixture `tagger_path` of the test module, by the tagger's name.
"""

from __future__ import annotations

from typing import Any

import pytest

from lorasweep.core.protocols import Tagger
from lorasweep.testing import Choice, load, loads_torch
from lorasweep.testing import pytest_generate_tests as pytest_generate_tests

SIZES_PX = ((64, 64), (40, 200), (200, 40), (3, 5), (500, 460))


@pytest.fixture
def knobs(tagger_choice: Choice, request: pytest.FixtureRequest) -> dict[str, Any]:
    """The YAML's, with the folder where one is wanted."""
    name, knobs = tagger_choice
    return {**knobs, "path": str(request.getfixturevalue("tagger_path")[name])} if "path" in knobs else knobs


@pytest.fixture
def tagger(tagger_choice: Choice, knobs: dict[str, Any]) -> Tagger:
    """The tagger."""
    module = load("tagger", tagger_choice)
    if "path" in knobs:
        assert module.problems(path=knobs["path"]) == []
    made: Tagger = module.build(**knobs)
    return made


@pytest.fixture
def pictures() -> list[Any]:
    """Noise in large cells, of odd sizes."""
    import numpy as np
    from PIL import Image

    cells = [np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8) for seed in range(len(SIZES_PX))]
    return [Image.fromarray(cell).resize(size) for cell, size in zip(cells, SIZES_PX, strict=True)]


def test_every_picture_is_seen_by_itself(tagger: Tagger, pictures: list[Any]) -> None:
    together = tagger.tag(pictures)
    assert len(together) == len(pictures)
    for picture, tags in zip(pictures, together, strict=True):
        (alone,) = tagger.tag([picture])
        assert [(tag.text, tag.kind) for tag in alone] == [(tag.text, tag.kind) for tag in tags]
        assert [tag.confidence for tag in alone] == pytest.approx([tag.confidence for tag in tags], abs=1e-5)


def test_tags_are_words_with_a_confidence_and_a_threshold(tagger: Tagger, pictures: list[Any]) -> None:
    for tags in tagger.tag(pictures):
        assert len({tag.text for tag in tags}) == len(tags)
        for tag in tags:
            assert tag.text == " ".join(tag.text.split()) != "" and 0 <= tag.confidence <= 1
            assert 0 <= tagger.thresholds[tag.kind] <= 1
    assert tagger.batch_size >= 1


def test_what_is_remembered_is_its_own(tagger_choice: Choice, knobs: dict[str, Any], tagger: Tagger) -> None:
    module = load("tagger", tagger_choice)
    assert module.build(**knobs).fingerprint == tagger.fingerprint != ""
    stricter = {key: 0.99 for key in knobs if key.endswith("threshold")}
    assert module.build(**{**knobs, **stricter}).fingerprint == tagger.fingerprint


def test_its_knobs_are_checked_without_torch(tagger_choice: Choice) -> None:
    assert not loads_torch(f"registry.load('tagger', {tagger_choice[0]!r})")
