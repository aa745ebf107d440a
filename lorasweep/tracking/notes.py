"""The markdown that MLflow shows as a run's description: the question, the answer, how to do it again.

Takes what the files say; knows nothing about mlflow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SCORE, UTILITY = "overcook/score", "overcook/utility"


def sweep_note(name: str, manifest: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Describe a sweep.

    Args:
        name: the sweep's folder.
        manifest: `sweep.yaml`; may be empty.
        rows: one per trial, best first: `rank`, `name`, `status`, `metrics`, `sentence`, `note`.
    """
    parts = []
    if question := manifest.get("question"):
        parts.append(f"**{question}**")
    if answer := _answer(rows):
        parts.append(answer)
    if rows:
        parts.append(_table(rows))
    parts.append(
        "Pictures: select the runs, open the chart view and look at the image grid (one key per prompt), "
        "or open `contact_sheet.png` under Artifacts."
    )
    if name != "train":
        parts.append(f"Continue or repeat it: `lorasweep sweep {name}`")
    return "\n\n".join(parts)


def trial_note(
    sweep: str,
    manifest: Mapping[str, Any],
    arm: Mapping[str, Any],
    *,
    seed: Any,
    sentence: str,
    reason: str,
) -> str:
    """Describe a trial: what its arm is, how it came out, and the command that cooks it alone."""
    overrides = " ".join(
        _quoted(str(override)) for override in (*(arm.get("overrides") or ()), f"seed={seed}")
    )
    parts = [
        f"_{arm['note']}_" if arm.get("note") else "",
        sentence,
        f"Ended early: {reason}" if reason else "",
        f"Question: {manifest['question']}" if manifest.get("question") else "",
        f"Again, with its siblings: `lorasweep sweep {sweep}`" if sweep != "train" else "",
        f"Again, alone: `lorasweep train {overrides}`" if arm else "",
        "The recipe in full is `recipe.yaml` under Artifacts.",
    ]
    return "\n\n".join(part for part in parts if part)


def _answer(rows: Sequence[Mapping[str, Any]]) -> str:
    """Name the first of the ranking, in a line that shows even when MLflow folds the description."""
    if not rows or rows[0].get("rank") is None:
        return ""
    best = rows[0]
    metrics = best.get("metrics") or {}
    numbers = f"utility {_number(metrics.get(UTILITY))}, overcooked {_number(metrics.get(SCORE))}"
    return f"Best: **{best['name']}** ({numbers}). {best.get('sentence') or ''}".rstrip()


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| | recipe | status | utility | overcooked | verdict |", "|---|---|---|---|---|---|"]
    for place, row in enumerate(rows, start=1):
        metrics = row.get("metrics") or {}
        cells = [
            str(place),
            f"**{row['name']}**" + (f" {row['note']}" if row.get("note") else ""),
            str(row["status"]).lower().replace("_", " "),
            _number(metrics.get(UTILITY)),
            _number(metrics.get(SCORE)),
            str(row.get("sentence") or ""),
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines)


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "not measured"


def _quoted(override: str) -> str:
    plain = all(character.isalnum() or character in "=._-+~/:" for character in override)
    return override if plain else f"'{override}'"
