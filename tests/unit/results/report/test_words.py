"""The verdict in sentences: what is best, how sure that is, what went wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from sweep_folders import Cooked, write_sweep

from lorasweep.core import files
from lorasweep.results.report import words
from lorasweep.results.report.reading import read_findings


def verdict(folder: Path, trials: list[Cooked]) -> str:
    return " ".join(words.verdict(read_findings(write_sweep(folder / "mine", trials))))


def seeds(arm: str, *identities: float, overcook: float = 0.0) -> list[Cooked]:
    return [
        Cooked(arm=arm, seed=seed, identity=value, overcook=overcook, pictures=False)
        for seed, value in enumerate(identities)
    ]


def test_one_seed_proves_nothing(tmp_path: Path) -> None:
    said = verdict(tmp_path, [*seeds("a", 0.6), *seeds("b", 0.5)])

    assert "“a” comes out best of 2 (utility 0.60)" in said
    assert "One seed each, so there is no telling what is noise. Repeat the best:" in said
    assert "lorasweep sweep mine --until-decided" in said


def test_seeds_that_agree_decide(tmp_path: Path) -> None:
    said = verdict(tmp_path, [*seeds("a", 0.60, 0.61, 0.60), *seeds("b", 0.30, 0.31, 0.30)])

    assert "a is better than every other arm by more than the noise between seeds." in said


def test_seeds_that_do_not_agree_are_a_tie(tmp_path: Path) -> None:
    said = verdict(tmp_path, [*seeds("a", 0.60, 0.40, 0.50), *seeds("b", 0.40, 0.60, 0.45)])

    assert "a cannot be told apart from b: b is behind by" in said


def test_failures_and_what_is_left_are_said(tmp_path: Path) -> None:
    said = verdict(
        tmp_path,
        [*seeds("a", 0.5), Cooked(arm="b", status="CRASHED", rungs=()), Cooked(arm="c", status="WAITING")],
    )

    assert "1 trial failed (“b”); the reasons are below." in said
    assert "Not over: 2 of 3 trials have ended; the same command continues it." in said


def test_no_answer_is_said_as_such(tmp_path: Path) -> None:
    assert verdict(tmp_path, [Cooked(arm="a", status="WAITING")]) == (
        "No answer yet: no trial has a value (1 waiting)."
    )


def test_arms_that_burned_or_were_stopped_in_time_are_told_apart(tmp_path: Path) -> None:
    fine = Cooked(arm="fine", identity=0.8, pictures=False)
    late = Cooked(arm="late", pictures=False, verdict={"burned_at": 240, "blame": {"says": "it is fried"}})
    never = Cooked(arm="never", overcook=0.9, pictures=False)

    said = verdict(tmp_path, [fine, late, never])

    assert "Stopped in time, but burning by the end: “late” (it is fried)." in said
    assert "Overcooked, as kept: “never”." in said


def test_symptoms_are_those_that_count_the_gravest_first(tmp_path: Path) -> None:
    findings = read_findings(write_sweep(tmp_path / "m", [Cooked(arm="a", overcook=0.8, pictures=False)]))
    judged = findings.trials[0].judged
    assert judged is not None

    [burn] = words.symptoms(judged)

    assert (burn.says, burn.metric) == ("pictures fall apart", "burn/score")
    assert (burn.value, burn.grade) == (pytest.approx(1.6), pytest.approx(0.8))


def test_costs_are_said_where_they_are_known(tmp_path: Path) -> None:
    folder = write_sweep(
        tmp_path / "m", [Cooked(arm="a", pictures=False), Cooked(arm="b", status="PRUNED", rungs=(80,))]
    )
    assert words.costs(read_findings(folder)) == ["1 of 2 trials were stopped at a rung, which saved 240 steps."]
    files.write_json(folder / "timing.json", {"real_s": 125.0, "estimated_s": 100.0})

    said = " ".join(words.costs(read_findings(folder)))

    assert "It took 2 min 05 s by the clock; the plan had said 1 min 40 s." in said


def test_trials_judged_by_other_limits_do_not_compare(tmp_path: Path) -> None:
    trials = [Cooked(arm=name, pictures=False, verdict={"calibration": name}) for name in ("a", "b")]

    assert "2 calibrations: their scores do not compare" in verdict(tmp_path, trials)


def test_trials_of_several_gpus_differ_in_their_last_digits(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "mine", [Cooked(arm=name, pictures=False) for name in ("A100", "L4")])
    for run in folder.glob("0*"):
        files.write_json(run / "status.json", {**files.read_json(run / "status.json"), "device": run.name[5:-3]})

    said = " ".join(words.verdict(read_findings(folder)))
    assert "Trials were trained on A100 and L4: weights differ in their last digits" in said


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")]
)
def test_durations(seconds: float, said: str) -> None:
    assert words.duration(seconds) == said


def test_long_lists_are_cut() -> None:
    assert words.listed(["a"]) == "“a”"
    assert words.listed(["a", "b", "c"]) == "“a”, “b” and “c”"
    assert words.listed(list("abcdef")) == "“a”, “b”, “c”, “d” and 2 more"
