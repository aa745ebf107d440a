"""What is told of the analysis, in words that follow it: docs/overcooking.md, and homes side by side.

    write(found)                        ->  the page, as page.md.j2 has it: tables, figures, what falls short
    beside({home: column(setting, found)})  ->  a table in Markdown, a question in each row

Takes plain JSON; gives Markdown. Nothing is measured here, but what the training cost.
"""

from __future__ import annotations

import datetime
import math
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks.overcooking import areas, grid, stopping, table, truth
from benchmarks.overcooking.cooking import run_folders
from benchmarks.overcooking.table import Checkpoint, by_run
from lorasweep import config
from lorasweep.core import files, registry
from lorasweep.plan.symptoms import SYMPTOMS
from lorasweep.trial.judge import score

Row = Mapping[str, Any]
HEADLINES = (areas.SHIPPED_UNSEEN, areas.CALIBRATED)
COUNTING = {*(symptom.metric for symptom in SYMPTOMS), score.IDENTITY, score.SCORE, score.UTILITY}
FEWEST_RUNS = 8  # for an interval over runs to mean something
GOALS = {"auroc": 0.95, "spearman": 0.7, "regret": 0.05}


def write(found: Mapping[str, Any], *, pictures: str, story: str) -> str:
    """Compose the page of `analysis.analyse`, with `facts`.

    `pictures` is the folder of the figures, relative to the page; `story` says what the story figure shows, if there is
    one.
    """
    settled = found["transfer"].get(areas.SETTLED)
    headlines = {name: found["auroc"][name] for name in HEADLINES}  # the areas that have a goal
    if settled:
        headlines[f"{areas.SHIPPED}, {areas.SETTLED}"] = settled["shipped"]
    follow = sorted(found["follow"].items(), key=lambda pair: (pair[1]["follows"], -pair[1]["value"]))
    clean = settled and found["stopping_settled"]["runs"] >= FEWEST_RUNS
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.globals |= {"span": span, "signed": signed, "GOALS": GOALS, "COUNTING": COUNTING, "LIMITS": truth.LIMITS}
    templates.globals |= {"FEWEST_RUNS": FEWEST_RUNS, "SETTLED_ON": grid.SETTLED_ON, "CLEAR": areas.CLEAR}
    templates.globals |= {"SETTLED": areas.SETTLED, "USEFUL": stopping.USEFUL, "OURS": stopping.OURS}
    page = templates.get_template("page.md.j2")
    return page.render(found=found, pictures=pictures, story=story, clean=clean, headlines=headlines, follow=follow)


