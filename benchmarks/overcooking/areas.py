"""How well O, and each metric by itself, tells overcooked checkpoints from others, and follows its own ground truth.

    areas(checkpoints)   ->  areas under ROC curves
    follow(checkpoints)  ->  rank correlations within runs

O comes as shipped, with the reader's metrics hidden, and with limits placed on other identities or other
runs, so that no checkpoint is ever scored by limits that saw its own run. Imports no torch. N checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from benchmarks.overcooking import scores
from benchmarks.overcooking.statistics import Estimate, auroc, auroc_change, group_folds, over_runs, spearman
from benchmarks.overcooking.table import Checkpoint, by_run
from lorasweep.plan.symptoms import SYMPTOMS
from lorasweep.trial.judge.score import SCORE

SHIPPED = "O as shipped"
SETTLED = "runs cooked after the score was settled"
SHIPPED_UNSEEN = "O as shipped, identities its controls never showed"
BLIND = "O as shipped, no reader"
CALIBRATED = "O, limits from other identities"
CALIBRATED_BLIND = "O, limits from other identities, no reader"
OTHER_RUNS = "O, limits from other runs"
FOLDS = 5
FORWARD_FAMILIES = ("generalisation", "prior_drift", "trigger_selectivity", "useful_weight", "norms")
MAGNITUDE = "memorisation/magnitude_ratio"  # from forward passes alone as well
View = Callable[[Mapping[str, float]], dict[str, float]]  # what is seen of a checkpoint's metrics
CLEAR = (0.7, 1.5)  # worst excess between which a witness's own luck may decide the label

FOLLOWS: Final[dict[str, tuple[str, int]]] = {
    "generalisation/gap": ("copies", 1),
    "generalisation/gap_high_noise": ("copies", 1),
    "generalisation/rise": ("unlearned", 1),
    "useful_weight/slope": ("worst", 1),
    "prior_drift/class": ("altered", 1),
    "prior_drift/neighbour": ("altered", 1),
    "prior_drift/plain": ("changed_open", 1),
    "prior_drift/unrelated": ("changed_open", 1),
    "trigger_selectivity/score": ("uncalled", -1),
    "memorisation/copy_rate": ("copies", 1),
    "memorisation/tile_max": ("copies", 1),
    "memorisation/nearness": ("copies", 1),
    "memorisation/magnitude_ratio": ("copies", 1),
    "prompt_control/score": ("control", -1),
    "prompt_control/bleed_class": ("bleed", 1),
    "prompt_control/bleed_unrelated": ("bleed_open", 1),
    "diversity/relative": ("variety", -1),
    "burn/score": ("corrupt", 1),
    "identity/score": ("identity", 1),
    "overcook/score": ("worst", 1),
    "overcook/utility": ("utility", 1),
}
"""Metric -> the part of the truth that it ought to follow, and which way."""

OCCURS: Final[dict[str, float]] = {
    "identity": 0.3,
    "utility": 0.2,
    "bleed_open": 0.2,
    "uncalled": 0.5,
    "altered": 0.1,
    "changed_open": 0.2,
    "unlearned": 0.2,
}
"""What the truth has to reach in a run to have happened there; for symptoms, their limit."""

SATURATED: Final = 2.0  # excess over its limit at which a symptom's harm is full; ranks beyond mean nothing
MIN_RUNGS = 4  # of a run, for ranks to mean something


def areas(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """Estimate every area, with intervals over runs.

    Returns:
        `auroc` of every variant of O and of every metric, which gets the direction of its symptom, else that of
        what it ought to follow, else that of the table; `auroc_clear` of the variants where the truth itself is
        clear, scored by limits placed on all checkpoints; `auroc_witness`, of one half of the witness's pictures
        for the label by the other half, both ways round; `ablation` and `transfer`.
    """
    truth, found = labels(checkpoints), variants(checkpoints)
    # Where the witness's own luck can hardly have decided the label.
    clear = np.array([not CLEAR[0] <= c.truth.worst <= CLEAR[1] for c in checkpoints])
    keys = {key for c in checkpoints for key in c.metrics if scores.family(key) != "overcook"}
    measured = {key: np.array([c.metrics.get(key, math.nan) for c in checkpoints]) for key in sorted(keys)}
    directed = {key: values * _direction(key, values, truth) for key, values in measured.items()}
    worst = np.array([half.worst for c in checkpoints for half in c.halves])
    labelled = np.array([half.overcooked for c in checkpoints for half in reversed(c.halves)])
    witnesses = [c.run for c in checkpoints for _ in c.halves]
    return {
        "auroc": {name: area(values, checkpoints) for name, values in (found | directed).items()},
        "auroc_clear": {n: area(np.where(clear, values, math.nan), checkpoints) for n, values in found.items()},
        "auroc_witness": over_runs(witnesses, auroc, worst, labelled),
        "ablation": ablation(checkpoints, keys),
        "transfer": transfer(checkpoints),
    }


def variants(checkpoints: Sequence[Checkpoint]) -> dict[str, np.ndarray]:
    """Every way of computing O, each (N,); NaN where it cannot be had."""
    identities = [c.identity for c in checkpoints]
    shipped = shipped_scores(checkpoints)
    return {
        SHIPPED: shipped,
        SHIPPED_UNSEEN: np.where([name != scores.CALIBRATED_ON for name in identities], shipped, math.nan),
        BLIND: shipped_scores(checkpoints, scores.blind),
        CALIBRATED: out_of_fold(checkpoints, identities),
        CALIBRATED_BLIND: out_of_fold(checkpoints, identities, scores.blind),
        OTHER_RUNS: out_of_fold(checkpoints, [c.run for c in checkpoints], folds=FOLDS),
    }


def ablation(checkpoints: Sequence[Checkpoint], keys: set[str]) -> dict[str, Any]:
    """What O loses without each symptom, and without all keys that need pictures; paired over runs."""
    identities = [c.identity for c in checkpoints]

    def both(hidden: Collection[str]) -> dict[str, np.ndarray]:
        def view(metrics: Mapping[str, float]) -> dict[str, float]:
            return {key: value for key, value in metrics.items() if key not in hidden}

        found = {
            "shipped": shipped_scores(checkpoints, view),
            "calibrated": out_of_fold(checkpoints, identities, view),
        }
        return {name: np.nan_to_num(values) for name, values in found.items()}  # what cannot be scored counts as 0

    cuts: dict[str, Collection[str]] = {f"without {symptom.name}": [symptom.metric] for symptom in SYMPTOMS}
    forward_only = {key for key in keys if scores.family(key) in FORWARD_FAMILIES or key == MAGNITUDE}
    cuts["forward passes only"] = keys - forward_only
    whole, truth, runs = both(()), labels(checkpoints), [c.run for c in checkpoints]

    def change(way: str, cut: np.ndarray) -> dict[str, Any]:
        return {"auroc": auroc(cut, truth), "change": over_runs(runs, auroc_change, whole[way], cut, truth)}

    return {name: {way: change(way, cut) for way, cut in both(hidden).items()} for name, hidden in cuts.items()}


def transfer(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """Areas on checkpoints of an identity, a seed or a dial that the limits never saw."""
    truth, values = labels(checkpoints), scores.symptom_values([c.metrics for c in checkpoints])
    shipped = shipped_scores(checkpoints)
    found = {}
    for name, is_unseen in _unseen(checkpoints).items():
        test = np.array([is_unseen(c) for c in checkpoints], dtype=bool)
        if test.any() and not test.all():
            both = {"calibrated": scores.noisy_or(values, scores.fit(values[~test], truth[~test])), "shipped": shipped}
            found[name] = {k: area(np.where(test, v, math.nan), checkpoints) for k, v in both.items()}
    return found


def fitted_elsewhere(
    checkpoints: Sequence[Checkpoint], groups: Sequence[str], view: View = dict, *, folds: int | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Place limits that saw nothing of some groups; yields them with the places of these and their symptoms' values.

    The groups are dealt into `folds` parts; None leaves out one group at a time. Nothing comes of one group only.
    """
    values, truth, count = (
        scores.symptom_values([view(c.metrics) for c in checkpoints]),
        labels(checkpoints),
        len(set(groups)),
    )
    if count > 1:
        for train, test in group_folds(groups, folds or count):
            yield scores.fit(values[train], truth[train]), test, values[test]


