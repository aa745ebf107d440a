"""Sweep folders as the driver leaves them, without cooking: any number of trials, seeds, statuses, names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from PIL import Image, ImageDraw

from lorasweep import config
from lorasweep.core import files
from lorasweep.core.records import to_dict
from lorasweep.core.run_folder import SweepFolder

START = 1_795_000_000.0  # unix s
PROMPTS = {
    "in_distribution": "zkw, 1girl, red dress, beach",
    "recombined": "zkw, 1girl, blue coat, snow",
    "class": "1girl, green hair, indoors",
    "unrelated": "a red circle",
}
RUNGS = (80, 160, 240, 320)


@dataclass(frozen=True, kw_only=True)
class Cooked:
    """One trial to write; `identity` and `overcook` are what it ends with."""

    arm: str
    overrides: Sequence[str] = ()
    note: str = ""
    seed: int = 0
    identity: float = 0.5
    overcook: float = 0.2
    status: str = "COMPLETED"
    reason: str = ""
    rungs: Sequence[int] = RUNGS
    pictures: bool = True
    verdict: Mapping[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> float:
        return self.identity * (1 - self.overcook)


def write_sweep(
    folder: Path,
    trials: Sequence[Cooked],
    *,
    question: str = "Which burns later?",
    objectives: Mapping[str, str] | None = None,
) -> Path:
    """Write a sweep folder; the arms are those of the trials, in their order; `objectives` are metric -> goal."""
    (metric, goal), *further = (objectives or {"overcook/utility": "maximize"}).items()
    arms = {trial.arm: trial for trial in reversed(trials)}
    manifest = {
        "name": folder.name,
        "question": question,
        "metric": metric,
        "goal": goal,
        "worst": 0.0,
        "search": {"further": [{"name": name, "goal": goal, "worst": 1.0} for name, goal in further]},
        "arms": [
            {"name": name, "note": arms[name].note, "overrides": list(arms[name].overrides),
             "plan": "f" * 64, "recipe": _recipe(arms[name])}
            for name in dict.fromkeys(trial.arm for trial in trials)
        ],
        "trials": [{"number": n, "arm": t.arm, "seed": t.seed} for n, t in enumerate(trials)],
    }  # fmt: skip
    files.write_text(folder / "sweep.yaml", yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True))
    _pictures(folder / "base_samples", weights=(0.0,), burn=0.0)
    for number, trial in enumerate(trials):
        _trial(SweepFolder(folder).run(number, trial.arm, trial.seed).path, number, trial, metric)
    return folder


def _recipe(trial: Cooked) -> dict[str, Any]:
    typed = [*trial.overrides, f"seed={trial.seed}", f"train.max_steps={RUNGS[-1]}"]
    recipe: dict[str, Any] = to_dict(config.compose_recipe(typed))
    return recipe


def _trial(folder: Path, number: int, trial: Cooked, metric: str) -> None:
    if trial.status == "WAITING":
        return
    ended = trial.status not in ("RUNNING", "CANCELLED")
    judged = [_rung(trial, step) for step in trial.rungs]
    step = trial.rungs[-1] if trial.rungs else 0
    value = trial.value if metric == "overcook/utility" else judged[-1]["metrics"][metric]
    files.write_text(folder / "recipe.yaml", yaml.safe_dump(_recipe(trial), sort_keys=False))
    files.write_json(folder / "provenance.json", {"lorasweep": "0.1.0", "libraries": {"torch": "2.13.0"}})
    files.write_json(
        folder / "status.json",
        {"number": number, "arm": trial.arm, "seed": trial.seed, "status": trial.status, "step": step,
         "steps": RUNGS[-1], "attempt": 1, "reason": trial.reason, "fingerprint": f"{number:064x}",
         "value": value if trial.status == "COMPLETED" else None, "started_at": START + number,
         "ended_at": START + number + 100.0 if ended else None},
    )  # fmt: skip
    files.write_jsonl(folder / "events.jsonl", [{"kind": "rung", "time": START, **rung} for rung in judged])
    if trial.status in ("COMPLETED", "PRUNED"):
        word = "overcooked" if trial.overcook > 0.5 else "done"
        verdict = {"state": word, "done_at": 160, "sentence": f"{word.capitalize()} at step 160."}
        files.write_json(
            folder / "metrics.json",
            {"weight": 0.7, "metrics": judged[-1]["metrics"], "missing": {"diversity/relative": "no encoder"},
             "rungs": judged, "verdict": {**verdict, **trial.verdict}},
        )  # fmt: skip
    for step in trial.rungs if trial.pictures else ():
        weights = (0.4, 0.7, 1.0) if step == RUNGS[-1] else (0.7,)
        _pictures(folder / "samples" / f"step_{step:06d}", weights=weights, burn=trial.overcook * step / RUNGS[-1])


def _rung(trial: Cooked, step: int) -> dict[str, Any]:
    part = step / RUNGS[-1]
    identity, over = trial.identity * (1 - math.exp(-4 * part)), trial.overcook * part
    metrics = {
        "identity/score": identity,
        "overcook/score": over,
        "overcook/utility": identity * (1 - over),
        "overcook/burn": over,
        "burn/score": 2 * over,
        "train/loss": 0.1 / step,
    }
    return {"step": step, "exposures_per_image": step / 4, "metrics": metrics, "missing": {}}


def _pictures(folder: Path, *, weights: Sequence[float], burn: float) -> None:
    rows = []
    for weight in weights:
        for tier, prompt in PROMPTS.items():
            name = f"{tier}_w{weight:g}.png"
            picture = Image.blend(_doll(tier), Image.new("RGB", (64, 64), "#f0f"), min(0.9, burn * weight))
            files.write_atomic(folder / name, picture.save)
            rows.append({"file": name, "tier": tier, "prompt": prompt, "seed": 0, "weight": weight})
    files.write_json(folder / "index.json", {"how": {}, "images": rows})


def _doll(tier: str) -> Image.Image:
    grounds = {"in_distribution": "#8fc1e3", "recombined": "#e8eef2", "class": "#d9c7a3", "unrelated": "#fff"}
    image = Image.new("RGB", (64, 64), grounds[tier])
    pen = ImageDraw.Draw(image)
    pen.polygon([(32, 28), (14, 60), (50, 60)], fill="#36c")
    pen.ellipse((20, 8, 44, 32), fill="#f3d2b3", outline="#333")
    return image
