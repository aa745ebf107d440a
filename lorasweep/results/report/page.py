"""The report as one HTML file with everything inside: nothing is fetched, and it reads without JavaScript.

    Findings  ->  Parts in reading order, drawn by the macros of their names in html.j2  ->  HTML

What takes no more than reading the findings is in the templates. Names, notes, captions and reasons come from
people's files, so the templates escape whatever they put in. The page's own policy forbids it to load or send
anything, and allows the one script by its hash: even markup that somehow got through the escaping would not run.
Knows nothing about where the findings come from.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

import lorasweep
from lorasweep.core.errors import DatasetError
from lorasweep.core.findings import Finding, with_commands
from lorasweep.core.hydra_text import shortened
from lorasweep.core.printable import command, readable
from lorasweep.core.records import PlannedImage, Recipe
from lorasweep.data import captions
from lorasweep.data.images import open_rgb
from lorasweep.plan.audit import Audit
from lorasweep.results.report import charts, factors, gallery, words
from lorasweep.results.report.gallery import data_uri
from lorasweep.results.report.reading import Findings, TrialFindings
from lorasweep.results.report.words import commands, facts
from lorasweep.sweep.ranking.leaderboard import front_means, short_name
from lorasweep.trial.judge.score import OVERCOOKED

_FOLDER = Path(__file__).parent
Part = tuple[str, str, Any]  # title, name of its anchor and macro, what the macro takes
_AS_A_FILE = "the best as a file for ComfyUI, A1111 and kohya's tools"
_THUMBNAIL_PX = 200
_AUDIT_MARK = "· lorasweep audit</title>"


def render(findings: Findings) -> str:
    """Write the page."""
    page = templates().get_template("page.html.j2")
    return page.render(
        findings=findings,
        verdict=words.verdict(findings),
        parts=all_of(findings),
        anew=command("lorasweep", "report", findings.state.name),
        **assets("page.css", script="page.js"),
        now=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=lorasweep.__version__,
    )


def assets(*styles: str, script: str) -> dict[str, str]:
    """Tell what every page has inside: its style sheets, its script, and the digest by which its policy allows that."""
    style, code = ("".join((_FOLDER / name).read_text("utf-8") for name in names) for names in (styles, (script,)))
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    return {"style": Markup(style), "script": Markup(code), "script_digest": digest}


@functools.cache
def templates() -> Environment:
    """Return the templates, where whatever is put in is text, and what is not there is an error."""
    found = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        finalize=as_text,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.globals["OVERCOOKED"] = OVERCOOKED
    uses = (
        charts.interval_scale,
        commands,
        data_uri,
        facts,
        front_means,
        short_name,
        words.duration,
        worked,
        words.score_line,
        shortened,
    )
    found.filters |= {use.__name__: use for use in uses}
    return found


def as_text(value: object) -> str:
    """Return markup as it is, anything else as one line of text with nothing hidden; None is nothing."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return ""
    return readable(f"{value:.5g}" if isinstance(value, float) else str(value))


def all_of(findings: Findings) -> list[Part]:
    """List every part that has something to show."""
    front = charts.pareto(findings)
    parts: list[Part] = [
        ("Leaderboard", "leaderboard", findings.arms),
        ("What it looks like", "pictures", gallery.contact_sheet(findings, gallery.worth_showing(findings))),
        ("By eye, blind", "rated", findings.rated),
        (front.title if front else "", "pareto", front),
        ("How each one cooked", "curves", charts.curves(findings)),
        ("Over steps and weights", "ladder", gallery.ladders(findings)),
        ("What mattered", "factors", what_mattered(findings)),
        ("Symptoms", "symptoms", symptoms(findings)),
        ("What did not work", "failures", failures(findings)),
        ("What it cost", "cost", words.costs(findings)),
        ("Cook it again", "again", again(findings)),
    ]
    return [part for part in parts if part[2]]


def worked(trials: Sequence[TrialFindings]) -> str:
    """Tell how long trials took together, those that are over; empty while none is."""
    known = [trial.wall_s for trial in trials if trial.wall_s is not None]
    return words.duration(sum(known)) if known else ""