def out_of_fold(
    checkpoints: Sequence[Checkpoint], groups: Sequence[str], view: View = dict, *, folds: int | None = None
) -> np.ndarray:
    """Score each checkpoint by limits that saw nothing of its group; NaN when there is one group only."""
    scored = np.full(len(checkpoints), math.nan)
    for limits, test, values in fitted_elsewhere(checkpoints, groups, view, folds=folds):
        scored[test] = scores.noisy_or(values, limits)
    return scored


def shipped_scores(checkpoints: Sequence[Checkpoint], view: View = dict) -> np.ndarray:
    """Score each by the limits that lorasweep ships for its base; (N,)."""
    return np.array([scores.rescored(view(c.metrics), c.limits).get(SCORE, math.nan) for c in checkpoints])


def labels(checkpoints: Sequence[Checkpoint]) -> np.ndarray:
    """Which checkpoints are truly overcooked; (N,) bool."""
    return np.array([c.truth.overcooked for c in checkpoints], dtype=bool)


def area(values: np.ndarray, checkpoints: Sequence[Checkpoint]) -> Estimate:
    """Estimate the area over the checkpoints that have a value, with its interval over runs."""
    there = np.flatnonzero(np.isfinite(values))
    return over_runs([checkpoints[int(place)].run for place in there], auroc, values[there], labels(checkpoints)[there])


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


