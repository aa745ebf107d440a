"""Homes side by side: one table that says how far what holds on one base, or for some identities, holds on others.

    write({home: column(home, checkpoints)})  ->  a table in Markdown, a question in each row

A home's limits are those that `lorasweep calibrate` placed for its base. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.overcooking import areas, controls, following, ordering, page, scores, stopping, table
from benchmarks.overcooking.table import Checkpoint


def column(home: Path, checkpoints: Sequence[Checkpoint]) -> dict[str, str]:
    """Answer the questions of the proof from a home; by question."""
    setting = table.setting(home)
    judged = controls.judged(table.load_controls(home))
    wrong = [row["control"] for row in judged if not row["right"]]
    return {
        "base": setting.base,
        "learning rates": f"{setting.lr_times:g} x the grid's",
        "identities": f"{len(setting.identities)}, {setting.dealt.replace('_', ' ')}",
        **_counted(checkpoints),
        "limits": f"`{checkpoints[0].limits.name}`, {checkpoints[0].limits.digest}",
        **_areas(checkpoints),
        **_stopping(checkpoints),
        **_ordering(checkpoints),
        "controls judged rightly": f"{len(judged) - len(wrong)} of {len(judged)}{_but(wrong)}",
        **_followed(checkpoints),
    }


def write(found: Mapping[str, Mapping[str, str]]) -> str:
    """Lay columns out as a Markdown table; a question that a home cannot answer stays empty there."""
    asked = list(dict.fromkeys(question for column in found.values() for question in column))
    lines = [["", *found], ["---"] * (len(found) + 1)]
    lines += [[question, *(column.get(question, "") for column in found.values())] for question in asked]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _counted(checkpoints: Sequence[Checkpoint]) -> dict[str, str]:
    runs = {c.run: c.ended for c in checkpoints}
    return {
        "runs, of which ended": f"{len(runs)}, {sum(runs.values())}",
        "checkpoints, of which truly overcooked": f"{len(checkpoints)}, {areas.labels(checkpoints).sum()}",
    }


def _areas(checkpoints: Sequence[Checkpoint]) -> dict[str, str]:
    def area(of: Sequence[Checkpoint], view: areas.View = dict) -> str:
        return page.span(areas.area(areas.shipped_scores(of, view=view), of, areas.labels(of)))

    clear = [*filter(areas.is_clear, checkpoints)]
    return {
        f"area of {areas.SHIPPED}": area(checkpoints),
        f"area of {areas.BLIND}": area(checkpoints, scores.blind),
        f"area of {areas.SHIPPED}, where the truth is clear": f"{area(clear)}, {len(clear)} checkpoints",
        "area of half of the witness's pictures for the other half": page.span(areas.of_witness(checkpoints)),
        "whether a run burns, said rightly": f"{stopping.verdicts_agree(checkpoints):.0%}",
    }


def _stopping(checkpoints: Sequence[Checkpoint]) -> dict[str, str]:
    found = stopping.stopping(checkpoints)
    rows: dict[str, Any] = found["stoppers"]
    told = {"runs that are ever useful": f"{found['runs']} of {found['runs'] + found['never_useful']}"}
    told[f"regret of {stopping.OURS}"] = page.span(rows[stopping.OURS]["regret"], 3)
    return told | {
        f"... more of {name}": page.span(row["more_than_ours"], 3)
        for name, row in rows.items()
        if not name.startswith(stopping.OURS)
    }


def _ordering(checkpoints: Sequence[Checkpoint]) -> dict[str, str]:
    told = {}
    for which, found in ordering.ordering(checkpoints).items():
        told[f"pairs of recipes for one character, {which} checkpoints"] = str(found["pairs"])
        told |= {f"... the better one first by {name}, {which}": page.span(found[name]) for name in ordering.BY}
        apart = f"{found['apart']} pairs, {found['apart_rightly']:.0%} of them rightly" if found["apart"] else "none"
        told[f"... told apart by the error of U, {which}"] = apart
    return told


def _followed(checkpoints: Sequence[Checkpoint]) -> dict[str, str]:
    found = following.follow(checkpoints)
    return {
        f"`{key}` follows {row['follows']}": f"{page.span(row)}, {row['n']} runs"
        for key, row in found.items()
        if key in page.COUNTING and row["n"]
    }


def _but(wrong: Sequence[str]) -> str:
    return f", not {' and '.join(wrong)}" if wrong else ""
