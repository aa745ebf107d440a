"""`lorasweep plan` of a sweep of many arms: what they share is worked out once, and what is said stays the same."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lorasweep import cli, config
from lorasweep.components.bases import _checks
from lorasweep.core import once
from lorasweep.core.records import Recipe
from lorasweep.data import near_duplicates
from lorasweep.plan import dataset, make_plan

LOOKED_AT = {"adapter", "base", "dataset", "captions", "buckets", "regularization", "train"}


def _sweep(folder: Path, arms: str) -> Path:
    file = folder / "many.yaml"
    recipe = "{train.max_steps: 40, dataset.prompts: {class: ['1girl, hat']}}"
    file.write_text(f"sweep:\n  question: Which?\n  recipe: {recipe}\n  arms:\n{arms}", encoding="utf-8")
    return file


def _counted(monkeypatch: pytest.MonkeyPatch, module: object, name: str) -> list[None]:
    calls: list[None] = []
    real: Callable[..., object] = getattr(module, name)

    def count(*args: object, **kwargs: object) -> object:
        calls.append(None)
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, count)
    return calls


def test_what_arms_share_is_looked_at_once(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = "".join(
        f"    a{n}: {{optimizer.lr: {n + 1}e-4, buckets: {'four' if n % 2 else 'five'}}}\n" for n in range(8)
    )
    file = _sweep(tmp_path, arms)
    datasets = _counted(monkeypatch, near_duplicates, "groups")
    bases = _counted(monkeypatch, _checks, "find_problems")

    assert cli.main(["plan", str(file), "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert (len(datasets), len(bases)) == (2, 1)  # by the buckets; the base is one
    spec = config.load_sweep(str(file))
    assert [arm["fingerprint"] for arm in told["arms"]] == [make_plan(arm.recipe).fingerprint for arm in spec.arms]


def test_a_key_set_within_a_value_is_of_its_own_arm(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _sweep(tmp_path, "    one: {dataset.prompts.unrelated: [tree]}\n    two: {}\n")

    assert cli.main(["plan", str(file), "--json"]) == 0

    one, two = json.loads(capsys.readouterr().out)["arms"]
    assert one["prompts"]["unrelated"] == ["tree"] != two["prompts"]["unrelated"]


def test_a_dataset_follows_from_the_keys_that_tell_two_apart(home: Path, recipe_of: Callable[..., Recipe]) -> None:
    recipe = recipe_of()
    blank = {field.name: None for field in dataclasses.fields(recipe) if field.name not in LOOKED_AT}

    assert dataset.read_dataset(dataclasses.replace(recipe, **blank)) == dataset.read_dataset(recipe)  # type: ignore[arg-type]


def test_nothing_is_remembered_beyond_the_question(home: Path, tmp_path: Path) -> None:
    calls = []

    @once.per_arguments
    def ask(text: str) -> int:
        calls.append(text)
        return len(calls)

    assert (ask("a"), ask("a")) == (1, 2)
    with once.shared(), once.shared():
        assert (ask("a"), ask("a"), ask("b")) == (3, 3, 4)
    assert ask("a") == 5
