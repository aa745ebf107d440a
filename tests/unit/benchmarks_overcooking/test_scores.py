from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.overcooking import scores
from benchmarks.overcooking.statistics import auroc
from lorasweep.plan import calibration
from lorasweep.plan.symptoms import SYMPTOMS
from lorasweep.trial.judge import score


def values(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Two symptoms that tell, one that is noise, the rest not measured; overcooked where either tells."""
    found = np.full((count, len(SYMPTOMS)), np.nan)
    found[:, 0], found[:, 1], found[:, 2] = rng.uniform(0, 2, (3, count))
    return found, (found[:, 0] > 1.2) | (found[:, 1] > 1.0)


def test_the_score_is_the_products_own() -> None:
    rng = np.random.default_rng(0)
    metrics = [{s.metric: float(rng.uniform(-0.2, 2)) for s in SYMPTOMS if rng.random() < 0.7} for _ in range(40)]
    found, truth = scores.symptom_values(metrics), rng.random(40) < 0.5
    placed = scores.fit(found, truth)
    made = scores.calibration(placed)
    by_product = [score.summarise(row, made).values.get(score.SCORE, 0.0) for row in metrics]
    assert max(by_product) > 0.2
    assert scores.noisy_or(found, placed) == pytest.approx(np.array(by_product), abs=1e-9)


def test_limits_are_found_where_they_are_and_noise_is_silenced() -> None:
    found, truth = values(np.random.default_rng(1), 400)
    placed = scores.fit(found, truth)
    assert placed[0] == pytest.approx(1.2, rel=0.15)
    assert placed[1] == pytest.approx(1.0, rel=0.15)
    assert placed[2] > 2.0  # beyond anything that was seen
    assert (placed[3:] == scores.DEFINITE_M[3:]).all()
    unseen, answer = values(np.random.default_rng(2), 400)
    assert auroc(scores.noisy_or(unseen, placed), answer) > 0.98


def test_a_symptom_that_was_not_measured_counts_as_none() -> None:
    found, truth = values(np.random.default_rng(3), 100)
    placed = scores.fit(found, truth)
    blind = found.copy()
    blind[:, 0] = np.nan
    assert (scores.noisy_or(blind, placed) <= scores.noisy_or(found, placed) + 1e-12).all()


def test_without_both_labels_only_definite_limits_are_there() -> None:
    found, _ = values(np.random.default_rng(4), 50)
    placed = scores.fit(found, np.zeros(50, dtype=bool))
    assert (placed == scores.DEFINITE_M).all() and not np.isfinite(placed).all()
    own = {symptom.name for symptom in SYMPTOMS if symptom.definite}
    assert scores.calibration(placed).limits.keys() == own


def test_the_limits_are_a_file_that_the_product_reads(tmp_path: Path) -> None:
    found, truth = values(np.random.default_rng(5), 100)
    made = scores.calibration(scores.fit(found, truth))
    made.write(tmp_path / "dollhouse.json")
    back = calibration.read(tmp_path / "dollhouse.json")
    assert back == made
    own = {symptom.name for symptom in SYMPTOMS if symptom.definite}
    assert set(back.limits) == {symptom.name for symptom in SYMPTOMS[:3]} | own
