"""A space by itself: its grammar, its branches, and what its points mean."""

from __future__ import annotations

import itertools

import pytest

from lorasweep.config.override import parse
from lorasweep.config.space import Axis, Choice, Condition, Interval, Point, Setting, Space
from lorasweep.config.space_read import Swept, condition_problems, overlap_problems, read_override, read_space
from lorasweep.core.errors import Problem

ADAMW, PRODIGY = (Condition("optimizer", (name,)) for name in ("adamw", "prodigy"))
BRANCHED = Space(
    axes=(
        Axis("optimizer", Choice(("adamw", "prodigy"))),
        Axis("adapter.dim", Choice((4, 8))),
        Axis("optimizer.lr", Choice((1e-4, 1e-3)), (ADAMW,)),
        Axis("optimizer.d_coef", Interval(0.5, 2.0), (PRODIGY,)),
    ),
    settings=(Setting("scheduler", "constant", (PRODIGY,)),),
)


def domain(value: str) -> object:
    found = read_override(f"a.b={value}")
    return found.domain if isinstance(found, Swept) else found


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("choice(adamw,prodigy)", Choice(("adamw", "prodigy"))),
        ("adamw,prodigy", Choice(("adamw", "prodigy"))),
        ("sort(3,1,2)", Choice((1, 2, 3))),
        ("choice([],[a,b])", Choice(([], ["a", "b"]))),
        ("choice(true,false)", Choice((True, False))),
        ("interval(0.5,2)", Interval(0.5, 2.0)),
        ("interval(1,2)", Interval(1.0, 2.0)),
        ("int(interval(4,64))", Interval(4, 64, integer=True)),
        ("tag(log,interval(1e-5,5e-4))", Interval(1e-5, 5e-4, log=True)),
        ("tag(log,int(interval(4,64)))", Interval(4, 64, log=True, integer=True)),
        ("range(1,10,3)", Interval(1, 7, integer=True, step=3)),
        ("range(0.1,0.5,0.1)", Interval(0.1, 0.4, step=0.1)),
        ("range(0.7,1.0,0.1)", Interval(0.7, 0.9, step=0.1)),
        ("range(0.9,0.6,-0.1)", Interval(0.7, 0.9, step=0.1)),
        ("range(5,1,-2)", Interval(3, 5, integer=True, step=2)),
    ],
)
def test_hydras_grammar(text: str, wanted: Choice | Interval) -> None:
    found = domain(text)

    if isinstance(wanted, Interval):
        assert isinstance(found, Interval)
        assert (found.low, found.high, found.step) == pytest.approx((wanted.low, wanted.high, wanted.step))
        assert (found.log, found.integer) == (wanted.log, wanted.integer)
    else:
        assert found == wanted
    # What a manifest keeps reads back as the same domain.
    again = domain(str(found))
    assert str(again) == str(found) and type(again) is type(found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("choice(a)", "one value"),
        ("choice(a,a)", "repeat a value"),
        ("interval(2,1)", "grow from left to right"),
        ("tag(log,interval(0,1))", "ends above 0"),
        ("tag(log,choice(1,2))", "needs an interval"),
        ("tag(wide,interval(0,1))", "unknown tag wide"),
        ("shuffle(a,b)", "means nothing to a search"),
        ("range(1,2)", "two values or more"),
        ("interval(1)", "cannot be read"),
        ("choice('${oc.env:HOME}',b)", "a recipe is data"),
    ],
)
def test_what_is_wrong_with_a_domain_is_said(text: str, message: str) -> None:
    found = domain(text)

    assert isinstance(found, Problem)
    assert message in found.message


@pytest.mark.parametrize("text", ["seed=1", "dataset.path=a,b", "captions.prune=[a,b]", "nonsense"])
def test_one_value_is_no_axis(text: str) -> None:
    assert read_override(text) is None


def test_a_glob_of_a_group_is_its_files() -> None:
    found = read_override("optimizer=glob(adam*)")

    assert isinstance(found, Swept)
    assert found.domain == Choice(("adamw", "adamw8bit"))


