"""The score's shape: nothing at nothing, monotone, content with less; and verdicts in words."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from lorasweep.metrics import score
from lorasweep.metrics.symptoms import SYMPTOMS, Symptom

CLEAN = {s.metric: (1.0 if s.inverted else 0.0) for s in SYMPTOMS}


def judged(step: int, identity: float, **metrics: float) -> dict[str, Any]:
    named = CLEAN | {"identity/score": identity} | {k.replace("__", "/"): v for k, v in metrics.items()}
    summary = score.summarise(named).values
    return {"step": step, "exposures_per_image": step / 6, "metrics": named | summary}


def test_a_clean_checkpoint_scores_nothing_and_keeps_its_identity() -> None:
    found = score.summarise(CLEAN | {"identity/score": 0.8}).values
    assert found["overcook/score"] == 0
    assert found["overcook/utility"] == 0.8


@pytest.mark.parametrize("symptom", SYMPTOMS, ids=lambda s: s.name)
def test_each_symptom_alone_raises_the_score_all_the_way(symptom: Symptom) -> None:
    scores = []
    for share in (0.0, 0.5, 1.0, 1.5, 2.0):
        amount = share * symptom.limit
        value = 1 - amount if symptom.inverted else amount
        scores.append(score.summarise(CLEAN | {symptom.metric: value}).values["overcook/score"])
    assert scores == sorted(set(scores)) and scores[0] == 0 and scores[-1] > 0.9 * symptom.severity
    at_limit = score.summarise(
        CLEAN | {symptom.metric: 1 - symptom.limit if symptom.inverted else symptom.limit}
    ).values["overcook/score"]
    assert at_limit == pytest.approx(symptom.severity / 2, abs=0.03)


def test_the_score_survives_missing_symptoms() -> None:
    only = score.summarise({"burn/score": 10.0, "identity/score": 1.0}).values
    assert only["overcook/score"] > 0.99 and only["overcook/burn"] > 0.99
    nothing = score.summarise({"identity/score": 1.0})
    assert not nothing.values and set(nothing.missing) == {"overcook/score", "overcook/utility"}


def test_utility_falls_back_on_what_was_gained_on_held_out_images() -> None:
    better, worse, none = (
        score.summarise(CLEAN | {"generalisation/held_out": value}).values["overcook/utility"]
        for value in (0.8, 0.95, 1.1)
    )
    assert 0 == none < worse < better < 1
    assert "overcook/utility" in score.summarise({"burn/score": 0.0}).missing


def test_verdict_finds_the_best_safe_rung_and_the_first_burned_one_after_it() -> None:
    rungs = [
        judged(100, 0.2),
        judged(200, 0.8),
        judged(300, 0.9, prompt_control__bleed_class=0.12),
        judged(400, 0.9, prompt_control__bleed_class=0.42),
    ]
    found = score.verdict(rungs)
    assert (found["state"], found["done_at"], found["burned_at"]) == ("overcooked", 200, 400)
    assert found["sentence"].startswith("Done at step 200 (33 exposures per image); from 400 ")
    assert found["sentence"].endswith("(0.42, limit 0.20).")


def test_symptoms_that_only_together_pass_the_limit_are_not_blamed_alone() -> None:
    mild = {"prior_drift__class": 0.6, "prior_drift__unrelated": 0.75, "generalisation__gap": 0.5}
    found = score.verdict([judged(100, 0.8), judged(200, 0.9, **mild)])
    assert found["burned_at"] == 200
    assert "from 200 symptoms add up, above all strangers are redrawn (0.60, limit 0.70)" in found["sentence"]


def test_verdicts_without_a_window() -> None:
    under = score.verdict([judged(100, 0.1), judged(200, 0.3)])
    assert under["state"] == "undercooked" and not {"done_at", "burned_at"} & under.keys()
    never = score.verdict([judged(100, 0.2, burn__score=5.0), judged(200, 0.9, burn__score=9.0)])
    assert (never["state"], never["burned_at"]) == ("overcooked", 100) and "done_at" not in never
    assert never["sentence"].startswith("Never done")
    fine = score.verdict([judged(100, 0.9), judged(200, 0.9)])
    assert (fine["state"], fine["done_at"]) == ("done", 100)
    unknown = score.verdict([{"step": 1, "exposures_per_image": 1.0, "metrics": {}}])
    assert unknown["state"] == "unknown"


def test_the_catalogue_imports_without_torch() -> None:
    names = "burn generalisation identity prior_drift prompt_control trigger_selectivity context score"
    imports = "; ".join(f"import lorasweep.metrics.{name}" for name in names.split())
    code = f"import sys; {imports}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
