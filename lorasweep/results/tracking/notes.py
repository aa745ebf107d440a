"""The Markdown that MLflow shows as a run's description: the question, the answer, how to do it again.

Takes what the files say, which may be a stranger's: every word of it goes through `plain` or `code`, since
MLflow would load the pictures that it names. Knows nothing about mlflow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lorasweep.core.markdown import code, cut, plain, table
from lorasweep.core.printable import command
from lorasweep.sweep.comparable import several_devices
from lorasweep.sweep.manifest import command_of
from lorasweep.sweep.ranking.leaderboard import columns, number, short_name
from lorasweep.sweep.ranking.state import are_trained
from lorasweep.trial.judge.score import UTILITY

LONGEST = 5000  # characters; what MLflow takes of a tag


def sweep_note(
    name: str,
    manifest: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    prompts: Mapping[str, Sequence[str]],
    devices: Iterable[str],
) -> str:
    """Describe a sweep, by the name of its folder and its `sweep.yaml`, which may be empty.

    `rows` are one per trial, best first: `rank`, `name`, `status`, `metrics`, `sentence`, `note`; `prompts` what the
    samples were drawn from, by tier; `devices` the models of the GPUs of all trials.
    """
    metric, further = str(manifest.get("metric") or UTILITY), (manifest.get("search") or {}).get("further", ())
    told = [(short_name(metric), metric)]
    told += columns(metric, [each["name"] for each in further], [row["metrics"] for row in rows])
    parts = [
        f"**{plain(str(manifest['question']))}**" if manifest.get("question") else "",
        _answer(rows, told),
        _table(rows, told) if rows else "",
        *(plain(f"Trials were {told}.") for told in several_devices(devices)),
        "Its samples and charts: the view of this name in the Views menu of the runs page, or "
        "`contact_sheet.png` under Artifacts.",
        f"Continue or repeat it: {again}" if (again := _again(name, manifest)) else "",
        _prompts(prompts),
    ]
    return cut("\n\n".join(part for part in parts if part), LONGEST)


def _again(name: str, manifest: Mapping[str, Any]) -> str:
    """Name the command that runs a sweep again; empty for single runs, and for judged files."""
    trained = manifest and are_trained(arm.get("recipe") or {} for arm in manifest.get("arms") or ())
    return code(command_of(name, manifest.get("typed") or ())) if trained else ""


def trial_note(
    sweep: str,
    manifest: Mapping[str, Any],
    arm: Mapping[str, Any],
    *,
    sentence: str,
    reason: str,
    missing: Mapping[str, str],
) -> str:
    """Describe a trial: its arm, how it came out, what could not be measured, how to cook it again."""
    overrides = " ".join(str(override) for override in arm.get("overrides") or ())
    parts = [
        f"_{plain(str(arm['note']))}_" if arm.get("note") else "",
        plain(sentence),
        f"Ended early: {plain(reason)}" if reason else "",
        f"Question: {plain(str(manifest['question']))}" if manifest.get("question") else "",
        f"What sets it apart: {code(overrides)}" if overrides else "",
        f"Again: {again}" if (again := _again(sweep, manifest)) else "",
        "\n".join(["Not measured:", *(f"- {code(name)}: {plain(why)}" for name, why in missing.items())])
        if missing
        else "",
        "The recipe in full is `recipe.yaml` under Artifacts.",
    ]
    return cut("\n\n".join(part for part in parts if part), LONGEST)


def model_note(trial: str, *, sentence: str, trigger: str) -> str:
    """Describe the best adapter's model: what was said of it, how to draw with it or take it elsewhere."""
    prompt = f"{trigger}, ..." if trigger else "..."
    draw = f"mlflow.pyfunc.load_model('models:/<Model ID>').predict([{prompt!r}])"
    export = command("lorasweep", "export", trial)
    parts = [
        plain(sentence),
        f"Draw with it: {code(draw)}",
        f"As a file for UIs or diffusers: {code(export)}",
    ]
    return cut("\n\n".join(part for part in parts if part), LONGEST)


def _answer(rows: Sequence[Mapping[str, Any]], told: Sequence[tuple[str, str]]) -> str:
    """Name the first of the ranking, in a line that shows even when MLflow folds the description."""
    if not rows or rows[0].get("rank") is None:
        return ""
    best = rows[0]
    numbers = ", ".join(f"{plain(heading)} {number(best['metrics'].get(metric))}" for heading, metric in told)
    return f"Best: **{plain(best['name'])}** ({numbers}). {plain(best.get('sentence') or '')}".rstrip()


def _table(rows: Sequence[Mapping[str, Any]], told: Sequence[tuple[str, str]]) -> str:
    cells = [
        [
            str(row["rank"] or ""),
            f"**{plain(row['name'])}**" + (f" {plain(row['note'])}" if row.get("note") else ""),
            plain(str(row["status"]).lower().replace("_", " ")),
            *(number(row["metrics"].get(metric)) for _, metric in told),
            plain(str(row.get("sentence") or "")),
        ]
        for row in rows
    ]
    return table(["", "recipe", "status", *(plain(heading) for heading, _ in told), "verdict"], cells)


def _prompts(prompts: Mapping[str, Sequence[str]]) -> str:
    lines = [
        f"- {code(f'{tier}_{place}')}: {plain(prompt)}"
        for tier, texts in prompts.items()
        for place, prompt in enumerate(texts)
    ]
    return "\n".join(["Prompts of the samples:", *lines]) if lines else ""
