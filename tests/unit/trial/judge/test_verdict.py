"""Where a recipe was done and where it burned, on curves made by hand; and what people are told."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from lorasweep.core.records import Measurement
from lorasweep.plan.calibration import Calibration
from lorasweep.plan.symptoms import Limit
from lorasweep.trial.judge import replicates, score, summary, verdict
from lorasweep.trial.judge.ladder import BestWeight, best_weight

CALIBRATION = Calibration(
    name="test",
    holds_for={},
    limits={
        "memorisation": Limit(limit=0.09, width=0.02),
        "gap": Limit(limit=0.5, width=0.1),
        "class_drift": Limit(limit=0.5, width=0.1),
    },
    learned=0.4,
)
HEALTHY = {"memorisation/copy_rate": 0.0, "generalisation/gap": 0.0, "prior_drift/class": 0.0}
WAVE = (0.02, -0.02, 0.01, -0.01)  # how the four replicates of a judgement differ from each other


def judged(step: int, identity: float, *, noise: Sequence[float] = (), **metrics: float) -> dict[str, Any]:
    """One rung, six steps an exposure; `noise` is added to U in the replicates."""
    named = HEALTHY | {"identity/score": identity}
    named |= {key.replace("__", "/"): value for key, value in metrics.items()}
    values = named | score.summarise(named, CALIBRATION).values
    replicates = [{k: v + one if k == score.UTILITY else v for k, v in values.items()} for one in noise]
    return {"step": step, "exposures_per_image": step / 24, "metrics": values, "replicates": replicates}


def of(rungs: list[dict[str, Any]]) -> verdict.Verdict:
    return verdict.of_rungs(rungs, CALIBRATION)


def test_a_recipe_that_cooks_is_done_and_burns() -> None:
    rungs = [
        judged(100, 0.2),
        judged(400, 0.8),
        judged(600, 0.9, memorisation__copy_rate=0.06),
        judged(700, 0.9, memorisation__copy_rate=0.31),
        judged(800, 0.9, memorisation__copy_rate=0.4),
    ]
    found = of(rungs)
    assert (found.done_at, found.burned_at) == (400, 700)
    assert found.learned_from == 400 and found.safe_window == pytest.approx(300 / 24)
    said = summary.sentence(found, CALIBRATION, best=BestWeight(weight=0.7, low=0.6, high=0.8, utility=0.8), kept=400)
    assert said == (
        "Done at step 400 (17 exposures per image); from step 700 on it copies its training images "
        "(M 0.31, limit 0.09); use it at 0.6 to 0.8."
    )


def test_a_lucky_rung_on_the_brink_is_no_place_to_stop() -> None:
    gone = {"memorisation__copy_rate": 0.4}
    rungs = [judged(100, 0.7), judged(200, 0.72), judged(300, 0.75), judged(400, 0.9, **gone)]
    assert of(rungs[:3]).done_at == 300  # (0.72 + 2 x 0.75 + 0.75) / 4 is the most
    found = of(rungs)
    assert found.done_at == 200, "(0.72 + 2 x 0.75 + 0) / 4 is less than (0.7 + 2 x 0.72 + 0.75) / 4"
    peaked = of([judged(100 * k, u) for k, u in enumerate((0.5, 0.9, 0.5, 0.65, 0.65), 1)])
    assert peaked.done_at == 200, "a rung counts twice what each of its neighbours does"


def test_of_learned_and_safe_rungs_the_one_with_the_lowest_held_out_loss_is_done() -> None:
    losses = (0.9, 0.81, 0.8, 0.7)
    rungs = [judged(100 * k, 0.8 + k / 100, generalisation__held_out=loss) for k, loss in enumerate(losses, 1)]
    rungs[3] = judged(400, 0.9, generalisation__held_out=0.7, memorisation__copy_rate=0.4)
    found = of(rungs)
    assert found.done_at == found.best_at == 300, "400 has the lowest loss, and is overcooked"
    lucky = [judged(100, 0.5, generalisation__held_out=0.8), judged(200, 0.9, generalisation__held_out=0.81)]
    assert of(lucky).done_at == 100, "utility has no vote"
    assert of([judged(100 * k, 0.8) for k in (1, 2, 3)]).done_at == 100, "of equals the earliest"
    assert of([judged(100, 0.9), *rungs[1:3]]).done_at == 100, "where one does not know its loss, utility decides"


def test_where_nothing_is_done_the_nearest_is_named() -> None:
    raw = [judged(100 * k, 0.1, generalisation__held_out=loss) for k, loss in enumerate((0.95, 0.92), 1)]
    assert (of(raw).done_at, of(raw).best_at) == (None, 200), "safe, not learned"
    burned = [judged(300, 0.9, generalisation__held_out=0.8, memorisation__copy_rate=0.4)]
    assert of([*raw, *burned]).best_at == 200, "what is safe goes before what is not"
    assert (of(burned).done_at, of(burned).best_at) == (None, 300)


def test_rungs_that_the_error_cannot_tell_from_the_done_one_are_named() -> None:
    flipped = tuple(-x for x in WAVE)
    rungs = [
        judged(100, 0.78, noise=flipped),
        judged(200, 0.60, noise=WAVE),
        judged(300, 0.79, noise=flipped),
        judged(400, 0.80, noise=WAVE),
        judged(500, 0.79, noise=WAVE),
    ]
    found = of(rungs)
    # 500 is as hard as 400, picture for picture: its hundredth less is certain. 200 parts 100 from them.
    assert found.done_at == 400 and found.as_good == (300, 400)
    assert summary.sentence(found, CALIBRATION).startswith(
        "Done at step 400 (17 exposures per image; 300 to 400 are as good within the error)"
    )
    told = summary.document(found, CALIBRATION, Measurement(values=rungs[3]["metrics"]), kept=400, best=None)
    assert told["as_good"] == [300, 400]
    rungs.append(judged(600, 0.79, noise=flipped))
    assert of(rungs).as_good == (300, 400), "beyond one that is certainly less nothing is named"
    assert of([judged(100, 0.8), judged(200, 0.8)]).as_good == (), "without replicates nothing is known"


def test_a_held_out_loss_is_as_good_by_its_own_error() -> None:
    def rung(step: int, loss: float, noise: Sequence[float]) -> dict[str, Any]:
        found = judged(step, 0.8, generalisation__held_out=loss)
        return {**found, "replicates": [{**found["metrics"], score.HELD_OUT: loss + one} for one in noise]}

    flipped = tuple(-x for x in WAVE)
    rungs = [rung(100, 0.9, flipped), rung(200, 0.81, flipped), rung(300, 0.8, WAVE), rung(400, 0.81, WAVE)]
    found = of(rungs)
    assert (found.done_at, found.as_good) == (300, (200, 300))


def test_a_spike_of_the_score_is_not_burning() -> None:
    found = of([judged(100, 0.8), judged(200, 0.8, generalisation__gap=2.0), judged(300, 0.8)])
    assert found.done_at == 100 and found.burned_at is None
    assert found.safe_window is None and found.open_window == pytest.approx(200 / 24)


def test_verdicts_without_a_window() -> None:
    under = of([judged(100, 0.1), judged(200, 0.3)])
    assert under.done_at is None and under.burned_at is None
    assert summary.sentence(under, CALIBRATION).startswith("Undercooked: by step 200 ")
    never = of([judged(100, 0.2, prior_drift__class=5.0), judged(200, 0.9, prior_drift__class=9.0)])
    assert (never.done_at, never.burned_at) == (None, 100)
    assert summary.sentence(never, CALIBRATION).startswith("Never done: from step 100 on strangers are redrawn (P 5.00")
    unknown = verdict.of_rungs([{"step": 1, "exposures_per_image": 1.0, "metrics": {}}], CALIBRATION)
    assert "Could not be judged" in summary.sentence(unknown, CALIBRATION)


def test_without_identity_and_loss_only_burning_is_told() -> None:
    def scored(step: int, score_: float) -> dict[str, Any]:
        metrics = {score.SCORE: score_, "prior_drift/class": 10 * score_}
        return {"step": step, "exposures_per_image": 0.0, "metrics": metrics}

    fine, hot = [scored(100, 0.0), scored(200, 0.1)], [scored(100, 0.1), scored(200, 0.7)]
    assert summary.sentence(of(fine), CALIBRATION) == (
        "Not overcooked by step 200; whether the subject is there was not measured."
    )
    assert summary.sentence(of(hot), CALIBRATION).startswith(
        "Overcooked: from step 200 on strangers are redrawn (P 7.00, limit"
    )
    assert [verdict.state_of(rung["metrics"], CALIBRATION) for rung in hot] == ["unknown", "overcooked"]


def test_a_score_at_the_limit_is_not_over_it() -> None:
    rungs = [judged(100 * k, 0.8) for k in (1, 2, 3)]
    for rung in rungs:
        rung["metrics"] |= {score.SCORE: 0.5, score.UTILITY: 0.4}
    found = of(rungs)
    assert (found.done_at, found.burned_at, verdict.state_of(rungs[0]["metrics"], CALIBRATION)) == (100, None, "done")


def test_symptoms_that_only_together_pass_the_limit_are_not_blamed_alone() -> None:
    found = of([judged(100, 0.8), judged(200, 0.9, prior_drift__class=0.48, generalisation__gap=0.46)])
    assert found.burned_at == 200 and found.blame is not None and not found.blame.alone
    said = summary.sentence(found, CALIBRATION)
    assert "from step 200 on symptoms add up, above all strangers are redrawn (P 0.48, limit 0.50)" in said


def test_the_gravest_symptom_is_blamed_and_of_equals_the_one_that_anyone_sees() -> None:
    found = of([judged(100, 0.8), judged(200, 0.9, memorisation__copy_rate=0.2, prior_drift__class=9.0)])
    assert found.blame is not None and found.blame.symptom == "memorisation"
    known = dataclasses.replace(CALIBRATION, limits=CALIBRATION.limits | {"bleed_plain": Limit(limit=0.1, width=0.02)})
    blemished = HEALTHY | {"generalisation/gap": 0.5, "prompt_control/bleed_plain": 0.9}
    assert verdict.main_symptom(blemished, known).symptom == "gap", "a blemish weighs a quarter"


def test_a_warning_waits_until_it_is_sure() -> None:
    fine, slightly = judged(100, 0.8), judged(200, 0.8, generalisation__gap=0.52)
    doubt = [dict(slightly["metrics"]) | {score.SCORE: slightly["metrics"][score.SCORE] + x} for x in WAVE * 1]
    slightly = slightly | {"replicates": [d | {score.SCORE: d[score.SCORE] * 3 * n} for n, d in enumerate(doubt)]}
    assert of([fine, slightly]).burned_at == 200
    assert not verdict.is_sure([fine, slightly], of([fine, slightly]))
    twice = [fine, slightly, judged(300, 0.8, generalisation__gap=0.6)]
    assert verdict.is_sure(twice, of(twice))
    plainly = judged(200, 0.8, noise=WAVE, generalisation__gap=2.0)
    assert verdict.is_sure([fine, plainly], of([fine, plainly]))
    assert summary.burning(of([fine, plainly])).startswith("burned from step 200 (8 exposures per image): it fits")


def test_the_numbers_and_the_reasons_for_those_that_are_absent() -> None:
    rungs = [judged(100, 0.8), judged(200, 0.9, generalisation__gap=2.0)]
    found = of(rungs)
    told = summary.numbers(found, rungs, kept=100, best=None, why_no_weight="it was pruned")
    assert told.values["overcook/done_at_step"] == 100 and told.values["overcook/burned_at_step"] == 200
    assert told.values["overcook/safe_window_exposures"] == pytest.approx(100 / 24)
    assert told.values["overcook/utility_last"] == rungs[-1]["metrics"][score.UTILITY]
    assert told.missing == {"overcook/best_weight": "it was pruned"}
    fine = summary.numbers(of(rungs[:1]), rungs[:1], kept=100, best=None)
    assert "at least 0.0" in fine.missing["overcook/safe_window_exposures"]
    assert "not overcooked by step 100" in fine.missing["overcook/burned_at_step"]


def test_a_kept_checkpoint_that_is_no_longer_done_on_a_closer_look_is_said_to_be() -> None:
    rungs = [judged(100, 0.8), judged(200, 0.85)]
    closer = judged(100, 0.8, memorisation__copy_rate=0.3)["metrics"]
    final = Measurement(values=closer, missing={"overcook/burn": "no pictures"})
    told = summary.document(of(rungs[:1]), CALIBRATION, final, kept=100, best=None)
    assert told["state"] == "overcooked" and told["kept_because"] == "done"
    assert told["sentence"].endswith(
        "; but judged on every picture, it copies its training images (M 0.30, limit 0.09)."
    )
    assert told["unmeasured"] == {"burn": "no pictures"}
    faint = Measurement(values=judged(100, 0.05)["metrics"])
    told = summary.document(of(rungs[:1]), CALIBRATION, faint, kept=100, best=None)
    assert (told["state"], told["kept_because"]) == ("undercooked", "done")
    assert told["sentence"].endswith("; but judged on every picture, the subject is not learned yet.")
    last = summary.document(of(rungs), CALIBRATION, Measurement(values=closer), kept=100, best=None)
    assert last["kept_because"] == "last" and last["sentence"].endswith("kept as declared, at step 100.")


@pytest.mark.parametrize(
    ("utilities", "expected"),
    [
        # a peak at 0.7: from there nine tenths reach to 0.4 + 0.3 x 0.12 / 0.2 below, and to 1 above
        ({0.4: 0.6, 0.7: 0.8, 1.0: 0.76}, (0.7, 0.6, 1.0)),
        ({0.4: 0.6, 0.7: 0.8, 1.0: 0.4}, (0.7, 0.6, 0.75)),
        ({0.4: 0.8, 0.7: 0.4, 1.0: 0.1}, (0.4, 0.4, 0.45)),
        ({0.4: 0.1, 0.7: 0.5, 1.0: 0.9}, (1.0, 0.95, 1.0)),
        ({0.4: 0.9, 0.7: 1.0, 1.0: 0.9}, (0.7, 0.4, 1.0)),  # drawn weights that just reach nine tenths are in
        ({0.7: 0.8, 1.0: 0.8}, (0.7, 0.65, 1.0)),  # two weights do, and of equals the lesser is used
    ],
)
def test_the_ladder_gives_the_weight_to_use(
    utilities: dict[float, float], expected: tuple[float, float, float]
) -> None:
    ladder = [{"weight": w, "metrics": {"overcook/utility": u}} for w, u in utilities.items()]
    found = best_weight(ladder)
    assert found is not None and (found.weight, found.low, found.high) == expected


def test_a_ladder_that_says_nothing() -> None:
    assert best_weight([{"weight": 0.7, "metrics": {"overcook/utility": 0.8}}]) is None
    assert best_weight([{"weight": w, "metrics": {"overcook/utility": 0.0}} for w in (0.4, 0.7)]) is None
    assert best_weight([{"weight": w, "metrics": {}} for w in (0.4, 0.7)]) is None


def test_one_checkpoint_whose_error_reaches_the_limit_is_not_flatly_burned() -> None:
    def burned(step: int, *, wave: float) -> dict[str, Any]:
        rung = judged(step, 0.9, memorisation__copy_rate=0.095)
        rung["replicates"] = [
            {**rung["metrics"], score.SCORE: rung["metrics"][score.SCORE] + wave * k} for k in (-1, 1)
        ]
        return rung

    def told(*rungs: dict[str, Any]) -> dict[str, Any]:
        final = Measurement(values=rungs[-1]["metrics"], missing={})
        return summary.document(of([*rungs]), CALIBRATION, final, kept=100, best=None)

    fine = judged(100, 0.8)
    unsure = told(fine, burned(200, wave=0.3))
    assert unsure["burned_at"] == 200 and unsure["burned_doubt"] in unsure["sentence"]
    assert "(M 0.10, limit 0.09), though the limit is within the error" in unsure["sentence"]
    for sure in (told(fine, burned(200, wave=0.01)), told(fine, burned(200, wave=0.3), burned(300, wave=0.3))):
        assert sure["burned_at"] == 200 and "burned_doubt" not in sure and "within" not in sure["sentence"]
    assert "burned_doubt" not in told(fine, judged(200, 0.9, memorisation__copy_rate=0.095)), "no error is known"


def test_rungs_without_a_limit_are_scored_by_limits_that_come_later_and_go_again() -> None:
    def rung(calibration: Calibration) -> dict[str, Any]:
        found = score.summarise(HEALTHY, calibration)
        part = HEALTHY | found.values
        values = replicates.with_errors(part, [part] * 4)
        return {"step": 8, "metrics": values, "missing": found.missing, "replicates": [part] * 4}

    nothing = dataclasses.replace(CALIBRATION, limits={})
    assert score.SCORE not in rung(nothing)["metrics"]
    assert verdict.rescored([rung(nothing)], CALIBRATION) == [rung(CALIBRATION)]
    assert verdict.rescored([rung(CALIBRATION)], nothing) == [rung(nothing)]
    spoiled = rung(nothing) | {"missing": {score.SCORE: "generalisation/gap was not a number"}}
    assert verdict.rescored([spoiled], CALIBRATION) == [spoiled]
