"""The pictures of a report: arms against prompts, and each arm over its steps and weights.

    Findings  ->  HTML tables of pictures, all of a column from equal noise, the base model first

Knows nothing about charts or numbers beyond the labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from lorasweep.report.columns import Drawn, heading, shared, trigger_of
from lorasweep.report.markup import Child, Markup, breakable, tag
from lorasweep.report.pictures import TIER_NAMES, Key, Picture, data_uri, first_seed, of_base, of_run
from lorasweep.report.reading import Findings, TrialFindings
from lorasweep.report.words import score_line

SHEET_ARMS = 16  # more make a page too heavy for a phone; the best and the last are kept
LAST_ARMS = 4
LADDERS = 6
# heading, below it, what is there, class
_Column = tuple[str, str, Callable[[Key], Picture | None], str]


def contact_sheet(findings: Findings) -> Markup | None:
    """Every arm at the judged weight against the prompts, the base model as first row."""
    base = {picture.key: picture for picture in first_seed(of_base(findings.folder))}
    trials: list[TrialFindings] = []
    arms: list[Drawn] = []
    for arm in _worth_showing(findings):
        trial = findings.shown_trial(arm)
        if trial and (pictures := _of_kept(trial)):
            trials.append(trial)
            arms.append(Drawn(pictures=pictures, trigger=trigger_of(trial.folder)))
    keys = shared(base or (arms[0].pictures if arms else {}), arms)
    if not keys:
        return None
    body = [_sheet_row("base model", "no LoRA", "", [base.get(key) for key in keys])] if base else []
    for trial, drawn in zip(trials, arms, strict=True):
        in_order = [drawn.pictures.get(key) for key in keys]
        body.append(_sheet_row(trial.state.arm, score_line(trial), trial.verdict, in_order))
    headings = [
        tag("th", tag("b", TIER_NAMES.get(key[0], key[0])), tag("span", heading(key, arms)), scope="col")
        for key in keys
    ]
    table = tag("table", tag("thead", tag("tr", tag("td"), headings)), tag("tbody", body), class_="sheet")
    left_out = len(findings.arms) - len(arms)
    note = tag("p", f"{left_out} more not shown here.", class_="note") if left_out > 0 else None
    return tag("div", tag("div", table, class_="scroll"), note)


def ladders(findings: Findings) -> list[Markup]:
    """Each arm over its steps at the judged weight, and over the weights at the step that it keeps."""
    base = first_seed(of_base(findings.folder))
    found: list[Markup] = []
    for arm in _worth_showing(findings)[:LADDERS]:
        trial = findings.shown_trial(arm)
        ladder = _ladder(trial, base) if trial else None
        if ladder is not None and trial is not None:
            summary = tag("summary", tag("b", arm), " ", tag("span", score_line(trial), class_="quiet"))
            found.append(tag("details", summary, ladder, open=not found))
    return found


def _worth_showing(findings: Findings) -> list[str]:
    """The best arms, and the last of those that have a value: what went wrong is worth seeing too."""
    ranked = [row.arm for row in findings.arms if row.value is not None]
    unranked = [row.arm for row in findings.arms if row.value is None]
    if len(ranked) > SHEET_ARMS:
        return ranked[: SHEET_ARMS - LAST_ARMS] + ranked[-LAST_ARMS:]
    return (ranked + unranked)[:SHEET_ARMS]


def _of_kept(trial: TrialFindings) -> dict[Key, Picture]:
    """A trial's pictures at the judged weight, of the checkpoint that it keeps."""
    drawn = [picture for picture in of_run(trial.folder) if picture.weight == trial.weight]
    steps = {picture.step for picture in drawn}
    step = trial.judged.step if trial.judged and trial.judged.step in steps else max(steps, default=0)
    return {picture.key: picture for picture in first_seed(p for p in drawn if p.step == step)}


def _ladder(trial: TrialFindings, base: Sequence[Picture]) -> Markup | None:
    drawn = of_run(trial.folder)
    if not drawn:
        return None
    shown = first_seed(drawn)
    drawn_at = Counter(picture.step for picture in {(p.step, p.weight): p for p in shown}.values())
    kept = max(drawn_at, key=lambda step: (drawn_at[step], step))  # the step that has the ladder of weights
    by_place = {(picture.step, picture.weight, picture.key): picture for picture in shown}
    of_base_model = {picture.key: picture for picture in base}
    steps = sorted({picture.step for picture in shown if picture.weight == trial.weight})
    weights = sorted({picture.weight for picture in shown if picture.step == kept})
    columns: list[_Column] = [("base", "no LoRA", of_base_model.get, "")]
    for step in steps:
        columns.append(_step_column(trial, step, by_place))
    for place, weight in enumerate(weights):
        find = _finder(by_place, kept, weight)
        judged = "judged" if weight == trial.weight else ""
        columns.append((f"weight {weight:g}", judged or f"step {kept}", find, "" if place else "apart"))
    rows = _one_per_tier(shown)
    head = [
        tag("th", tag("b", top), tag("span", below), scope="col", class_=c) for top, below, _, c in columns
    ]
    body = [
        tag(
            "tr",
            tag("th", tag("b", TIER_NAMES.get(row.tier, row.tier)), tag("span", row.prompt), scope="row"),
            [_cell(find(row.key), f"{top}: {row.prompt}", class_) for top, _, find, class_ in columns],
        )
        for row in rows
    ]
    table = tag("table", tag("thead", tag("tr", tag("td"), head)), tag("tbody", body), class_="sheet ladder")
    return tag("div", table, class_="scroll")


def _step_column(
    trial: TrialFindings, step: int, by_place: Mapping[tuple[int, float, Key], Picture]
) -> _Column:
    rung = trial.rung(step)
    below = f"{rung.exposures:.0f} per image" if rung else ""
    below = {trial.done_at: "done here", trial.burned_at: "burned"}.get(step, below)
    class_ = {trial.done_at: "done", trial.burned_at: "overcooked"}.get(step, "")
    return f"step {step}", below, _finder(by_place, step, trial.weight), class_


def _finder(
    by_place: Mapping[tuple[int, float, Key], Picture], step: int, weight: float | None
) -> Callable[[Key], Picture | None]:
    return lambda key: None if weight is None else by_place.get((step, weight, key))


def _one_per_tier(pictures: Sequence[Picture]) -> list[Picture]:
    first: dict[str, Picture] = {}
    for picture in pictures:
        first.setdefault(picture.tier, picture)
    return list(first.values())


def _sheet_row(name: str, below: str, verdict: str, pictures: Sequence[Picture | None]) -> Markup:
    label = tag(
        "th",
        tag("b", breakable(name)),
        tag("span", below) if below else None,
        tag("span", verdict, class_=f"word {verdict}") if verdict else None,
        scope="row",
    )
    return tag(
        "tr", label, [_cell(picture, f"{name}: {picture.prompt if picture else ''}") for picture in pictures]
    )


def _cell(picture: Picture | None, words: str, class_: str = "") -> Markup:
    uri = data_uri(picture.file) if picture else None
    shown: Child = tag("img", src=uri, alt=words) if uri else tag("span", "–", class_="none")
    return tag("td", shown, class_=class_ or None)
