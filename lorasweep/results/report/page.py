"""The report as one HTML file with everything inside: nothing is fetched, and it reads without JavaScript.

    Findings  ->  HTML

Names, notes, captions and reasons come from people's files, so the templates escape whatever they put in. The
page's own policy forbids it to load or send anything, and allows the one script by its hash: even markup that
somehow got through the escaping would not run. Knows nothing about where the findings come from.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import lorasweep
from lorasweep.core.printable import readable
from lorasweep.results.report import charts, parts, words
from lorasweep.results.report.pictures import data_uri
from lorasweep.results.report.reading import IDENTITY, SCORE, Findings
from lorasweep.results.report.reproduce import commands, facts
from lorasweep.trial.judge.score import OVERCOOKED

_FOLDER = Path(__file__).parent


def render(findings: Findings) -> str:
    """Write the page."""
    page = templates().get_template("page.html.j2")
    return page.render(
        findings=findings,
        verdict=words.verdict(findings),
        parts=parts.all_of(findings),
        **assets("page.css", script="page.js"),
        now=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=lorasweep.__version__,
    )


def assets(*styles: str, script: str) -> dict[str, str]:
    """What every page has inside: its style sheets, its script, and the digest by which its policy allows that."""
    style, code = ("".join((_FOLDER / name).read_text("utf-8") for name in names) for names in (styles, (script,)))
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    return {"style": Markup(style), "script": Markup(code), "script_digest": digest}


@functools.cache
def templates() -> Environment:
    """The templates, where whatever is put in is text, and what is not there is an error."""
    found = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        finalize=as_text,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.globals |= {"OVERCOOKED": OVERCOOKED, "IDENTITY": IDENTITY, "SCORE": SCORE}
    uses = (
        charts.interval_scale,
        commands,
        data_uri,
        facts,
        words.spoken,
        parts.worked,
        words.score_line,
        words.shortened,
    )
    found.filters |= {use.__name__: use for use in uses}
    return found


def as_text(value: object) -> str:
    """Markup as it is, anything else as one line of text with nothing hidden; None is nothing."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return ""
    return readable(f"{value:.5g}" if isinstance(value, float) else str(value))
