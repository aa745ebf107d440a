"""Six controls whose verdict is known beforehand, and what each must look like.

    base             no adapter at all                         nothing overcooked
    class only       trained on other dolls, no subject        F* near 0, not called done
    random           random matrices of a trained norm         as harmful as the witness finds it, F near 0
    copier           returns its training images exactly       copies, whatever else it does
    saturated        a vivid training set, trained healthily   burn must not fire
    regularised      the same recipe with images of the class  less bleed than without

Three are recipes and are trained like any run; three are planted (see `planted`). And runs that copy: few images,
many exposures, since the grid's own runs burn or bleed long before they copy. Their datasets are folders, so that
the prompts in distribution are training captions, as they are for anybody's own images: a copy shows where its
caption is asked for. Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageEnhance

from benchmarks.overcooking import grid
from benchmarks.overcooking.grid import CENTRE, Recipe, Run, Setting
from benchmarks.overcooking.statistics import auroc, rows_by_run, spearman
from benchmarks.overcooking.table import CONTROL, COPYING, Checkpoint, by_run
from lorasweep.core import files
from lorasweep.core.seeds import derive
from lorasweep.dollhouse import world
from lorasweep.trial.judge import score

PLANTED = ("base", "random", "copier")
IDENTITY = "zkw"
VIVID = 1.8  # factor of saturation
CLASS_IMAGES = 20


def runs(home: Path, *, setting: Setting) -> list[Run]:
    """Draw the datasets that are not there yet; return the controls, with the twin of `regularised`."""
    prompts = world.prompts(IDENTITY, count=2, seed=0)
    texts = ",".join(f"{tier}:[{','.join(map(_quoted, found))}]" for tier, found in prompts.items())

    def control(name: str, draw: Callable[[Path], None]) -> Run:
        recipe = Recipe(name=f"{CONTROL}{name}", dials=CENTRE)
        folder = home / "datasets" / name
        return _on_folder(folder, draw, recipe, IDENTITY, f"dataset.prompts={{{texts}}}", setting=setting)

    plain = control("plain", _subject)
    planted = [
        replace(plain, name=f"{CONTROL}{kind}", recipe=replace(plain.recipe, name=f"{CONTROL}{kind}"), planted=kind)
        for kind in PLANTED
    ]
    trained = {"class-only": _class_only, "saturated": _saturated, "regularised": _regularised}
    return [*planted, *(control(name, draw) for name, draw in trained.items()), plain]


def _on_folder(
    folder: Path, draw: Callable[[Path], None], recipe: Recipe, identity: str, *own: str, setting: Setting
) -> Run:
    """Make the run of a recipe at seed 0 on a dataset folder, which is drawn when it is not there."""
    if not folder.exists():
        files.write_folder(folder, draw)
    return grid.run(
        recipe, identity, 0, "dataset=folder", f"dataset.path={_quoted(str(folder))}", *own, setting=setting
    )


def _quoted(text: str) -> str:
    """A value with blanks or signs in it, for an override."""
    return "'" + text.replace("'", "\\'") + "'"


def _subject(folder: Path) -> None:
    world.write_dataset(folder, IDENTITY, confound=0.5, seed=2)


def _saturated(folder: Path) -> None:
    """Draw the subject's images, every colour pushed away from grey."""
    _subject(folder)
    for path in folder.glob("*/*.png"):
        with Image.open(path) as image:
            vivid = ImageEnhance.Color(image.convert("RGB")).enhance(VIVID)
        vivid.save(path)


def _regularised(folder: Path) -> None:
    """Draw the subject's images, and as many of the class beside them, as kohya's regularisation folders are."""
    _subject(folder)
    _draw_class(folder / "5_1girl")


def _class_only(folder: Path) -> None:
    """Draw other dolls with all their tags, and no trigger; `world.json` names the subject to look for."""
    record = {"subject": IDENTITY, "images": _draw_class(folder)}
    (folder / "world.json").write_text(json.dumps(record), encoding="utf-8")


def _draw_class(folder: Path) -> dict[str, Any]:
    """Draw dolls that share no trait with the subject; returns what each file shows."""
    rng = np.random.default_rng(derive(0, "class images") % 2**32)
    folder.mkdir(parents=True, exist_ok=True)
    specs: dict[str, Any] = {}
    while len(specs) < CLASS_IMAGES:
        spec = world.sample_spec(rng)
        if any(getattr(spec, name) == value for name, value in world.SUBJECTS[IDENTITY].traits.items()):
            continue
        path = folder / f"{len(specs) + 1:04d}.png"
        world.render(spec, 64, 64).save(path)
        path.with_suffix(".txt").write_text(", ".join(world.tags(spec)) + "\n", encoding="utf-8")
        specs[path.name] = spec.to_dict()
    return specs


Facts = Mapping[str, float]

