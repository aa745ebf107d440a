"""Six controls whose verdict is known beforehand, and what each must look like.

    base             no adapter at all                         nothing overcooked
    class only       trained on other dolls, no subject        F* near 0, not called done
    random           random matrices of a trained norm         as harmful as the witness finds it, F near 0
    copier           returns its training images exactly       copies, whatever else it does
    saturated        a vivid training set, trained healthily   burn must not fire
    regularised      the same recipe with images of the class  less bleed than without

Three are recipes and are cooked like any run; three are planted (see `planted`). Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageEnhance

from benchmarks.overcooking import scores
from benchmarks.overcooking.grid import CENTRE, Recipe, Run, Scale, overrides, quoted, run_name
from benchmarks.overcooking.table import Checkpoint, by_run
from lorasweep.core import files
from lorasweep.core.seeds import derive
from lorasweep.dollhouse import world
from lorasweep.trial.judge import score

PLANTED = ("base", "random", "copier")
IDENTITY = "zkw"
VIVID = 1.8  # factor of saturation
CLASS_IMAGES = 20


def runs(home: Path, *, scale: Scale) -> list[Run]:
    """Draw the datasets that are not there yet; return the controls, with the twin of `regularised`."""
    plain = _run("control-plain", _plain(home / "datasets" / "plain"), scale)
    planted = [
        replace(
            plain,
            name=f"control-{kind}",
            recipe=Recipe(name=f"control-{kind}", dials=dict(CENTRE)),
            planted=kind,
        )
        for kind in PLANTED
    ]
    return [
        *planted,
        _run("control-class-only", _class_only(home / "datasets" / "class-only"), scale),
        _run("control-saturated", _saturated(home / "datasets" / "saturated"), scale),
        _run("control-regularised", _regularised(home / "datasets" / "regularised"), scale),
        plain,
    ]


def _run(name: str, folder: Path, scale: Scale) -> Run:
    prompts = world.prompts(IDENTITY, count=2, seed=0)
    texts = ",".join(f"{tier}:[{','.join(map(quoted, found))}]" for tier, found in prompts.items())
    own = [
        "dataset=folder",
        f"dataset.path={quoted(str(folder))}",
        f"dataset.prompts={{{texts}}}",
        *overrides(CENTRE, seed=0, scale=scale),
    ]
    recipe = Recipe(name=name, dials=dict(CENTRE))
    return Run(name=run_name(name, IDENTITY, 0), recipe=recipe, identity=IDENTITY, seed=0, overrides=tuple(own))


# --------------------------------------------------------------------------------------------- datasets


def _plain(folder: Path) -> Path:
    if not folder.exists():
        files.write_folder(folder, lambda draft: world.write_dataset(draft, IDENTITY, confound=0.5, seed=2))
    return folder


def _saturated(folder: Path) -> Path:
    """The subject's images, every colour pushed away from grey."""

    def draw(draft: Path) -> None:
        world.write_dataset(draft, IDENTITY, confound=0.5, seed=2)
        for path in draft.glob("*/*.png"):
            with Image.open(path) as image:
                vivid = ImageEnhance.Color(image.convert("RGB")).enhance(VIVID)
            vivid.save(path)

    if not folder.exists():
        files.write_folder(folder, draw)
    return folder


def _class_only(folder: Path) -> Path:
    """Other dolls with all their tags, and no trigger; `world.json` names the subject to look for."""
    if not folder.exists():
        files.write_folder(folder, lambda draft: _draw_class(draft, folder="", record=draft / "world.json"))
    return folder


def _regularised(folder: Path) -> Path:
    """The subject's images, and as many of the class beside them, as kohya's regularisation folders are."""

    def draw(draft: Path) -> None:
        world.write_dataset(draft, IDENTITY, confound=0.5, seed=2)
        _draw_class(draft, folder="5_1girl", record=None)

    if not folder.exists():
        files.write_folder(folder, draw)
    return folder


