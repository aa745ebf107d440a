"""How well O, and each metric by itself, tells overcooked checkpoints from others: areas under ROC curves.

O comes as shipped, with the reader's metrics hidden, and with limits placed on other identities or other
runs, so that no checkpoint is ever scored by limits that saw its own run. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.overcooking import limits, scores
from benchmarks.overcooking.following import followed
from benchmarks.overcooking.statistics import Estimate, auroc, group_folds, over_runs
from benchmarks.overcooking.table import Checkpoint
from lorasweep.plan.symptoms import SYMPTOMS

SHIPPED = "O as shipped"
SETTLED = "runs cooked after the score was settled"
SHIPPED_UNSEEN = "O as shipped, identities its controls never showed"
BLIND = "O as shipped, no reader"
CALIBRATED = "O, limits from other identities"
CALIBRATED_BLIND = "O, limits from other identities, no reader"
OTHER_RUNS = "O, limits from other runs"
FOLDS = 5
View = Callable[[Mapping[str, float]], dict[str, float]]  # what is seen of a checkpoint's metrics
CLEAR = (0.7, 1.5)  # worst excess between which a witness's own luck may decide the label


def variants(checkpoints: Sequence[Checkpoint]) -> dict[str, np.ndarray]:
    """Every way of computing O, each (N,); NaN where it cannot be had."""
    seen = [c.metrics for c in checkpoints]
    blind = [scores.blind(metrics) for metrics in seen]
    truth, identities = labels(checkpoints), [c.identity for c in checkpoints]
    shipped = shipped_scores(checkpoints)
    return {
        SHIPPED: shipped,
        SHIPPED_UNSEEN: np.where([name != scores.CALIBRATED_ON for name in identities], shipped, math.nan),
        BLIND: shipped_scores(checkpoints, view=scores.blind),
        CALIBRATED: out_of_fold(seen, truth, identities),
        CALIBRATED_BLIND: out_of_fold(blind, truth, identities),
        OTHER_RUNS: out_of_fold(seen, truth, [c.run for c in checkpoints], folds=FOLDS),
    }


def aurocs(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """Areas of every variant of O and of every metric, with intervals over runs.

    A metric gets the direction of its symptom, else that of what it ought to follow, else that of the table.
    """
    truth = labels(checkpoints)
    found = {name: area(values, checkpoints, truth) for name, values in variants(checkpoints).items()}
    for key in sorted(keys(checkpoints)):
        values = np.array([c.metrics.get(key, math.nan) for c in checkpoints])
        found[key] = area(values * _direction(key, values, truth), checkpoints, truth)
    return found


def clear_aurocs(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """Areas of O's variants where the truth itself is clear; scored by limits placed on all checkpoints."""
    clear = np.array([is_clear(c) for c in checkpoints], dtype=bool)
    truth, found = labels(checkpoints), variants(checkpoints)
    return {name: area(np.where(clear, values, math.nan), checkpoints, truth) for name, values in found.items()}


