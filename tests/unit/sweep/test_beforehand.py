"""What a sweep cannot answer is said by `plan`, through the command line, before anything is trained."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lorasweep.cli import main
from lorasweep.config import load_sweep

SWEEP = """sweep:
  question: which?
  metric: {metric}
  recipe: {{train.max_steps: 40, metrics: [norms, generalisation, identity], dataset.dollhouse.images: 8}}
  arms: {{a: {{adapter.dim: 4}}, b: {{adapter.dim: 8}}}}
{more}"""
UTILITY = "{name: overcook/utility}"
ALONE = ["dataset.dollhouse.images=1", "metrics.identity.encoder=base"]  # one image, and no reader that knows it
RELATIVE = "{name: norms/relative, goal: minimize}"


def plan(folder: Path, metric: str, more: str, *words: str) -> int:
    file = folder / "asked.yaml"
    file.write_text(SWEEP.format(metric=metric, more=more))
    return main(["plan", str(file), "--json", *words])


@pytest.mark.parametrize(
    ("metric", "more", "words", "said"),
    [
        ("{name: norms/realtive, goal: minimize}", "", [], ["sweep.metric.name", "`norms/relative`?"]),
        (
            "{name: luck/score}",
            "",
            [],
            ["no metric gives luck/score", "families: overcook, norms"],
        ),
        ("{name: utility}", "", [], ["no metric gives utility"]),
        ("{name: train/loss, goal: minimize}", "", [], ["logged while training"]),
        ("{name: identity/score_clip}", "", [], ["no metric gives identity/score_clip"]),
        ("{name: generalisation/gap_w1, goal: minimize}", "", [], ["no metric gives generalisation/gap_w1"]),
        ("{name: norms/intruders, goal: minimize}", "", ["metrics.norms.decompose=0"], ["decompose is 0"]),
        (UTILITY, "", ["metrics=[norms]"], ["overcook/utility cannot be measured"]),
        (UTILITY, "", ["metrics=[]"], ["overcook/utility cannot be measured"]),
        (UTILITY, "", ["metrics=[burn]"], ["neither identity/score nor generalisation/held_out"]),
        (UTILITY, "", [*ALONE, "metrics=[burn,identity]"], ["neither identity/score nor generalisation/held_out"]),
        ("{name: identity/score}", "", ALONE, ["needs two training images"]),
        (
            "{name: prompt_control/bleed_unrelated, goal: minimize}",
            "",
            [*ALONE[:1], "metrics=[prompt_control]", "metrics.prompt_control.encoder=base"],
            ["needs two training images"],
        ),
        (
            "{name: identity/score}",
            "",
            [ALONE[1], "metrics.identity.tiers=[class]", "dataset.prompts={class:[1girl]}", "sample.seeds=[0]"],
            ["needs two pictures"],
        ),
        (
            "{name: generalisation/gap, goal: minimize}",
            "",
            ["dataset.holdout=0"],
            ["generalisation/gap cannot be measured", "no held-out images"],
        ),
        (f"[{UTILITY}, {{name: norms/nothing, goal: minimize}}]", "", [], ["no metric gives norms/nothing"]),
        (UTILITY, '  constraints: {norms/nonsense: "<= 0.3"}\n', [], ["sweep.constraints.norms/nonsense"]),
        ("{name: overcook/score}", "", [], ["sweep.metric.goal", "goal: minimize"]),
        ("{name: identity/score, goal: minimize}", "", [], ["sweep.metric.goal", "goal: maximize"]),
        (UTILITY, "  pruner: {name: median, startup: 1}\n", ["train.rungs=1"], ["there is only the last"]),
        (UTILITY, "  pruner: {name: median, startup: 2}\n", [], ["before 2 trials have ended"]),
        (UTILITY, "  pruner: {name: patient, startup: 1, patience: 2}\n", [], ["train.rungs=5"]),
        (
            UTILITY,
            "  pruner: {name: hyperband, min_exposures: 999}\n",
            [],
            ["sweep.pruner.min_exposures", "must be at most"],
        ),
        (UTILITY, "  pruner: {name: hyperband, exempt: 1.0}\n", [], ["every trial is exempt"]),
        (
            UTILITY,
            "  pruner: {name: hyperband, metric: overcook/done_at_step, goal: minimize}\n",
            [],
            ["known in the end only"],
        ),
    ],
)
def test_plan_refuses_what_cannot_be_answered(
    tmp_path: Path,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    metric: str,
    more: str,
    words: list[str],
    said: list[str],
) -> None:
    assert plan(tmp_path, metric, more, *words) == 2
    err = capsys.readouterr().err
    assert all(text in err for text in said), err


@pytest.mark.parametrize(
    ("metric", "more"),
    [
        (UTILITY, ""),
        (RELATIVE, ""),
        ("{name: overcook/burned_at_exposures}", ""),
        ("{name: generalisation/gap_t875, goal: minimize}", ""),
        ("{name: overcook/utility_se, goal: minimize}", ""),
        (UTILITY, "  pruner: {name: successive_halving, min_exposures: 2}\n"),
        (UTILITY, '  constraints: {norms/relative: "<= 0.3", overcook/score: "<= 0.5"}\n'),
    ],
)
def test_what_can_be_answered_is_planned(tmp_path: Path, home: Path, metric: str, more: str) -> None:
    assert plan(tmp_path, metric, more) == 0


def test_the_number_that_a_refused_pruner_names_is_the_one_that_does(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Optuna's PatientPruner looks at patience + 2 rungs; what is stopped at the last rung has ended anyway."""
    patient, late = (
        "  pruner: {name: patient, startup: 1, patience: 2}\n",
        "  pruner: {name: hyperband, min_exposures: %d}\n",
    )
    assert plan(tmp_path, UTILITY, patient, "train.rungs=4") == 2
    assert plan(tmp_path, UTILITY, patient, "train.rungs=5") == 0
    capsys.readouterr()
    assert plan(tmp_path, UTILITY, late % 999, "train.rungs=4") == 2
    (most,) = re.findall(r"must be at most (\d+), the exposures", capsys.readouterr().err)
    assert plan(tmp_path, UTILITY, late % int(most), "train.rungs=4") == 0
    assert plan(tmp_path, UTILITY, late % (int(most) + 1), "train.rungs=4") == 2