def test_a_branch_has_its_own_names_and_sets_its_own_keys() -> None:
    point = BRANCHED.walk(lambda axis: {"optimizer": "prodigy", "adapter.dim": 8}.get(axis.key, 1.5))

    assert point.params == {"optimizer": "prodigy", "adapter.dim": 8, "optimizer.d_coef[prodigy]": 1.5}
    assert point.overrides == (
        "optimizer=prodigy",
        "scheduler=constant",
        "adapter.dim=8",
        "optimizer.d_coef=1.5",
    )
    assert point.picks == ("prodigy", "dim8", "d_coef1.5")
    assert parse(point.overrides)[1] == []
    assert BRANCHED.point(point.params) == point


def test_params_that_are_no_point_are_none() -> None:
    too_far = {"optimizer": "prodigy", "adapter.dim": 8, "optimizer.d_coef[prodigy]": 3.0}
    assert BRANCHED.point(too_far) is None
    assert BRANCHED.point({"optimizer": "lion", "adapter.dim": 8}) is None
    assert BRANCHED.point({"optimizer": "prodigy", "adapter.dim": 8}) is None
    stray = {"optimizer": "prodigy", "adapter.dim": 8, "optimizer.d_coef[prodigy]": 1.0, "other": 1}
    assert BRANCHED.point(stray) is None


def test_a_grid_is_every_combination_once_and_branches_do_not_multiply() -> None:
    space = Space(
        axes=(
            Axis("optimizer", Choice(("adamw", "prodigy", "lion"))),
            Axis("adapter.dim", Interval(4, 6, integer=True)),
            Axis("optimizer.lr", Choice((1e-4, 1e-3)), (ADAMW,)),
            Axis("optimizer.d_coef", Choice((0.5, 1.0, 2.0)), (PRODIGY,)),
        )
    )

    points = [tuple(sorted(point.values.items())) for point in space.grid()]

    dims = (4, 5, 6)
    wanted = [
        *itertools.product([("adapter.dim", d) for d in dims], [("optimizer", "adamw")], [1e-4, 1e-3]),
        *itertools.product([("adapter.dim", d) for d in dims], [("optimizer", "prodigy")], [0.5, 1.0, 2.0]),
        *itertools.product([("adapter.dim", d) for d in dims], [("optimizer", "lion")], [None]),
    ]
    assert len(points) == len(set(points)) == len(wanted) == 18


def test_a_grid_of_an_interval_has_no_end() -> None:
    with pytest.raises(ValueError, match="no end of values"):
        list(BRANCHED.grid())


def test_reading_branches_in_any_order_and_nested() -> None:
    problems: list[Problem] = []
    space = read_space(
        {
            "when": {
                "optimizer=adamw,lion": {
                    "optimizer": {"lr": "tag(log,interval(1e-5,1e-3))"},
                    "when": {"adapter=locon": {"adapter.conv_dim": "choice(8,16)"}},
                }
            },
            "adapter": "lora,locon",
            "optimizer": "choice(adamw,lion,prodigy)",
        },
        problems=problems,
    )

    assert problems == [] and space is not None
    assert list(space.describe()) == [
        "adapter",
        "optimizer",
        "optimizer.lr[adamw|lion]",
        "adapter.conv_dim[adamw|lion,locon]",
    ]
    chosen = {"adapter": "locon", "optimizer": "prodigy"}
    assert space.walk(lambda axis: chosen[axis.key]).params == chosen
    assert condition_problems(space) == overlap_problems(space) == []


def test_the_command_line_pins_and_replaces() -> None:
    data = {
        "optimizer": "choice(adamw,prodigy)",
        "adapter.dim": "choice(4,8)",
        "when": {
            "optimizer=adamw": {"optimizer.lr": "interval(1e-4,1e-3)"},
            "optimizer=prodigy": {"optimizer.d_coef": "interval(0.5,2)"},
        },
    }
    wider = read_override("adapter.dim=range(1,4)")
    assert isinstance(wider, Swept)

    space = read_space(data, swept=[wider], pinned={"optimizer": "prodigy"}, problems=[])

    assert space is not None
    assert space.describe() == {"optimizer.d_coef": "interval(0.5,2.0)", "adapter.dim": "range(1,4,1)"}