def ablation(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """What O loses without each symptom, and without all that needs pictures; paired over runs."""
    truth, identities = labels(checkpoints), [c.identity for c in checkpoints]

    def both(hidden: Collection[str]) -> dict[str, np.ndarray]:
        left = [_hide(c.metrics, hidden) for c in checkpoints]
        return {
            "shipped": shipped_scores(checkpoints, view=lambda metrics: _hide(metrics, hidden)),
            "calibrated": out_of_fold(left, truth, identities),
        }

    cuts: dict[str, Collection[str]] = {f"without {symptom.name}": [symptom.metric] for symptom in SYMPTOMS}
    cuts["forward passes only"] = scores.needs_pictures(keys(checkpoints))
    whole, cut = both(()), {name: both(hidden) for name, hidden in cuts.items()}
    return {name: {k: _change(whole[k], cut[name][k], checkpoints, truth) for k in whole} for name in cuts}


def transfer(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """Areas on checkpoints of an identity, a seed or a dial that the limits never saw."""
    truth, values = labels(checkpoints), limits.symptom_values([c.metrics for c in checkpoints])
    shipped = shipped_scores(checkpoints)
    found = {}
    for name, is_unseen in _unseen(checkpoints).items():
        test = np.array([is_unseen(c) for c in checkpoints], dtype=bool)
        if test.any() and not test.all():
            both = {"calibrated": limits.fit(values[~test], truth[~test]).score(values), "shipped": shipped}
            found[name] = {k: area(np.where(test, v, math.nan), checkpoints, truth) for k, v in both.items()}
    return found


def out_of_fold(
    metrics: Sequence[Mapping[str, float]], truth: np.ndarray, groups: Sequence[str], *, folds: int | None = None
) -> np.ndarray:
    """Score each checkpoint by limits that saw nothing of its group; NaN when there is one group only.

    The groups are dealt into `folds` parts; None leaves out one group at a time.
    """
    scored = np.full(len(truth), math.nan)
    if len(set(groups)) < 2:
        return scored
    values = limits.symptom_values(metrics)
    for train, test in group_folds(groups, folds or len(set(groups))):
        scored[test] = limits.fit(values[train], truth[train]).score(values[test])
    return scored


def shipped_scores(checkpoints: Sequence[Checkpoint], *, view: View = dict) -> np.ndarray:
    """Score each by the limits that lorasweep ships for its base; (N,)."""
    return np.array([scores.overcook(view(c.metrics), c.limits) for c in checkpoints])


def labels(checkpoints: Sequence[Checkpoint]) -> np.ndarray:
    """Which checkpoints are truly overcooked; (N,) bool."""
    return np.array([c.truth.overcooked for c in checkpoints], dtype=bool)


def is_clear(checkpoint: Checkpoint) -> bool:
    """Whether the witness's own luck can hardly have decided the label."""
    return not CLEAR[0] <= checkpoint.truth.worst <= CLEAR[1]


def of_witness(checkpoints: Sequence[Checkpoint]) -> Estimate:
    """Estimate the area of one half of the witness's pictures for the label by the other half, both ways round."""
    worst = np.array([half.worst for c in checkpoints for half in c.halves])
    truth = np.array([half.overcooked for c in checkpoints for half in reversed(c.halves)])
    return over_runs([c.run for c in checkpoints for _ in c.halves], lambda rows: auroc(worst[rows], truth[rows]))


def keys(checkpoints: Sequence[Checkpoint]) -> set[str]:
    """Measured keys, the product's own scores left out."""
    return {key for c in checkpoints for key in c.metrics if scores.family(key) != "overcook"}


def area(values: np.ndarray, checkpoints: Sequence[Checkpoint], truth: np.ndarray) -> Estimate:
    """Estimate the area over the checkpoints that have a value, with its interval over runs."""
    there = np.flatnonzero(np.isfinite(values))
    values, truth, runs = values[there], truth[there], [checkpoints[int(place)].run for place in there]
    return over_runs(runs, lambda rows: auroc(values[rows], truth[rows]))


def _hide(metrics: Mapping[str, float], hidden: Collection[str]) -> dict[str, float]:
    return {key: value for key, value in metrics.items() if key not in hidden}


def _change(whole: np.ndarray, cut: np.ndarray, checkpoints: Sequence[Checkpoint], truth: np.ndarray) -> dict[str, Any]:
    """Area of the cut score minus that of the whole one; what cannot be scored counts as 0."""
    whole, cut = np.nan_to_num(whole), np.nan_to_num(cut)
    runs = [c.run for c in checkpoints]
    estimate = over_runs(runs, lambda rows: auroc(cut[rows], truth[rows]) - auroc(whole[rows], truth[rows]))
    return {"auroc": auroc(cut, truth), "change": estimate}


def _direction(key: str, values: np.ndarray, truth: np.ndarray) -> int:
    """1 when more is worse. Identity is good, yet it is asked whether it tells overcooking."""
    for symptom in SYMPTOMS:
        if symptom.metric == key:
            return -1 if symptom.inverted else 1
    target, direction = followed(key)
    if target not in ("", "identity"):
        return direction
    there = np.isfinite(values)
    return -1 if auroc(values[there], truth[there]) < 0.5 else 1


def _unseen(checkpoints: Sequence[Checkpoint]) -> Mapping[str, Callable[[Checkpoint], bool]]:
    """What limits are kept from, by name."""
    identities = sorted({c.identity for c in checkpoints})
    seeds = sorted({c.seed for c in checkpoints})
    return {
        **{f"identity {it}": lambda c, it=it: c.identity == it for it in identities},  # type: ignore[misc]
        **{f"seed {it}": lambda c, it=it: c.seed == it for it in seeds},  # type: ignore[misc]
        SETTLED: lambda c: not c.had_a_say,
        "half of the identities": lambda c: c.identity in identities[::2],
        "confound above 0.5": lambda c: c.dials["confound"] > 0.5,
        "lr above the centre's": lambda c: c.dials["lr"] > 2e-3,
        "fewer than 20 images": lambda c: c.dials["images"] < 20,
        "adapters other than LoRA": lambda c: c.dials["adapter"] != "lora",
    }
