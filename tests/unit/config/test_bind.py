"""Binding data to types: everything wrong is found, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from lorasweep.config.bind import WrongTypeError, bind_record, describe, fit
from lorasweep.core.errors import Problem


@pytest.mark.parametrize(
    ("hint", "value", "expected"),
    [
        (int, 3, 3),
        (float, 3, 3.0),
        (float | None, None, None),
        (int | float, 3, 3),
        (int | float, 0.5, 0.5),
        (str, "a", "a"),
        (bool, False, False),
        (Literal["a", "b"], "b", "b"),
        (tuple[float, ...], [1, 2.5], (1.0, 2.5)),
        (tuple[int, int], [1, 2], (1, 2)),
        (tuple[tuple[int, int], ...], [[1, 2]], ((1, 2),)),
        (Sequence[str], ["a"], ("a",)),
        (dict[str, tuple[str, ...]], {"a": ["b"]}, {"a": ("b",)}),
        (Any, {"x": [1]}, {"x": [1]}),
    ],
)
def test_values_that_fit(hint: Any, value: Any, expected: Any) -> None:
    found = fit(hint, value)

    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("hint", "value", "words"),
    [
        (int, 3.0, "a whole number"),
        (int, True, "a whole number"),
        (int, "3", "a whole number"),
        (float, "1e-4", "a number"),
        (float, True, "a number"),
        (float, float("nan"), "a finite number"),
        (float, float("inf"), "a finite number"),
        (str, 3, "text"),
        (bool, 1, "true or false"),
        (int | None, "x", "a whole number or null"),
        (Literal["fp32", "bf16"], "fp3", r"one of fp32, bf16 \(did you mean `fp32`\?\)"),
        (tuple[int, ...], 3, r"a list \(a whole number each\)"),
        (tuple[int, int], [1], "a list of 2"),
        (tuple[int, ...], [1, "x"], r"a list \(a whole number each\)"),
        (dict[str, int], [1], "keys with a whole number each"),
    ],
)
def test_values_that_do_not_fit(hint: Any, value: Any, words: str) -> None:
    with pytest.raises(WrongTypeError, match=words):
        fit(hint, value)


@dataclass(frozen=True)
class Inner:
    depth: int = 1


@dataclass(frozen=True)
class Outer:
    name: str
    lr: float
    inner: Inner = field(default_factory=Inner)


def test_a_record_is_bound_with_its_defaults() -> None:
    problems: list[Problem] = []

    assert bind_record(Outer, {"name": "x", "lr": 1}, at="a", problems=problems) == Outer("x", 1.0, Inner(1))
    assert not problems


def test_all_problems_of_a_record_are_found() -> None:
    problems: list[Problem] = []

    bound = bind_record(Outer, {"lr": "???", "lrr": 1, "inner": {"depth": "x", "dept": 2}}, at="a", problems=problems)

    assert bound is None
    found = {problem.where: problem.message for problem in problems}
    assert found.keys() == {"a.lrr", "a.name", "a.lr", "a.inner.depth", "a.inner.dept"}
    assert "did you mean `lr`?" in found["a.lrr"]
    assert "is missing" in found["a.name"]
    assert "must be given" in found["a.lr"]
    assert found["a.inner.depth"] == "must be a whole number, got 'x'"


def test_a_number_where_text_is_wanted_says_to_quote_it() -> None:
    problems: list[Problem] = []

    bind_record(Outer, {"name": 3, "lr": 1}, at="a", problems=problems)

    assert "quote" in problems[0].hint


def test_hints_in_words() -> None:
    assert describe(dict[str, Any]) == "keys with values"
    assert describe(bool | None) == "true or false or null"
    assert describe(Inner) == "keys (depth?)"
