"""docs/overcooking.md from the analysis: tables, figures, and what falls short, in words that follow them.

Takes plain JSON; gives Markdown, as page.md.j2 has it. Nothing is measured here, but what the training cost.
"""

from __future__ import annotations

import datetime
import math
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks.overcooking import areas, grid, stopping, table, truth
from benchmarks.overcooking.cooking import run_folders
from benchmarks.overcooking.table import CONTROL, COPYING, Checkpoint, by_run
from lorasweep import config
from lorasweep.core import files, registry
from lorasweep.plan.symptoms import SYMPTOMS
from lorasweep.trial.judge import score

Row = Mapping[str, Any]
HEADLINES = (areas.SHIPPED_UNSEEN, areas.CALIBRATED)
COUNTING = {*(symptom.metric for symptom in SYMPTOMS), score.IDENTITY, score.SCORE, score.UTILITY}
FEWEST_RUNS = 8  # for an interval over runs to mean something
GOALS = {"auroc": 0.95, "spearman": 0.7, "regret": 0.05}
WHAT = {
    "copies": "share of pictures of training captions that are nearer by far, pixel by pixel, to the "
    "training images than to every one of many replicas (same attributes, other position, scale, light)",
    "bleed": "likeness of fully described strangers, over the base's",
    "control": "share of asked attributes lost on recombined prompts, of the base's",
    "variety": "share of the variety of place, pose and clothes lost on the trigger alone, of the base's",
    "corrupt": "probability of being no clean picture, over the base's",
}


def write(found: Mapping[str, Any], *, pictures: str, story: str) -> str:
    """Compose the page of `analysis.analyse`, with `facts`, `controls` and `copying`.

    `pictures` is the folder of the figures, relative to the page; `story` says what the story figure shows, if there is
    one.
    """
    settled = found["transfer"].get(areas.SETTLED)
    headlines = {name: found["auroc"][name] for name in HEADLINES}  # the areas that have a goal
    if settled:
        headlines[f"{areas.SHIPPED}, {areas.SETTLED}"] = settled["shipped"]
    follow = sorted(found["follow"].items(), key=lambda pair: (pair[1]["follows"], -pair[1]["value"]))
    clean = settled and found["stopping_settled"]["runs"] >= FEWEST_RUNS
    page = _templates().get_template("page.md.j2")
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
    grid_folders = {folder.name for folder in folders if not folder.name.startswith((CONTROL, COPYING))}
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
        "calibration": checkpoints[0].limits.digest,
        "commit": git.get("commit", "unknown"),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor"
    )


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


def _templates() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals |= {"span": span, "signed": signed, "GOALS": GOALS, "COUNTING": COUNTING, "WHAT": WHAT}
    made.globals |= {"FEWEST_RUNS": FEWEST_RUNS, "SETTLED_ON": grid.SETTLED_ON, "LIMITS": truth.LIMITS}
    made.globals |= {"CLEAR": areas.CLEAR, "SETTLED": areas.SETTLED, "USEFUL": stopping.USEFUL, "OURS": stopping.OURS}
    made.filters |= {"beaten": _beaten, "unbeaten": _unbeaten, "by_regret": _by_regret}
    return made


def _by_regret(stoppers: Mapping[str, Row]) -> list[tuple[str, Row]]:
    return sorted(stoppers.items(), key=lambda pair: pair[1]["regret"]["value"])


def _simple(found: Row) -> dict[str, Row]:
    """How much more utility than ours each of the other stoppers loses."""
    stoppers = found["stoppers"].items()
    return {name: row["more_than_ours"] for name, row in stoppers if not name.startswith(stopping.OURS)}


def _beaten(found: Row) -> list[str]:
    """Simple stoppers that lose clearly more: the interval is clear of 0."""
    return [name for name, more in _simple(found).items() if more["low"] > 0]


def _unbeaten(found: Row) -> list[tuple[str, Row]]:
    return [(name, more) for name, more in _simple(found).items() if not more["low"] > 0]
