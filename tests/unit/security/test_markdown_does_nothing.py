"""People's text inside Markdown: what MLflow and GitHub show of it are its letters, and nothing else.

Rendered by markdown-it, a CommonMark renderer that lets HTML through. Showdown, which MLflow uses, takes the
meaning from fewer characters, so its own list is held against what we write as well.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

import pytest
from markdown_it import MarkdownIt

from lorasweep.core import markdown
from lorasweep.results.tracking import notes, push

EVIL = (
    "<img src=https://evil.com/a.png onerror=alert(1)> ![p](https://evil.com/b.png) [l](javascript:alert(1)) "
    '<script>alert(2)</script> <b>tag</b> **b** _i_ `c` ~~s~~ $x^2$ &lt;i&gt; | \\*x* \\<u> "q" '
    "https://evil.com/c www.evil.com @someone someone@evil.com <https://evil.com/d>"
)
OPENINGS = [
    "# head",
    "- item",
    "+ item",
    "* item",
    "1. item",
    "2) item",
    "> quote",
    "===",
    "---",
    "```",
    "~~~",
]
OURS = {"p", "strong", "em", "code", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"}
# Showdown's own: a backslash before another character is a backslash.
SHOWDOWN_ESCAPES = r"\`*_{}[]()>#+.!~=|:-"


class Page(HTMLParser):
    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: set[str] = set()
        self.words = ""
        self.feed(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(source))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)

    def handle_data(self, data: str) -> None:
        self.words += data


def without_code(source: str) -> str:
    return re.sub(r"(`+).+?(?<!`)\1(?!`)", "", source)


@pytest.mark.parametrize("text", [EVIL, *OPENINGS, "a_b *c", "\\", "`` ` ``", "&amp;#60;b>"])
def test_text_comes_out_as_it_went_in(text: str) -> None:
    page = Page(markdown.plain(text))

    assert page.elements <= {"p"}
    assert page.words.strip() == text
    assert Page(markdown.code(text)).elements == {"p", "code"}
    assert Page(markdown.code(text)).words.strip() == text


@pytest.mark.parametrize("text", [EVIL, *OPENINGS])
def test_showdown_too_takes_nothing_for_markup(text: str) -> None:
    written = markdown.plain(text)

    assert set(re.findall(r"\\(.)", written)) <= set(SHOWDOWN_ESCAPES)
    assert not re.search(r"[<>@]|://|www\.", written)  # HTML, mentions, addresses, links without brackets
    shown = html.unescape(re.sub(r"\\(.)", r"\1", written))
    assert shown == text


def test_a_cell_stays_a_cell() -> None:
    source = f"| a | b |\n|---|---|\n| {markdown.cell(markdown.code('x | y'))} | {markdown.plain('v | w')} |"

    assert Page(source).words.split() == ["a", "b", "x", "|", "y", "v", "|", "w"]


def test_what_is_cut_is_cut_between_lines() -> None:
    assert markdown.cut("short", 5) == "short"
    assert markdown.cut("one\n`two three`\nfour", 15) == "one\n…"
    assert markdown.cut("`one line`", 6) == "\n…"


def sweep_note(text: str) -> str:
    row = {"rank": 1, "name": text, "status": text, "metrics": {}, "sentence": text, "note": text}
    return notes.sweep_note(text, {"question": text}, [row, {**row, "rank": 2}], {text: [text]}, [text, "another"])


def trial_note(text: str) -> str:
    arm: Mapping[str, Any] = {"note": text, "overrides": [text]}
    return notes.trial_note(
        text, {"question": text}, arm, sentence=text, reason=text, missing={"drift": text, text: text}
    )


@pytest.mark.parametrize("note", [sweep_note, trial_note])
def test_the_notes_hold_the_words_and_none_of_the_elements(note: Any) -> None:
    source = note(EVIL)
    page = Page(source)

    assert page.elements <= OURS
    assert page.words.count("<img src=https://evil.com/a.png onerror=alert(1)>") >= 5
    assert not re.search(r"[<>@]|://|www\.", without_code(source))


@pytest.mark.parametrize("note", [sweep_note, trial_note])
def test_notes_that_are_too_long_lose_lines_and_not_their_quotes(note: Any) -> None:
    source = note(EVIL * 6)

    assert len(source) <= notes.LONGEST <= push.TAG_CHARACTERS
    assert source.endswith("…") and Page(source).elements <= OURS
