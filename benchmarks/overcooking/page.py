"""docs/overcooking.md from the analysis: tables, figures, and what falls short, in words that follow them.

Takes plain JSON; gives Markdown. Nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.overcooking import areas, grid, stopping, truth
from benchmarks.overcooking.words import number, signed, span
from lorasweep import markdown
from lorasweep.metrics import score
from lorasweep.metrics.symptoms import SYMPTOMS

Row = Mapping[str, Any]
HEADLINES = (areas.SHIPPED_UNSEEN, areas.CALIBRATED)
COUNTING = {*(symptom.metric for symptom in SYMPTOMS), score.IDENTITY, score.SCORE, score.UTILITY}
FEWEST_RUNS = 8  # for an interval over runs to mean something
GOALS = {"auroc": 0.95, "spearman": 0.7, "regret": 0.05}


def write(found: Mapping[str, Any], *, pictures: str, story: str) -> str:
    """Compose the page.

    Args:
        found: of `analysis.analyse`, with `facts` and `controls`.
        pictures: folder of the figures, relative to the page.
        story: what the story figure shows, one sentence; empty when there is none.
    """
    parts = [
        "# Overcooking, measured and proven",
        _unseen(found),
        _head(found),
        _figure(f"{pictures}/overcooking_story.png", story) if story else "",
        "## Verdict",
        _goals(found),
        "## What is true",
        _truth(found),
        "## Does O tell overcooked from healthy?",
        _areas(found, pictures),
        "## Does each metric follow its own truth?",
        _follow(found),
        "## Is `done_at` the place to stop?",
        _stopping(found, pictures),
        "## Controls",
        _controls(found["controls"]),
        *_copying(found["copying"]),
        "## Dose and response",
        f"![Dose and response]({pictures}/overcooking_dose.png)",
        "## Without a symptom",
        _ablation(found),
        "## On what the limits never saw",
        _transfer(found),
        "## What falls short",
        _short(found),
        "## Again",
        _again(found["facts"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(found: Mapping[str, Any]) -> str:
    facts, coverage = found["facts"], found["coverage"]
    share = coverage["runs"] / facts["grid_runs"]
    return (
        f"{facts['date']}, {facts['machine']}. {coverage['runs']} of the grid's {facts['grid_runs']} runs "
        f"({share:.0%}), {coverage['ended']} of them to their end: {coverage['recipes']} recipes, "
        f"identities {_listed(coverage['identities'])}, seeds {_listed(coverage['seeds'])} (runs of each). "
        f"{coverage['checkpoints']} checkpoints at weight {facts['weight']:g}, {coverage['overcooked']} of "
        f"them truly overcooked. {facts['runs_left_out']} runs were begun and are not in these figures."
    )


def _unseen(found: Mapping[str, Any]) -> str:
    """The figures of the runs that had no say in the score, which are what the proof is worth."""
    area, settled = found["transfer"].get(areas.SETTLED), found["stopping_settled"]
    if not area or settled["runs"] < FEWEST_RUNS:
        return ""
    simple = _simple_stoppers(settled)
    clear = [name for name, more in simple.items() if more["low"] > 0]
    unclear = [f"{name} {span(more, 3)} more" for name, more in simple.items() if not more["low"] > 0]
    beaten = f"`done_at` loses clearly less utility than {', '.join(clear) or 'no simple stopper'}"
    return (
        "**On the runs that had no say in it** (cooked after score and rule were settled): O tells "
        f"overcooked from healthy with an area of {span(area['shipped'])}. Over the {settled['runs']} of "
        f"them that ended, {beaten}; it is not yet told apart from {', '.join(unclear) or 'none'}. All other "
        "figures are over all runs, some of which chose the rule."
    )


def _goals(found: Mapping[str, Any]) -> str:
    rows = []
    for name, area in _headline_areas(found).items():
        met = _met(area["value"] >= GOALS["auroc"])
        rows.append((f"Area of {name}", f">= {GOALS['auroc']}", span(area), met))
    right = [row["right"] for row in found["controls"]]
    rows.append(("Controls judged rightly", "all 6", f"{sum(right)} of {len(right)}", _met(sum(right) == 6)))
    ours = found["stopping"]["stoppers"][stopping.OURS]["regret"]
    rows.append(
        ("Regret of `done_at`", f"<= {GOALS['regret']}", span(ours), _met(ours["value"] <= GOALS["regret"]))
    )
    simple = _simple_stoppers(found["stopping"])
    clear = [name for name, row in simple.items() if row["low"] > 0]
    rows.append(
        (
            "Simple stoppers beaten, interval clear of 0",
            f"all {len(simple)}",
            f"{len(clear)}: {', '.join(clear) or 'none'}",
            _met(len(clear) == len(simple)),
        )
    )
    return markdown.table(("", "goal", "found", ""), rows)


def _headline_areas(found: Mapping[str, Any]) -> dict[str, Row]:
    """The areas that have a goal, by name."""
    headline = {name: found["auroc"][name] for name in HEADLINES}
    if settled := found["transfer"].get(areas.SETTLED):
        headline[f"{areas.SHIPPED}, {areas.SETTLED}"] = settled["shipped"]
    return headline


def _simple_stoppers(stopping_found: Mapping[str, Any]) -> dict[str, Row]:
    """How much more than ours each of the others loses."""
    stoppers = stopping_found["stoppers"].items()
    return {name: row["more_than_ours"] for name, row in stoppers if not name.startswith(stopping.OURS)}


def _truth(found: Mapping[str, Any]) -> str:
    blamed = found["coverage"]["blamed"]
    rows = [(name, f"{limit:g}", WHAT[name], str(blamed[name])) for name, limit in truth.LIMITS.items()]
    table = markdown.table(("symptom", "limit", "what is read", "checkpoints past it"), rows)
    return (
        "A witness draws pictures of its own at every rung (prompts and noises that the product never uses), "
        "and the dollhouse's reader, a classifier trained on renders, reads them back. A checkpoint is "
        "overcooked when any symptom is past its limit. O\\* is half of the worst symptom over its limit, at "
        f"most 1; U\\* = F\\* (1 - O\\*), with F\\* the likeness over the base's.\n\n{table}"
    )


WHAT = {
    "copies": "share of pictures of training captions that are nearer by far, pixel by pixel, to the "
    "training images than to every one of many replicas (same attributes, other position, scale, light)",
    "bleed": "likeness of fully described strangers, over the base's",
    "control": "share of asked attributes lost on recombined prompts, of the base's",
    "variety": "share of the variety of place, pose and clothes lost on the trigger alone, of the base's",
    "corrupt": "probability of being no clean picture, over the base's",
}


def _areas(found: Mapping[str, Any], pictures: str) -> str:
    auroc, clear = found["auroc"], found["auroc_clear"]
    names = [name for name in auroc if name.startswith("O")]
    rows = [(name, span(auroc[name]), span(clear[name]) if name in clear else "") for name in names]
    low, high = areas.CLEAR
    note = (
        "As shipped: by limits that `lorasweep calibrate` placed with controls, without the truth. Limits "
        "from others: the same formula, limits fitted to the truth of other identities or runs. "
        f"Last column: only checkpoints whose worst symptom is below {low:g} or above {high:g} of its limit, "
        "where the witness's own sampling noise does not decide the label. Without the reader, every metric "
        "that it answers (identity, prompt control) is hidden, so that score and truth share no instrument."
    )
    return (
        f"{markdown.table(('score', 'area (95 % over runs)', 'area, clear truth'), rows)}\n\n{note}\n\n"
        f"![ROC curves of O]({pictures}/overcooking_roc.png)\n\n"
        f"![Areas of O and of every metric]({pictures}/overcooking_areas.png)\n\n"
        f"![O against the true harm]({pictures}/overcooking_scatter.png)"
    )


def _follow(found: Mapping[str, Any]) -> str:
    rows = [
        (
            f"`{key}`",
            row["follows"],
            span(row),
            str(row["n"]),
            _met(row["value"] >= GOALS["spearman"]) if key in COUNTING else "counts for nothing",
            span(row["everywhere"]),
        )
        for key, row in sorted(
            found["follow"].items(), key=lambda pair: (pair[1]["follows"], -number(pair[1]["value"]))
        )
        if row["n"]
    ]
    silent = sorted(key for key, row in found["follow"].items() if not row["n"])
    note = (
        f"\n\nTheir phenomenon occurs in no run: {', '.join(f'`{key}`' for key in silent)}." if silent else ""
    )
    return (
        "Median rank correlation within a run, over the runs in which the phenomenon begins; in the last "
        "column over all checkpoints of all runs. `altered`: what strangers gained of the subject and lost "
        "of what was asked; `bleed_open`: likeness on bare prompts (a place only); `changed_open`: share of "
        "what the base draws there, from the same noise, that is drawn otherwise; `uncalled`: likeness "
        "gained there over likeness gained with the trigger; `unlearned`: likeness lost since its highest. "
        "What counts for nothing is recorded and is in neither O nor F.\n\n"
        + markdown.table(
            ("metric", "truth", "within a run", "runs", f">= {GOALS['spearman']}", "over everything"), rows
        )
        + note
    )


def _stopping(found: Mapping[str, Any], pictures: str) -> str:
    table, settled = found["stopping"], found["stopping_settled"]
    clean = (
        f"\n\nThe same over the {settled['runs']} runs that were cooked after the score and the rule were "
        f"settled:\n\n{_regrets(settled)}"
        if settled["runs"] >= FEWEST_RUNS
        else ""
    )
    return (
        f"Over {table['runs']} ended runs; {table['never_useful']} more are never useful (best true utility "
        f"below {stopping.USEFUL:g}). Fixed steps are the best step of all *other* runs. Whether a run burns "
        f"at all is said rightly of {found['verdicts']['agree']:.0%}.\n\n"
        f"{_regrets(table)}{clean}\n\n![Regret]({pictures}/overcooking_regret.png)"
    )


def _regrets(table: Mapping[str, Any]) -> str:
    ascending = sorted(table["stoppers"].items(), key=lambda pair: number(pair[1]["regret"]["value"]))
    rows = [
        (
            name,
            span(row["regret"], 3),
            span(row["more_than_ours"], 3),
            f"{row['rungs_from_best']['value']:.2f}",
        )
        for name, row in ascending
    ]
    return markdown.table(("stopper", "regret in U\\*", "more than `done_at`", "rungs from the best"), rows)


def _controls(controls: Sequence[Row]) -> str:
    if not controls:
        return "Not judged yet."
    rows = [
        (
            row["control"],
            row["must be"],
            *(f"{row[key]:.2f}" for key in ("O", "F", "burn", "copies", "drift")),
            f"{row['true_harm']:.2f}",
            _met(row["right"]),
        )
        for row in controls
    ]
    return markdown.table(
        ("control", "must be", "O", "F", "o burn", "o copies", "class drift", "true harm", ""), rows
    )


def _copying(found: Mapping[str, Any]) -> list[str]:
    """Its section; nothing when no such run is there."""
    if not found["checkpoints"]:
        return []
    rows = [(key, f"{row['within']:.2f}", f"{row['area']:.2f}") for key, row in found["metrics"].items()]
    return [
        "## Runs that copy",
        f"{found['runs']} more runs, of few images and many exposures, on dataset folders, so that the "
        "prompts in distribution are training captions, as they are for anybody's own images. "
        f"{found['copying']} of their {found['checkpoints']} checkpoints truly copy. Rank correlation with "
        "the true share of copies, median over runs; area for checkpoints that copy.\n\n"
        + markdown.table(("", "within a run", "area"), rows),
    ]


def _ablation(found: Mapping[str, Any]) -> str:
    rows = [
        (
            name,
            *(
                f"{row[kind]['auroc']:.3f} ({signed(row[kind]['change'])})"
                for kind in ("shipped", "calibrated")
            ),
        )
        for name, row in found["ablation"].items()
    ]
    return markdown.table(("", "O as shipped: area (change, 95 %)", "O, limits from other identities"), rows)


def _transfer(found: Mapping[str, Any]) -> str:
    rows = [
        (name, span(row["calibrated"]), span(row["shipped"]), str(row["shipped"]["n"]))
        for name, row in found["transfer"].items()
    ]
    return markdown.table(("never seen", "limits placed on the rest", "as shipped", "checkpoints"), rows)


def _short(found: Mapping[str, Any]) -> str:
    """Every claim that the figures do not carry, in words."""
    said = []
    coverage, facts = found["coverage"], found["facts"]
    if coverage["runs"] < facts["grid_runs"]:
        said.append(
            f"The grid is not complete: {coverage['runs']} of {facts['grid_runs']} runs. Runs are ordered so "
            "that a part is balanced over identities and seeds, but intervals are as wide as they are."
        )
    for name, count in coverage["blamed"].items():
        if count < 10 and not (name == "copies" and found["copying"]["copying"]):
            said.append(f"True `{name}` occurs in {count} checkpoints only: little is proven about it.")
    for key, row in found["follow"].items():
        if key in COUNTING and row["n"] and row["value"] < GOALS["spearman"]:
            where = " (no training caption is asked for there; see the runs that copy)"
            said.append(
                f"`{key}` does not follow {row['follows']}: Spearman {span(row)} over {row['n']} runs"
                f"{where if row['follows'] == 'copies' else ''}."
            )
    for name, more in _simple_stoppers(found["stopping"]).items():
        if not more["low"] > 0:
            said.append(f"`done_at` is not clearly better than {name}: {span(more, 3)} less regret.")
    settled = found["stopping_settled"]
    after = _simple_stoppers(settled) if settled["runs"] >= FEWEST_RUNS else {}
    if unclear := [f"{name} {span(more, 3)}" for name, more in after.items() if not more["low"] > 0]:
        said.append(
            f"Over the {settled['runs']} runs alone that had no say in limits and rule, `done_at` is not "
            f"clearly better than {', '.join(unclear)}."
        )
    for row in found["controls"]:
        if not row["right"]:
            said.append(f'The control "{row["control"]}" is not judged rightly: it must be {row["must be"]}.')
    for name, area in _headline_areas(found).items():
        if not area["value"] >= GOALS["auroc"]:
            said.append(f"The area of {name} is {span(area)}, the goal {GOALS['auroc']}.")
    said.append(
        "The limits as shipped come from controls alone, without the truth. Two rules of placing them "
        "(definite limits, none sharper than a tenth) were settled after a look at the first 31 runs of this "
        "grid, three symptoms left the score after 50, after 78 bleeding on strangers got a definite limit, "
        "burn and diversity were mended and `done_at` got its rule, and after "
        f"{grid.SETTLED_ON} strangers became eight instead of two, that limit went from 0.25 to 0.15 and "
        "`done_at` squares the held-out gain (docs/decisions/2026-11-23-strangers.md, "
        "2026-11-23-overcooking-proof.md): as shipped, only runs after those are a clean "
        "test. The limits from other identities are fitted anew each time."
    )
    said.append(
        "The world proves ranking and logic, not limits: on another base, limits come from `lorasweep "
        "calibrate`."
    )
    said.append(
        f"The truth is counted on {facts['pictures']} pictures a rung{_further(facts)} and read by one "
        "classifier."
    )
    return "\n".join(f"- {line}" for line in said)


def _further(facts: Row) -> str:
    """What further looks add, if there were any."""
    looks = [f"{look['pictures']} more of {look['checkpoints']} checkpoints" for look in _looks(facts)]
    return f", {', and '.join(looks)} in further looks," if looks else ""


def _looks(facts: Row) -> list[Row]:
    return [look for look in facts["looks"] if look["checkpoints"]]


def _again(facts: Row) -> str:
    scale = "".join(f" --{name} {facts[name]}" for name in ("steps", "rungs"))
    pictures = "".join(f" --{name} {count}" for name, count in facts["counts"].items())
    more = ["look"] * bool(_looks(facts)) + ["remeasure"] * facts["remeasured"]
    further = "".join(f"python -m benchmarks.overcooking {command} --home DIR\n" for command in more)
    return (
        "```sh\n"
        "python -m benchmarks.overcooking run --home DIR "
        f"--processes {facts['processes']} --budget {facts['budget']}{scale}{pictures}\n"
        f"{further}"
        "python -m benchmarks.overcooking report --home DIR\n"
        "```\n\n"
        f"`run` goes on where it was stopped. A run took {facts['run_cpu_s']:.0f} s of one core "
        f"({facts['witness_share']:.0%} of it the witness's); the whole grid, {facts['grid_runs']} runs, "
        f"takes about {facts['grid_hours']:.1f} hours on {facts['cores']} such cores. Base "
        f"`{facts['base'][:12]}`, limits `{facts['calibration']}`, lorasweep at `{facts['commit'][:12]}`."
    )


# ------------------------------------------------------------------------------------------------ words


def _figure(path: str, caption: str) -> str:
    return f"![{caption}]({path})\n\n{caption}"


def _met(condition: bool) -> str:
    return "yes" if condition else "**no**"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
