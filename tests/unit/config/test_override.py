"""`KEY=VALUE` is data: what is read, what is refused, and that writing is the inverse of reading."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorasweep.config.override import Override, parse
from lorasweep.core.hydra_text import write, write_text


def read(text: str) -> Override:
    overrides, problems = parse([text])
    assert not problems, problems
    return overrides[0]


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("optimizer=prodigy", "optimizer", "prodigy"),
        ("optimizer.lr=1e-4", "optimizer.lr", 1e-4),
        ("seed=0", "seed", 0),
        ("dataset.path=null", "dataset.path", None),
        ("dataset.path=some/folder", "dataset.path", "some/folder"),
        ('dataset.path="a, b (1)/ü"', "dataset.path", "a, b (1)/ü"),
        ("dataset.path=my photos (1)", "dataset.path", "my photos (1)"),
        ("dataset.path=a, b's/été", "dataset.path", "a, b's/été"),
        ("captions.trigger=zoé", "captions.trigger", "zoé"),
        ("sample.weights=[0.4,1]", "sample.weights", [0.4, 1]),
        ("dataset.prompts={class:[a,b]}", "dataset.prompts", {"class": ["a", "b"]}),
        ("+train.max_steps=3", "train.max_steps", 3),
        ("captions.shuffle=true", "captions.shuffle", True),
    ],
)
def test_values_are_read_with_their_types(text: str, key: str, value: Any) -> None:
    override = read(text)

    assert (override.key, override.value, override.delete) == (key, value, False)
    assert type(override.value) is type(value)


def test_a_key_can_be_taken_out() -> None:
    assert read("~metrics.burn").delete


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("optimizer", "must be KEY=VALUE", "optimizer=VALUE"),
        ("=3", "must be KEY=VALUE", ""),
        ("captions.trigger='my", "is not closed", 'captions.trigger="'),
        ("captions.prune=[d'arc (a, b)]", "not clear where", "captions.prune=["),
        ("captions.prune=[fate (a, b)]", "not clear where", 'captions.prune=["fate (a, b)"]'),
        ("captions.trigger=a\nb", "must be one line", ""),
        ("captions.clean.replacements={a:b,a:c}", "'a' is given twice", ""),
        ("captions.prune=[a", "`]` is missing", 'captions.prune="[a"'),
        ("captions.trigger=a,b", "several values", '"a,b"'),
        ("~adapter.dim=8", "so it has no value", "~adapter.dim"),
        ("optimizer=adamw,prodigy", "several values", "a comparison is lorasweep -m optimizer=adamw,prodigy"),
        ("mine.yaml", "must be KEY=VALUE", "right after the command"),
        ("quickstart", "must be KEY=VALUE", "lorasweep sweep quickstart"),
        ("dataset.path=~nobody_of_that_name/x", "has no home folder", "in full"),
        ("optimizer.lr=range(1,3)", "several values", ""),
        ("adapter._target_=os.system", "`_target_` is refused", ""),
        ("+adapter={_target_:os.system}", "`_target_` is refused", ""),
        ("adapter.a={b:[{_partial_:true}]}", "`_partial_` is refused", ""),
        ("captions.trigger=${oc.env:HOME}", "is not read", ""),
        ("captions.trigger=a${seed}", "is not read", ""),
        ("dataset.prompts={class:['${oc.decode:1}']}", "is not read", ""),
        ("hydra.run.dir=x", "Hydra's own settings", ""),
        ("hydra/launcher=x", "Hydra's own settings", ""),
        ("adapter@x=lora", "@package", ""),
    ],
)
def test_what_is_more_than_data_is_refused(text: str, message: str, hint: str) -> None:
    overrides, problems = parse([text])

    assert not overrides
    assert problems[0].where == text
    assert message in problems[0].message and hint in problems[0].hint


def test_every_problem_is_found() -> None:
    overrides, problems = parse(["a", "seed=1", "b"])

    assert [override.key for override in overrides] == ["seed"]
    assert [problem.where for problem in problems] == ["a", "b"]


TEXT = st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="$"), max_size=30)
SCALARS = TEXT | st.integers(-(10**12), 10**12) | st.booleans() | st.none() | st.floats(-1e9, 1e9)


@given(SCALARS | st.lists(SCALARS, max_size=4))
def test_what_is_written_is_read_back(value: Any) -> None:
    found = read(write("a.b", value)).value

    assert found == value
    assert type(found) is type(value)


WORDS = st.text("ab\\\"'[]{}(),:= $*~é红#&!|<>%@", max_size=6).filter(lambda word: "${" not in word)


@given(
    st.one_of(
        st.tuples(st.just("captions.trigger"), WORDS),
        st.tuples(st.just("captions.prune"), st.lists(WORDS, max_size=3)),
        st.tuples(st.just("captions.clean.replacements"), st.dictionaries(WORDS, WORDS, max_size=2)),
    )
)
def test_any_text_is_written_as_it_is_read_back(entry: tuple[str, Any]) -> None:
    assert read(write(*entry)).value == entry[1]
    assert read(write_text(*entry)).value == entry[1]
