"""Binding data to types: everything wrong is found, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from lorasweep.config.bind import bind_record, bind_value, describe
from lorasweep.core.errors import Problem


def bound(hint: Any, value: Any, **options: Any) -> tuple[Any, list[Problem]]:
    problems: list[Problem] = []
    return bind_value(hint, value, at="a.b", problems=problems, **options), problems


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
        (tuple[int, ...] | None, [1], (1,)),
        (Sequence[str], ["a"], ["a"]),
        (dict[str, tuple[str, ...]], {"a": ["b"]}, {"a": ("b",)}),
        (Any, {"x": [1]}, {"x": [1]}),
        (Annotated[float, Field(ge=0)], 0, 0.0),
    ],
)
def test_values_that_fit(hint: Any, value: Any, expected: Any) -> None:
    found, problems = bound(hint, value)

    assert problems == []
    assert found == expected and type(found) is type(expected)


AT_LEAST_ONE = Annotated[int, Field(ge=1)]
STEPS_OR_SHARE = Annotated[int, Field(ge=0, title="be steps or a share")] | Annotated[float, Field(ge=0, lt=1)]


@pytest.mark.parametrize(
    ("hint", "value", "words"),
    [
        (int, 3.0, "must be a whole number, got 3.0"),
        (int, True, "must be a whole number, got true"),
        (int, "3", "must be a whole number, got '3'"),
        (float, "1e-4", "must be a number"),
        (float, True, "must be a number"),
        (float, float("nan"), "must be a finite number"),
        (float, float("inf"), "must be a finite number"),
        (str, 3, "must be text"),
        (bool, 1, "must be true or false"),
        (int | None, "x", "must be a whole number or null"),
        (Literal["fp32", "bf16"], "fp3", "must be one of fp32, bf16 (did you mean `fp32`?)"),
        (tuple[int, ...], 3, "must be a list (a whole number each)"),
        (tuple[int, int], [1], "must be a list of 2"),
        (tuple[int, ...], [1, "x"], "must be a list (a whole number each)"),
        (tuple[str, ...], "abc", "must be a list (text each)"),
        (dict[str, int], [1], "must be keys with a whole number each"),
        (AT_LEAST_ONE, 0, "must be >= 1, got 0"),
        (AT_LEAST_ONE, 1.5, "must be a whole number, got 1.5"),
        (AT_LEAST_ONE | None, 0, "must be >= 1, got 0"),
        (Annotated[float, Field(gt=0, le=2)], 3, "must be in (0, 2], got 3"),
        (Annotated[float, Field(ge=0, lt=1)], 1, "must be in [0, 1), got 1"),
        (Annotated[float, Field(lt=1)], 1, "must be < 1"),
        (tuple[AT_LEAST_ONE, ...], [1, 0], "must be >= 1, got [1, 0]"),
        (Annotated[tuple[int, ...], Field(min_length=1)], ["x"], "must be a list (a whole number each)"),
        (Annotated[tuple[int, ...], Field(min_length=1)], [], "must not be empty, got []"),
        (Annotated[str, Field(pattern="^a$", title="be an a")], "b", "must be an a, got 'b'"),
        (STEPS_OR_SHARE, -1, "must be steps or a share, got -1"),
        (STEPS_OR_SHARE, 1.5, "must be in [0, 1), got 1.5"),
        (STEPS_OR_SHARE, "x", "must be a whole number or a number"),
    ],
)
def test_values_that_do_not_fit(hint: Any, value: Any, words: str) -> None:
    found, (problem,) = bound(hint, value)

    assert found is None
    assert problem.where == "a.b" and words in problem.message


def test_the_next_step_is_a_sentence_an_example_or_the_default() -> None:
    assert bound(Annotated[int, Field(ge=1, description="4 is usual")], 0, default=8)[1][0].hint == "4 is usual"
    assert bound(Annotated[int, Field(ge=1, examples=[4])], 0)[1][0].hint == "override: a.b=4"
    assert bound(tuple[AT_LEAST_ONE, ...], [0], default=(1, 2))[1][0].hint == "override: a.b=[1,2]"
    assert bound(AT_LEAST_ONE | None, 0)[1][0].hint == ""


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