def problems_of(data: object) -> dict[str, str]:
    problems: list[Problem] = []
    space = read_space(data, problems=problems)
    if space is not None:
        problems += condition_problems(space) + overlap_problems(space)
    return {problem.where: f"{problem.message} ({problem.hint})" for problem in problems}


@pytest.mark.parametrize(
    ("data", "where", "message"),
    [
        ([1], "sweep.space", "must have keys"),
        ({"adapter.dim": 8}, "sweep.space.adapter.dim", "one value goes under `recipe:`"),
        ({"adapter.dim": "eight"}, "sweep.space.adapter.dim", "is one value"),
        ({"a": "choice(1,2)", "when": 3}, "sweep.space.when", "must have conditions"),
        ({"a": "choice(1,2)", "when": {"a": {}}}, "sweep.space.when.a", "a condition is KEY=VALUE"),
        (
            {"a": "choice(1,2)", "when": {"a=interval(0,1)": {}}},
            "sweep.space.when.a=interval(0,1)",
            "names values",
        ),
        (
            {"a": "choice(1,2)", "when": {"a=3": {"b": "choice(1,2)"}}},
            "sweep.space.when.a=3",
            "never holds: a is never 3 (values: 1, 2)",
        ),
        (
            {"adapter": "choice(lora,locon)", "when": {"adapter=lokon": {"b": "choice(1,2)"}}},
            "sweep.space.when.adapter=lokon",
            "did you mean `locon`?",
        ),
        (
            {"adaptr": "choice(lora,locon)", "when": {"adapter=lora": {"b": "choice(1,2)"}}},
            "sweep.space.when.adapter=lora",
            "`adapter` is not searched, so there is nothing to ask (did you mean `adaptr`?)",
        ),
        (
            {"a": "interval(0,1)", "when": {"a=0.5": {"b": "choice(1,2)"}}},
            "sweep.space.when.a=0.5",
            "is an interval",
        ),
        (
            {"a": "choice(1,2)", "b": "choice(1,2)", "when": {"a=1": {"b": "choice(3,4)"}}},
            "sweep.space.b",
            "the space itself and [a=1] can hold together",
        ),
        (
            {"a": "choice(1,2)", "c": "choice(1,2)", "when": {"a=1": {"b": "x,y"}, "c=1": {"b": "z"}}},
            "sweep.space.b",
            "[a=1] and [c=1] can hold together",
        ),
        (
            {"when": {"a=1": {"b": "choice(1,2)"}, "b=1": {"a": "choice(1,2)"}}},
            "sweep.space.when",
            "wait for each other",
        ),
        ({"_target_": "choice(os.system,x)"}, "sweep.space._target_", "`_target_` is refused"),
    ],
)
def test_mistakes_are_said_with_their_place(data: object, where: str, message: str) -> None:
    found = problems_of(data)

    assert message in found[where], found


def test_branches_that_exclude_each_other_may_give_the_same_key() -> None:
    data = {
        "a": "choice(1,2)",
        "when": {"a=1": {"b": "choice(1,2)"}, "a=2": {"b": "choice(3,4)"}},
    }

    assert problems_of(data) == {}


def test_a_point_is_named_by_its_files_and_a_few_numbers() -> None:
    few = {
        "optimizer": "adamw",
        "optimizer.lr[adamw]": 0.000312345,
        "captions.shuffle": True,
        "adapter.targets": "attn",
    }
    assert Point(few, {}).picks == ("adamw", "lr0.000312")
    assert Point({"dataset.dollhouse.seed": 12345, "x.scale": 1e4}, {}).picks == ("seed12345", "scale1e04")
    assert Point({"optimizer": "lion", "a.x": 1, "a.y": 2, "a.z": 0.5}, {}).picks == ("lion",)
