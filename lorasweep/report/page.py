"""The report as one HTML file with everything inside: nothing is fetched, and it reads without JavaScript.

    Findings  ->  HTML

The page's own policy forbids it to load or send anything, and allows the one script by its hash: even markup
that somehow got through the escaping would not run. Knows nothing about where the findings come from.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import lorasweep
from lorasweep.report import sections
from lorasweep.report.markup import Markup, join, tag
from lorasweep.report.reading import Findings

_STYLE = Path(__file__).with_name("page.css")
_SCRIPT = Path(__file__).with_name("page.js")


def render(findings: Findings) -> str:
    """Write the page."""
    parts = [(title, anchor, body) for title, anchor, body in sections.all_of(findings) if body is not None]
    script = _SCRIPT.read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(script)),
        tag("title", f"{findings.state.name} · lorasweep"),
        tag("style", Markup(_STYLE.read_text(encoding="utf-8"))),
    )
    dialog = tag("dialog", tag("img", src="data:,", alt=""), tag("p"))
    body = tag(
        "body",
        tag(
            "main",
            _header(findings),
            _contents(parts),
            join(_section(*part) for part in parts),
            _footer(findings),
        ),
        dialog,
        tag("script", Markup(script)),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


def _header(findings: Findings) -> Markup:
    state = findings.state
    return tag(
        "header",
        tag("p", f"lorasweep · {state.name}", class_="over"),
        tag("h1", state.question or f"What came out of {state.name}"),
        tag("div", sections.answer(findings), class_="answer"),
        sections.facts(findings),
    )


def _contents(parts: Iterable[tuple[str, str, Markup | None]]) -> Markup:
    return tag(
        "nav", (tag("a", title, href=f"#{anchor}") for title, anchor, _ in parts), aria_label="Contents"
    )


def _section(title: str, anchor: str, body: Markup | None) -> Markup:
    return tag("section", tag("h2", title), body, id=anchor)


def _footer(findings: Findings) -> Markup:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return tag(
        "p",
        f"Written {now} by lorasweep {lorasweep.__version__} from the run folders in ",
        tag("code", findings.folder.name),
        ". Write it anew with ",
        tag("code", f"lorasweep report {findings.state.name}"),
        ".",
        class_="note",
        style="margin-top:56px",
    )
