"""conf/captions/shallow.yaml and deep.yaml: how much a trigger is left to absorb."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorasweep import api
from lorasweep.config import compose_recipe

TRAITS = {"white hair", "twintails", "red eyes", "dark skin"}  # the subject's own, on every picture of zkw


def tags_after(policy: str) -> list[set[str]]:
    recipe = compose_recipe([f"captions={policy}", "dataset.dollhouse.captions=full"])
    (shown,) = api.plan(recipe).captions_json()["policies"]
    return [set(row["after"].split(", ")) for row in shown["images"]]


@pytest.fixture
def after(home: Path) -> dict[str, list[set[str]]]:
    return {policy: tags_after(policy) for policy in ("shallow", "absorbed", "deep")}


def test_shallow_is_the_trigger_and_who_is_there(after: dict[str, Any]) -> None:
    assert all(tags == {"zkw", "1girl"} for tags in after["shallow"])


def test_deep_keeps_every_tag_the_traits_too(after: dict[str, Any]) -> None:
    assert all(TRAITS < tags and len(tags) >= 9 for tags in after["deep"])


def test_absorbed_lies_between(after: dict[str, Any]) -> None:
    for shallow, absorbed, deep in zip(after["shallow"], after["absorbed"], after["deep"], strict=True):
        assert shallow < absorbed < deep
        assert not absorbed & {"white hair", "red eyes", "dark skin"}