def _having(name: str, value: object) -> Callable[[Checkpoint], bool]:
    return lambda checkpoint: getattr(checkpoint, name) == value


def _unseen(checkpoints: Sequence[Checkpoint]) -> Mapping[str, Callable[[Checkpoint], bool]]:
    """What limits are kept from, by name."""
    identities = sorted({c.identity for c in checkpoints})
    seeds = sorted({c.seed for c in checkpoints})
    return {
        **{f"identity {it}": _having("identity", it) for it in identities},
        **{f"seed {it}": _having("seed", it) for it in seeds},
        SETTLED: lambda c: not c.had_a_say,
        "half of the identities": lambda c: c.identity in identities[::2],
        "confound above 0.5": lambda c: c.dials["confound"] > 0.5,
        "lr above the centre's": lambda c: c.dials["lr"] > 2e-3,
        "fewer than 20 images": lambda c: c.dials["images"] < 20,
        "adapters other than LoRA": lambda c: c.dials["adapter"] != "lora",
    }


def followed(key: str) -> tuple[str, int]:
    """Look up what a metric, or the base's answer in the reader's place, ought to follow; ("", 0) if nothing."""
    return FOLLOWS.get(key.removesuffix(scores.IN_ITS_PLACE), ("", 0))


def follow(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """Correlate each metric with its truth within runs: the median over the runs where that happens.

    Returns:
        By metric: `follows`, and the median with its interval over runs; `n` is the number of such runs. And
        `everywhere`, the rank correlation over all checkpoints of all runs.
    """
    runs = [rungs for rungs in by_run(checkpoints).values() if len(rungs) >= MIN_RUNGS]
    found = {}
    for key in sorted({key for c in checkpoints for key in c.metrics if followed(key)[0]}):
        target, direction = followed(key)
        within = [_correlate(rungs, key, target, direction) for rungs in runs if happens(rungs, target)]
        known = np.array([value for value in within if math.isfinite(value)])
        rows = _known(checkpoints, key, target)
        everywhere = over_runs([c.run for c in rows], spearman, *_both(rows, key, target, direction))
        found[key] = {"follows": target, **over_runs(range(len(known)), np.median, known), "everywhere": everywhere}
    return found


def happens(rungs: Sequence[Checkpoint], target: str) -> bool:
    """Whether a part of the truth reaches, within a run, a height that is worth following.

    Where it was that high from the first rung on there is nothing to follow: ranks of a plateau are noise.
    """
    there = [value for c in rungs if math.isfinite(value := true(c, target))]
    return bool(there) and min(there) < OCCURS.get(target, 1.0) <= max(there)


def true(checkpoint: Checkpoint, target: str) -> float:
    """Look up one part of the truth: a symptom's excess, an extra, or a property of `Truth`."""
    truth = checkpoint.truth
    if target in truth.extra:
        return truth.extra[target]
    value = truth.excess[target] if target in truth.excess else float(getattr(truth, target))
    return min(SATURATED, value)


def _known(checkpoints: Sequence[Checkpoint], key: str, target: str) -> list[Checkpoint]:
    """Choose those of which both the metric and its truth are known."""
    return [c for c in checkpoints if key in c.metrics and math.isfinite(true(c, target))]


def _correlate(rungs: Sequence[Checkpoint], key: str, target: str, direction: int) -> float:
    known = _known(rungs, key, target)
    return math.nan if len(known) < MIN_RUNGS else spearman(*_both(known, key, target, direction))


def _both(known: Sequence[Checkpoint], key: str, target: str, direction: int) -> tuple[np.ndarray, np.ndarray]:
    """The metric, turned so that it ought to rise with the truth, and the truth."""
    return direction * np.array([c.metrics[key] for c in known]), np.array([true(c, target) for c in known])
