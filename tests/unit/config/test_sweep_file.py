"""Sweep files: what they mean, and everything that can be wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorasweep.config import compose_recipe, load_sweep, sweeps_dir
from lorasweep.core.errors import ConfigError

GOOD = """
sweep:
  question: Which burns later?
  metric: {name: overcook/utility, goal: maximize}
  seeds: [0, 5]
  recipe:
    train.max_steps: 100
    sample: {guidance: 5, seeds: [3]}
    dataset.prompts.class: ["1girl, it's \\"x\\""]
  arms:
    usual: {note: as always, optimizer.lr: 1e-4}
    prodigy: {optimizer: prodigy, captions.trigger: "1e5"}
    same:
"""


def write(folder: Path, text: str, name: str = "mine.yaml") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def problems_of(file: str, *overrides: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load_sweep(file, overrides)
    return {problem.where: f"{problem.message} ({problem.hint})" for problem in caught.value.problems}


def test_utility_ranks_where_nothing_else_is_said(tmp_path: Path) -> None:
    text = GOOD.replace("  metric: {name: overcook/utility, goal: maximize}\n", "")
    assert text != GOOD
    spec = load_sweep(write(tmp_path, text))
    assert (spec.metric, spec.goal, spec.worst) == ("overcook/utility", "maximize", 0.0)


def test_a_file_picked_on_the_command_line_wins_over_the_sweeps_keys_of_its_group(tmp_path: Path) -> None:
    arm = "    longer: {train.max_steps: 200}\n"
    spec = load_sweep(write(tmp_path, GOOD + arm), ["train=debug"])

    debug = compose_recipe(["train=debug"]).train
    assert {arm.recipe.train for arm in spec.arms} == {debug} and debug.max_steps != 100


def test_a_sweep_is_arms_times_seeds(tmp_path: Path) -> None:
    spec = load_sweep(write(tmp_path, GOOD), ["train.batch_size=2"])

    assert (spec.name, spec.metric, spec.goal, spec.worst, spec.seeds) == (
        "mine",
        "overcook/utility",
        "maximize",
        0.0,
        (0, 5),
    )
    assert [arm.name for arm in spec.arms] == ["usual", "prodigy", "same"]
    assert spec.total == 6
    usual, prodigy, same = (arm.recipe for arm in spec.arms)
    assert (usual.train.max_steps, usual.sample.guidance, usual.sample.seeds) == (100, 5.0, (3,))
    assert usual.optimizer.options["lr"] == 1e-4
    assert usual.dataset.prompts == {"class": ('1girl, it\'s "x"',)}
    assert prodigy.optimizer.name == "prodigy"
    assert prodigy.captions.trigger == "1e5"  # quoted in the file, so text
    assert {recipe.train.batch_size for recipe in (usual, prodigy, same)} == {2}
    assert spec.arms[0].note == "as always"
    assert spec.arms[0].overrides == ("optimizer.lr=0.0001",)
    assert same.optimizer.name == "adamw"


def test_every_sweep_that_ships_loads() -> None:
    names = [path.stem for path in sweeps_dir().glob("*.yaml")]

    assert "quickstart" in names
    for name in names:
        about_your_own_base = name in ("sdxl", "flux", "z_image", "anima")
        yours = ["base.path=some.safetensors"] if about_your_own_base else []
        assert load_sweep(name, yours).total >= 2


def test_sweeps_of_the_current_folder_have_names_that_ours_do_not_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sweeps").mkdir()
    for name in ("mine", "quickstart"):
        write(tmp_path / "sweeps", GOOD, f"{name}.yaml")
    monkeypatch.chdir(tmp_path)

    assert load_sweep("mine").question == "Which burns later?"
    assert load_sweep("sweeps/quickstart.yaml").question == "Which burns later?"
    with pytest.raises(ConfigError, match="is the name of two sweeps, lorasweep's and yours"):
        load_sweep("quickstart")


def test_problems_of_all_arms_come_together_and_common_ones_once(tmp_path: Path) -> None:
    text = GOOD.replace("    same:\n", "    same: {optimizer.lrr: 1, launcher.workers: 3}\n    odd: 3\n")

    found = problems_of(write(tmp_path, text), "train.batch_size=0")

    assert set(found) == {
        "sweep.recipe: train.batch_size",
        "arm `same`: optimizer.lrr",
        "arm `same`: launcher.workers=3",
        "sweep.arms.odd",
    }
    assert "did you mean `lr`?" in found["arm `same`: optimizer.lrr"]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("seeds: [0, 5]", "seeds: []", "at least one seed"),
        ("seeds: [0, 5]", "seeds: [0, 0]", "must not repeat"),
        ("seeds: [0, 5]", "seeds: [a]", "must be a list"),
        ("maximize", "upwards", "must be one of maximize, minimize"),
        ("question: Which burns later?", "question: ''", "must not be empty"),
        ("  question: Which burns later?\n", "", "is missing"),
        ("arms:", "armz:", "did you mean `arms`?"),
        ("    same:\n", "    same: {note: [3]}\n", "must be text"),
        ("    same:\n", "    a/b: {}\n", "an arm's name must be"),
        ("    same:\n", "    usual: {}\n", "the key `usual` is given twice"),
        ("guidance: 5", "guidance: !!python/object:os.system 5", "YAML tags are refused"),
        ("guidance: 5", "guidance: !x 5", "YAML tags are refused"),
        ("guidance: 5", "guidance: &five 5", "anchors and aliases are not read"),
        ("guidance: 5", "_target_: os.system", "`_target_` is refused"),
        ("guidance: 5", "guidance: '${oc.env:HOME}'", "is not read here"),
        ("guidance: 5", "guidance: [", "is not YAML"),
        ("guidance: 5", "guidance: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("sweep:", "swep:", "one top-level key, `sweep`"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in GOOD

    found = problems_of(write(tmp_path, GOOD.replace(before, after)))

    assert any(message in text for text in found.values()), found


def test_no_arms_at_all(tmp_path: Path) -> None:
    text = GOOD[: GOOD.index("  arms:")] + "  arms: {}\n"

    assert "at least one arm" in problems_of(write(tmp_path, text))["sweep.arms"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"# only a comment\n", "is empty"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"[1, 2]", "one top-level key"),
        (b"just words", "one top-level key"),
        (b"a: " + b"x" * 1_100_000, "too large"),
        (
            b"sweep:\n  question: Which?\n  arms\n    a: {}\n",
            "is not YAML: line 3: could not find expected ':'",
        ),
        (b"sweep:\n\tquestion: Which?\n", "is not YAML: line 2: "),
    ],
)
def test_files_that_are_no_sweep(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad.yaml").write_bytes(content)

    (found,) = problems_of(str(tmp_path / "bad.yaml")).values()

    assert message in found


def test_unknown_sweeps_suggest_known_ones(tmp_path: Path) -> None:
    assert "did you mean `quickstart`?" in problems_of("quikstart")["quikstart"]
    assert "no such sweep file" in problems_of(str(tmp_path / "no.yaml"))[str(tmp_path / "no.yaml")]
    assert "no such sweep" in problems_of("../quickstart")["../quickstart"]