def what_mattered(findings: Findings) -> tuple[factors.Importance | None, Sequence[factors.Change]] | None:
    """Return a space's important axes, else what single changes made; None with one arm and of judged files."""
    if len(findings.arms) < 2 or not findings.state.seeds_tell:
        return None
    space = factors.is_space(findings)
    return (factors.importance(findings), []) if space else (None, factors.changes(findings))


def symptoms(findings: Findings) -> list[tuple[TrialFindings, list[words.SymptomSaid]]]:
    """Tell what is wrong with each arm's checkpoint."""
    return [(trial, words.symptoms(trial.judged)) for trial in findings.shown if trial.judged]


def failures(findings: Findings) -> list[tuple[TrialFindings, str]]:
    """Return trials without an answer, and why."""
    trials = sorted(findings.trials, key=lambda trial: trial.state.number)
    return [(trial, why) for trial in trials if (why := words.failure(trial.state))]


def again(findings: Findings) -> tuple[list[tuple[str, str]], list[TrialFindings]] | None:
    """Tell what to do next with the sweep, as (what, command), and the trials to get again.

    A best one is spoken of where there is one. None while no trial has begun.
    """
    begun = [trial for trial in findings.trials if trial.recipe]
    if not begun:
        return None
    best = next((trial for trial in findings.trials if trial.rank == 1), None)
    shown = best or begun[0]
    size = 4 if shown.recipe.get("train.batch_size") == 2 else 2
    is_trained = findings.state.seeds_tell
    told = [
        (
            best and findings.overrides and is_trained,
            _AS_A_FILE,
            command("lorasweep", "export", findings.state.name, "--best"),
        ),
        (findings.overrides and is_trained, "the whole sweep", findings.state.again),
        (
            is_trained,
            "a variation" + (" of the best" if best else ""),
            command("lorasweep", "fork", f"{findings.state.name}/{shown.name}", f"train.batch_size={size}"),
        ),
    ]
    return [(what, typed) for there, what, typed in told if there], begun


def is_audit(file: Path) -> bool:
    """Tell whether a file is a page of an audit, and not somebody's own."""
    return _AUDIT_MARK in file.read_text(encoding="utf-8")


def render_audit(recipe: Recipe, found: Audit) -> str:
    """Write the page."""
    images = found.plan.images if found.plan else ()
    concepts = dict.fromkeys(image.concept for image in images)
    return (
        templates()
        .get_template("audit.html.j2")
        .render(
            name=Path(recipe.dataset.path or "").name,
            findings=with_commands(found.findings),
            concepts={name: [_card(i, recipe, found) for i in images if i.concept == name] for name in concepts},
            **assets("page.css", "audit.css", script="audit.js"),
        )
    )


def _card(image: PlannedImage, recipe: Recipe, found: Audit) -> dict[str, object]:
    """Return what the page shows of one image; the crop in percent of the thumbnail."""
    (width, height), (left, top) = image.resize_px, image.crop_px
    crop = (left / width, top / height, image.bucket.width_px / width, image.bucket.height_px / height)
    about = [each for each in found.findings if {image.short, image.path.name} & set(each.places)]
    trigger = found.plan.trigger if found.plan else None
    return {
        "name": image.path.name,
        "picture": _thumbnail(image.path),
        "crop": "left:{:.1%};top:{:.1%};width:{:.1%};height:{:.1%}".format(*crop),
        "bucket": f"{image.bucket.width_px} x {image.bucket.height_px}",
        "size": f"{image.width_px} x {image.height_px}",
        "held_out": image.split == "held_out",
        "tags": [(tag, _kind(tag, trigger, found.findings)) for tag in captions.tags(image.caption, recipe.captions)],
        "findings": about,
    }


def _kind(tag: str, trigger: str | None, findings: tuple[Finding, ...]) -> str:
    """Return what a tag is to the LoRA: its trigger, fused with it, absorbed by it, or a tag."""
    if trigger and captions.has_trigger(tag, trigger):
        return "trigger"
    plain = captions.plain(tag)
    return next((each.tags[plain] for each in findings if plain in each.tags), "tag")


def _thumbnail(file: Path) -> str:
    """Return a small JPEG as a data URI; empty when the file cannot be read any more."""
    try:
        picture = open_rgb(file)
    except DatasetError:
        return ""
    picture.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.LANCZOS)
    return gallery.as_uri(picture, "jpeg", quality=80)