def gather_facts(home: Path, checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """Collect everything that the page says about how the figures were made."""
    folders, seen, setting = run_folders(home), by_run(checkpoints), table.setting(home)
    recipe, grid_runs = config.compose_recipe([f"base={setting.base}"]), len(grid.runs(setting=setting))
    ended = {name: rungs for name, rungs in seen.items() if rungs[0].ended}
    cpu_s = sum(row["cpu_s"] for name in ended for row in files.read_jsonl(home / "runs" / name / "times.jsonl"))
    witness_s = sum(c.cpu_s for rungs in ended.values() for c in rungs)
    mean_s, cores = cpu_s / len(ended) if ended else math.nan, os.cpu_count() or 1
    git = files.read_json(folders[0] / "provenance.json").get("git") or {}
    grid_folders = {folder.name for folder in folders if not table.kind_of(folder.name)}
    return {
        **table.settings(home),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{_cpu_name()}, {cores} cores",
        "cores": cores,
        "grid_runs": grid_runs,
        "runs_left_out": len(grid_folders - set(seen)),
        "run_cpu_s": mean_s,
        "witness_share": witness_s / cpu_s if cpu_s else math.nan,
        "grid_hours": grid_runs * mean_s / cores / 3600,
        "weight": 0.7,
        "identities": setting.dealt,
        "fingerprint": registry.load("base", setting.base).fingerprint(recipe.base),
        "commit": git.get("commit", "unknown"),
    }


def _cpu_name() -> str:
    path = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*:(.*)", path.read_text(encoding="utf-8"), re.MULTILINE) if path.exists() else None
    return named[1].strip() if named else platform.processor() or "unknown processor"


def span(row: Row, digits: int = 2) -> str:
    """Write an estimate: `0.97 (0.95 to 0.99)`, without the interval where there is none."""
    if not math.isfinite(row["value"]):
        return "not defined"
    value = f"{row['value']:.{digits}f}"
    return value if math.isnan(row["low"]) else f"{value} ({row['low']:.{digits}f} to {row['high']:.{digits}f})"


def signed(row: Row) -> str:
    """Write a change and its interval: `+0.012, -0.003 to +0.027`."""
    if not math.isfinite(row["value"]):
        return "not defined"
    return f"{row['value']:+.3f}, {row['low']:+.3f} to {row['high']:+.3f}"


def column(setting: grid.Setting, found: Mapping[str, Any]) -> dict[str, str]:
    """Answer the questions of the proof from a home's setting and its `analysis.analyse`; by question."""
    coverage, controls, stopped = found["coverage"], found["controls"], found["stopping"]
    area, clear = found["auroc"], found["auroc_clear"][areas.SHIPPED]
    wrong = [row["control"] for row in controls if not row["right"]]
    told = {
        "base": setting.base,
        "learning rates": f"{setting.lr_times:g} x the grid's",
        "identities": f"{len(setting.identities)}, {setting.dealt.replace('_', ' ')}",
        "runs, of which ended": f"{coverage['runs']}, {coverage['ended']}",
        "checkpoints, of which truly overcooked": f"{coverage['checkpoints']}, {coverage['overcooked']}",
        "limits": f"`{coverage['limits']['name']}`, {coverage['limits']['digest']}",
        f"area of {areas.SHIPPED}": span(area[areas.SHIPPED]),
        f"area of {areas.BLIND}": span(area[areas.BLIND]),
        f"area of {areas.SHIPPED}, where the truth is clear": f"{span(clear)}, {clear['n']} checkpoints",
        "area of half of the witness's pictures for the other half": span(found["auroc_witness"]),
        "whether a run burns, said rightly": f"{found['verdicts_agree']:.0%}",
        "runs that are ever useful": f"{stopped['runs']} of {stopped['runs'] + stopped['never_useful']}",
        f"regret of {stopping.OURS}": span(stopped["stoppers"][stopping.OURS]["regret"], 3),
    }
    told |= {f"... more of {name}": span(more, 3) for name, more in stopped["more"].items()}
    for which, pairs in found["ordering"].items():
        told[f"pairs of recipes for one character, {which} checkpoints"] = str(pairs["pairs"])
        told |= {f"... the better one first by {name}, {which}": span(pairs[name]) for name in stopping.BY}
        apart = f"{pairs['apart']} pairs, {pairs['apart_rightly']:.0%} of them rightly" if pairs["apart"] else "none"
        told[f"... told apart by the error of U, {which}"] = apart
    but = f", not {' and '.join(wrong)}" if wrong else ""
    told["controls judged rightly"] = f"{len(controls) - len(wrong)} of {len(controls)}{but}"
    return told | {
        f"`{key}` follows {row['follows']}": f"{span(row)}, {row['n']} runs"
        for key, row in found["follow"].items()
        if key in COUNTING and row["n"]
    }


def beside(found: Mapping[str, Mapping[str, str]]) -> str:
    """Lay columns out as a Markdown table; a question that a home cannot answer stays empty there."""
    asked = list(dict.fromkeys(question for column in found.values() for question in column))
    lines = [["", *found], ["---"] * (len(found) + 1)]
    lines += [[question, *(column.get(question, "") for column in found.values())] for question in asked]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