def test_every_arm_must_be_measured(tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "arms.yaml"
    file.write_text(
        "sweep:\n  question: which?\n  recipe: {train.max_steps: 40, dataset.dollhouse.images: 8}\n"
        "  arms: {a: {adapter.dim: 4}, b: {metrics: [norms]}}\n"
    )
    assert main(["sweep", str(file), "tracking=none"]) == 2
    assert "(arm b)" in capsys.readouterr().err
    assert not (home / "outputs" / "arms").exists()


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ("  pruner: {name: median, factor: 3}\n", "sweep.pruner.factor"),
        ("  pruner: {name: hyperband, patience: 3}\n", "sweep.pruner.patience"),
        ("  sampler: {name: grid, seed: 3}\n", "sweep.sampler.seed"),
        ("  sampler: {name: random, startup: 3}\n", "sweep.sampler.startup"),
        ('  constraints: {overcook/score: "<= 1e999"}\n', "sweep.constraints.overcook/score"),
    ],
)
def test_knobs_without_effect_are_refused(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str], more: str, where: str
) -> None:
    assert plan(tmp_path, UTILITY, more) == 2
    assert where in capsys.readouterr().err


def test_arms_that_are_one_recipe_are_told(tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(tmp_path, UTILITY, "", "adapter.dim=4") == 0
    assert json.loads(capsys.readouterr().out)["duplicates"] == [
        "a, b are the same recipe: it is cooked once, and they cannot differ"
    ]
    assert plan(tmp_path, UTILITY, "") == 0
    assert json.loads(capsys.readouterr().out)["duplicates"] == []


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("{name: overcook/score, goal: minimize, worst: 0}", "sweep.metric.worst  would be among the best"),
        ("[{name: identity/score}, {name: identity/score}]", "identity/score is given twice"),
    ],
)
def test_metrics_that_contradict_themselves_are_refused(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str], metric: str, said: str
) -> None:
    assert plan(tmp_path, metric, "") == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("word", ["sweep.seeds=[-1]", "sweep.seeds=[0,-1]"])
def test_minus_one_is_no_random_seed_of_a_sweep(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    assert plan(tmp_path, UTILITY, "", word) == 2
    assert "sweep.seeds  must be in [0, 9223372036854775807], got [" in capsys.readouterr().err


def test_what_a_failed_recipe_counts_as_follows_the_goal(tmp_path: Path) -> None:
    for goal, worst in (("minimize", 1.0), ("maximize", 0.0)):
        file = tmp_path / f"{goal}.yaml"
        metric = {"minimize": "overcook/score", "maximize": "identity/score"}[goal]
        file.write_text(SWEEP.format(metric=f"{{name: {metric}, goal: {goal}}}", more=""))
        assert load_sweep(str(file)).worst == worst


def test_a_space_that_cannot_be_read_is_one_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "space.yaml"
    file.write_text('sweep: {question: q, total: 4, space: {optimizer.lr: "interval(1e-3,1e-5)"}}\n')
    assert main(["plan", str(file)]) == 2
    told = capsys.readouterr().err
    assert "must grow from left to right" in told and "nothing is searched" not in told
    assert "needs quotes" not in told


def test_arms_that_are_asked_other_questions_are_told(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arms = "a: {}, b: {dataset.holdout_seed: 3}, c: {sample.guidance: 7}, d: {adapter.dim: 4}"
    (home / "q.yaml").write_text(f"sweep: {{question: Which, arms: {{{arms}}}}}\n", encoding="utf-8")
    assert main(["plan", str(home / "q.yaml"), "--json"]) == 0
    held_out, guidance = json.loads(capsys.readouterr().out)["asked_otherwise"]
    assert held_out.startswith("b: judged by another set of held-out images than a")
    assert guidance.startswith("c: judged by another sample.guidance than a")