def _draw_class(root: Path, *, folder: str, record: Path | None) -> None:
    rng = np.random.default_rng(derive(0, "class images") % 2**32)
    place = root / folder
    place.mkdir(parents=True, exist_ok=True)
    specs: dict[str, Any] = {}
    while len(specs) < CLASS_IMAGES:
        spec = world.sample_spec(rng)
        if any(getattr(spec, name) == value for name, value in world.SUBJECTS[IDENTITY].traits.items()):
            continue
        path = place / f"{len(specs) + 1:04d}.png"
        world.render(spec, 64, 64).save(path)
        path.with_suffix(".txt").write_text(", ".join(world.tags(spec)) + "\n", encoding="utf-8")
        specs[path.relative_to(root).as_posix()] = spec.to_dict()
    if record is not None:
        record.write_text(json.dumps({"subject": IDENTITY, "images": specs}), encoding="utf-8")


# ------------------------------------------------------------------------------------------------ rules


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a control must look like; `holds` takes its facts and, for `regularised`, those of its twin."""

    says: str
    holds: Callable[[Mapping[str, float], Mapping[str, float]], bool]


RULES: Final[dict[str, Rule]] = {
    "base": Rule(says="O <= 0.1, F <= 0.1", holds=lambda c, _: c["O"] <= 0.1 and c["F"] <= 0.1),
    "class only": Rule(says="F <= 0.25: never learned", holds=lambda c, _: c["F"] <= 0.25),
    # Of a healthy adapter's norm, chance directions do next to nothing; that too has to be said rightly.
    "random": Rule(
        says="O as the witness, F <= 0.1, no copies",
        holds=lambda c, _: (c["O"] > 0.5) == (c["true_harm"] > 0.5) and c["F"] <= 0.1 and c["copies"] <= 0.5,
    ),
    "copier": Rule(says="copies > 0.5, not burned", holds=lambda c, _: c["copies"] > 0.5 and c["O"] > 0.5 >= c["burn"]),
    "saturated": Rule(says="not burned at its best", holds=lambda c, _: c["burn"] <= 0.5),
    "regularised": Rule(says="strangers redrawn less than without", holds=lambda c, twin: c["drift"] < twin["drift"]),
}


def facts(checkpoint: Checkpoint) -> dict[str, float]:
    """What the rules ask about: O and F as shipped, the grades of burn and copies, drift, and the truth."""
    measured = {key: v for key, v in checkpoint.metrics.items() if scores.family(key) != "overcook"}
    scored = score.summarise(measured, scores.shipped()).values
    learned = score.fidelity(measured, scores.shipped())
    return {
        "O": scored.get(score.SCORE, float("nan")),
        "F": float("nan") if learned is None else learned,
        "burn": scored.get("overcook/burn", float("nan")),
        "copies": scored.get("overcook/memorisation", float("nan")),
        "drift": measured.get("prior_drift/class", float("nan")),
        "true_harm": checkpoint.truth.harm,
        "true_identity": checkpoint.truth.identity,
        **{f"true_{name}": excess for name, excess in checkpoint.truth.excess.items()},
    }


def _name(checkpoint: Checkpoint) -> str:
    return checkpoint.recipe.removeprefix("control-").replace("-", " ")


def judged(checkpoints: Sequence[Checkpoint]) -> list[dict[str, Any]]:
    """Say of each control that is there whether it is judged rightly.

    Args:
        checkpoints: of cooked controls every rung, of planted ones their only one. The saturated control is
            judged where its true utility is highest, the others at their end.
    """
    runs = {rungs[0].recipe.removeprefix("control-").replace("-", " "): rungs for rungs in by_run(checkpoints).values()}
    twin = facts(runs["plain"][-1]) if "plain" in runs else {"drift": float("nan")}
    rows = []
    for name, rule in RULES.items():
        if name not in runs:
            continue
        rungs = runs[name]
        chosen = max(rungs, key=lambda c: c.truth.utility) if name == "saturated" else rungs[-1]
        found = facts(chosen)
        rows.append({"control": name, "must be": rule.says, "right": bool(rule.holds(found, twin)), **found})
    return rows
