"""The score's shape: nothing at nothing, monotone, content with less, and frank about what it left out."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import types

import pytest

from lorasweep.core.errors import ConfigError, Problem
from lorasweep.plan import symptoms
from lorasweep.plan.calibration import Calibration
from lorasweep.plan.symptoms import SYMPTOMS, Limit, Symptom
from lorasweep.trial.judge import score

CALIBRATION = Calibration(name="test", holds_for={}, limits={s.name: Limit(limit=0.4, width=0.08) for s in SYMPTOMS})
CLEAN = {s.metric: (1.0 if s.inverted else 0.0) for s in SYMPTOMS}


def test_a_clean_checkpoint_scores_nothing_and_keeps_its_identity() -> None:
    found = score.summarise(CLEAN | {"identity/score": 0.8}, CALIBRATION)
    assert found.values["overcook/score"] == 0
    assert found.values["overcook/utility"] == 0.8
    assert not found.missing


@pytest.mark.parametrize("symptom", SYMPTOMS, ids=lambda s: s.name)
def test_each_symptom_alone_raises_the_score_all_the_way(symptom: Symptom) -> None:
    scores = []
    for amount in (0.0, 0.2, 0.4, 0.6, 0.8):
        value = 1 - amount if symptom.inverted else amount
        found = score.summarise(CLEAN | {symptom.metric: value}, CALIBRATION).values
        scores.append(found["overcook/score"])
    assert scores == sorted(set(scores)) and scores[0] == 0 and scores[-1] > 0.9 * symptom.severity
    assert scores[2] == pytest.approx(symptom.severity / 2, abs=0.01)


def test_symptoms_add_up_as_a_noisy_or() -> None:
    one = score.summarise(CLEAN | {"burn/score": 0.4}, CALIBRATION).values["overcook/score"]
    two = score.summarise(CLEAN | {"burn/score": 0.4, "generalisation/gap": 0.4}, CALIBRATION).values
    assert two["overcook/score"] == pytest.approx(1 - (1 - one) ** 2)


def test_symptoms_of_one_question_count_once() -> None:
    one = score.summarise(CLEAN | {"generalisation/gap": 0.5}, CALIBRATION).values["overcook/score"]
    two = CLEAN | {"generalisation/gap": 0.5, "generalisation/rise": 0.45}
    assert score.summarise(two, CALIBRATION).values["overcook/score"] == one


def test_what_was_not_measured_is_named_with_its_reason() -> None:
    only = {"burn/score": 10.0, "identity/score": 1.0}
    found = score.summarise(only, CALIBRATION, missing={"diversity": "needs 16 seeds"})
    assert found.values["overcook/score"] > 0.99 and found.values["overcook/burn"] > 0.99
    assert found.missing["overcook/diversity"] == "needs 16 seeds"
    assert "not among the metrics" in found.missing["overcook/gap"]
    nothing = score.summarise({"identity/score": 1.0}, CALIBRATION)
    assert not nothing.values and {"overcook/score", "overcook/utility"} <= set(nothing.missing)


def test_a_symptom_without_a_limit_does_not_count() -> None:
    few = Calibration(
        name="few",
        holds_for={},
        limits={"gap": Limit(limit=0.4, width=0.08)},
        unplaced={"burn": "no control fell apart"},
    )
    found = score.summarise({"burn/score": 9.0, "generalisation/gap": 0.0, "identity/score": 1.0}, few)
    assert found.values["overcook/score"] == 0
    assert found.missing["overcook/burn"] == "no control fell apart"


def test_utility_falls_back_on_what_was_gained_on_held_out_images() -> None:
    better, worse, none = (
        score.summarise(CLEAN | {"generalisation/held_out": value}, CALIBRATION).values["overcook/utility"]
        for value in (0.8, 0.95, 1.1)
    )
    assert 0 == none < worse < better < 1
    missing = score.summarise({"burn/score": 0.0}, CALIBRATION).missing
    assert missing["overcook/utility"] == "neither identity nor a held-out loss was measured"


def test_the_catalogue_imports_without_torch() -> None:
    # `symptoms`, which `score` reads, imports every metric.
    imports = "from lorasweep.plan import symptoms; from lorasweep.trial.judge import context, score, verdict"
    code = f"import sys; {imports}; sys.exit('torch' in sys.modules or not symptoms.SYMPTOMS)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["burn/score", "generalisation/gap"])
def test_a_symptom_that_is_no_number_gives_no_score_rather_than_a_better_one(name: str) -> None:
    metrics = {key: value for key, value in CLEAN.items() if key != name} | {"identity/score": 0.8}
    reason = {name: "was nan at step 100"}
    found = score.summarise(metrics, CALIBRATION, missing=reason, broken={name})
    assert not {score.SCORE, score.UTILITY} & found.values.keys()
    assert found.missing[score.UTILITY] == f"{name} was nan at step 100"


def test_what_fidelity_is_read_from_does_not_change_within_a_trial() -> None:
    rungs = [CLEAN | {"identity/score": 0.6}, CLEAN | {"generalisation/held_out": 0.7}]
    first = score.summarise(rungs[0], CALIBRATION).values
    kind = score.kind_of([first | rungs[0]])
    assert kind == "identity" and first[score.FIDELITY] == 0.6
    told = {"identity/score": "was nan at step 20"}
    second = score.summarise(rungs[1], CALIBRATION, missing=told, broken={"identity/score"}, kind=kind)
    assert score.SCORE in second.values and score.UTILITY not in second.values
    assert "identity/score" in second.missing[score.UTILITY] and "nan" in second.missing[score.UTILITY]


def test_a_stand_in_stays_one_when_the_identity_turns_up_later() -> None:
    early = CLEAN | {"generalisation/held_out": 0.7}
    kind = score.kind_of([early | score.summarise(early, CALIBRATION).values])
    late = score.summarise(early | {"identity/score": 1.0}, CALIBRATION, kind=kind).values
    assert kind == "held_out" and late[score.UTILITY] < 1
    assert late[score.FIDELITY] == score.summarise(early, CALIBRATION).values[score.FIDELITY]


def test_a_score_without_a_symptom_is_the_score_had_it_not_been_measured() -> None:
    metrics = CLEAN | {"burn/score": 0.9, "generalisation/gap": 0.3, "identity/score": 0.8}
    whole = metrics | score.summarise(metrics, CALIBRATION).values
    less = {key: value for key, value in metrics.items() if key != "burn/score"}
    wanted = score.summarise(less, CALIBRATION).values
    found = score.without(whole, {"burn"})
    assert (found[score.SCORE], found[score.UTILITY]) == (wanted[score.SCORE], wanted[score.UTILITY])
    assert whole[score.SCORE] > found[score.SCORE] > 0
    # Of a trial from before 2026-11-29, which did not note what its utility is made of.
    old = score.without({key: value for key, value in whole.items() if key != score.FIDELITY}, {"burn"})
    assert old[score.UTILITY] == pytest.approx(wanted[score.UTILITY]) and score.FIDELITY not in old
    assert score.without(whole, ()) == whole
    assert score.SCORE not in score.without(whole, {symptom.name for symptom in SYMPTOMS})


def test_a_plugins_symptoms_count_and_one_that_cannot_be_imported_costs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = dataclasses.replace(SYMPTOMS[0], name="mine", rank=-1)

    def load(group: str, name: str) -> types.SimpleNamespace:
        if name == "broken":
            raise ConfigError(Problem("metrics=broken", "cannot be imported"))
        return types.SimpleNamespace(SYMPTOMS=(mine,) if name == "mine" else SYMPTOMS)

    monkeypatch.setattr(symptoms.registry, "names", lambda group: ["broken", "burn", "mine"])
    monkeypatch.setattr(symptoms.registry, "load", load)
    assert symptoms._declared() == (mine, *SYMPTOMS)