RULES: Final[dict[str, tuple[str, Callable[[Facts, Facts], bool]]]] = {
    "base": ("O <= 0.1, F <= 0.1", lambda c, _: c["O"] <= 0.1 and c["F"] <= 0.1),
    "class only": ("F <= 0.25: never learned", lambda c, _: c["F"] <= 0.25),
    # Of a healthy adapter's norm, chance directions do next to nothing; that too has to be said rightly.
    "random": (
        "O as the witness, F <= 0.1, no copies",
        lambda c, _: (c["O"] > 0.5) == (c["true_harm"] > 0.5) and c["F"] <= 0.1 and c["copies"] <= 0.5,
    ),
    "copier": ("copies > 0.5, not burned", lambda c, _: c["copies"] > 0.5 and c["O"] > 0.5 >= c["burn"]),
    "saturated": ("not burned at its best", lambda c, _: c["burn"] <= 0.5),
    "regularised": ("strangers redrawn less than without", lambda c, twin: c["drift"] < twin["drift"]),
}
"""What a control must look like, in words and by its facts and, for `regularised`, those of its twin."""


def facts(checkpoint: Checkpoint) -> dict[str, float]:
    """Collect what the rules ask about: O and F as shipped, the grades of burn and copies, drift, true harm."""
    found = checkpoint.metrics
    learned = score.fidelity(found, checkpoint.limits)
    return {
        "O": found.get(score.SCORE, nan),
        "F": nan if learned is None else learned,
        "burn": found.get("overcook/burn", nan),
        "copies": found.get("overcook/memorisation", nan),
        "drift": found.get("prior_drift/class", nan),
        "true_harm": checkpoint.truth.harm,
    }


def judged(checkpoints: Sequence[Checkpoint]) -> list[dict[str, Any]]:
    """Say of each control that is there whether it is judged rightly.

    Of trained controls there is every rung, of planted ones their only one. The saturated control is judged where its
    true utility is highest, the others at their end.
    """
    runs = {rungs[0].recipe.removeprefix(CONTROL).replace("-", " "): rungs for rungs in by_run(checkpoints).values()}
    twin = facts(runs["plain"][-1]) if "plain" in runs else {"drift": nan}
    rows = []
    for name, (says, holds) in RULES.items():
        if name in runs:
            best = max(runs[name], key=lambda c: c.truth.utility)
            found = facts(best if name == "saturated" else runs[name][-1])
            rows.append({"control": name, "must be": says, "right": bool(holds(found, twin)), **found})
    return rows


COPYING_DIALS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("zkw", {"images": 4, "lr": 4e-3, "dim": 16}),
    ("vqx", {"images": 4, "lr": 2e-3, "dim": 64}),
    ("ohru", {"images": 6, "lr": 4e-3, "dim": 64}),
    ("mona taco", {"images": 6, "lr": 2e-3, "dim": 64}),
)
SEE_COPIES: Final = (
    ("memorisation/copy_rate", 1),
    ("memorisation/tile_max", 1),
    ("memorisation/nearness", 1),
    ("memorisation/magnitude_ratio", 1),
    ("generalisation/gap", 1),
    ("generalisation/train", -1),
)
"""Those that might see copies, and which way."""


def copying_runs(home: Path, *, setting: Setting) -> list[Run]:
    """Draw the datasets that are not there yet; return the runs, which are longer than the grid's."""
    longer = replace(setting, steps=640, rungs=5)

    def run(identity: str, dials: dict[str, Any]) -> Run:
        def draw(folder: Path) -> None:
            world.write_dataset(folder, identity, images=dials["images"], confound=1.0, seed=2)

        recipe = Recipe(name=f"{COPYING}{dials['images']}-images", dials=CENTRE | {"confound": 1.0} | dials)
        folder = home / "datasets" / f"{recipe.name}_{identity.replace(' ', '-')}_s0"
        return _on_folder(folder, draw, recipe, identity, setting=longer)

    return [run(identity, dials) for identity, dials in COPYING_DIALS]


def copied(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """Whether the metrics that might see copies do, and O by the shipped limits.

    Returns:
        `runs`, `checkpoints`, `copying` (past the limit of true copies), and by metric `within` (median rank
        correlation within a run with the true share of copies) and `area` for checkpoints that copy.
    """
    runs, truth = [c.run for c in checkpoints], np.array([c.truth.excess["copies"] for c in checkpoints])
    asked = {key: [sign * c.metrics.get(key, nan) for c in checkpoints] for key, sign in SEE_COPIES}
    asked["O as shipped"] = [c.metrics.get(score.SCORE, nan) for c in checkpoints]
    return {
        "runs": len(set(runs)),
        "checkpoints": len(checkpoints),
        "copying": int((truth > 1).sum()),
        "metrics": {key: _against_truth(runs, truth, np.array(values)) for key, values in asked.items()},
    }


def _against_truth(runs: Sequence[str], truth_N: np.ndarray, values_N: np.ndarray) -> dict[str, float]:
    known = np.isfinite(values_N)
    truth_N, values_N = truth_N[known], values_N[known]
    groups = rows_by_run([run for run, is_known in zip(runs, known, strict=True) if is_known])
    within = np.array([spearman(values_N[rows], truth_N[rows]) for rows in groups.values()])
    varied = within[np.isfinite(within)]
    return {"within": float(np.median(varied)) if len(varied) else nan, "area": auroc(values_N, truth_N > 1)}
