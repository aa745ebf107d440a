"""Words as people type them, on the command line and in files: used as they are, or refused by name."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from lorasweep.cli import main
from lorasweep.config import SweepSpec, compose_recipe, load_recipe, load_sweep, sweep_of_overrides
from lorasweep.core.errors import ConfigError, InputError

CHEAP = "{train.max_steps: 4, train.rungs: 1, tracking: none, metrics: [norms]}"


def sweep_file(folder: Path, arms: str, more: str = "", recipe: str = CHEAP) -> str:
    path = folder / "mine.yaml"
    text = "sweep:\n  question: which?\n  metric: {name: norms/relative, goal: minimize}\n"
    path.write_text(f"{text}  recipe: {recipe}\n  arms: {arms}\n{more}", encoding="utf-8")
    return str(path)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What is said of a command line that is refused before anything starts."""
    try:
        code: object = main(words)
    except SystemExit as ended:  # Hydra ends the program itself
        code = ended.code
    assert code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "Traceback" not in said
    return said


def text_of(words: Sequence[str], group: str, key: str) -> object:
    return getattr(getattr(compose_recipe(words), group), key)


# ------------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize("name", ["2024_05", "1e5", "007", "true", "on", "3.0", "1_000", "photos, 2024 (a)"])
def test_a_path_and_a_trigger_are_text_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    (tmp_path / "r.yaml").write_text(f"recipe:\n  dataset.path: {name}\n", encoding="utf-8")

    assert text_of([f"dataset.path={name}"], "dataset", "path") == name
    assert load_recipe("r.yaml").dataset.path == name
    if "," not in name:
        assert text_of([f"captions.trigger={name}"], "captions", "trigger") == name
        assert text_of([f"captions.prune=[{name},b]"], "captions", "prune") == (name, "b")


def test_null_is_no_path_and_a_folder_of_that_name_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert text_of(["dataset.path=null"], "dataset", "path") is None
    (tmp_path / "null").mkdir()

    with pytest.raises(ConfigError, match=r"dataset.path=\./null"):
        compose_recipe(["dataset.path=null"])
    assert text_of(["dataset.path=./null"], "dataset", "path") == "./null"


@pytest.mark.parametrize(
    ("written", "tags"),
    [
        ("[红发,蓝眼]", ("红发", "蓝眼")),
        ("[saber (fate),1girl]", ("saber (fate)", "1girl")),
        ("[zoé]", ("zoé",)),
        ("[:), d'arc, null, * hair]", (":)", "d'arc", "null", "* hair")),
        ("[\"a, b\",'c']", ("a, b", "c")),
        ("[]", ()),
    ],
)
def test_tags_in_a_list_need_no_quotes(written: str, tags: tuple[str, ...]) -> None:
    assert text_of([f"captions.prune={written}"], "captions", "prune") == tags


def test_the_advice_for_tags_that_cannot_be_read_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "plan", "captions.prune=[saber (fate, stay),1girl]")
    (advice,) = shlex.split(said.split("quote the text: ")[1].removesuffix(")"))

    assert text_of([advice], "captions", "prune") == ("saber (fate, stay)", "1girl")


def test_tags_and_their_replacements_by_name(tmp_path: Path) -> None:
    written = "captions.clean.replacements={saber (fate): 红, 2girls: 2}"
    (tmp_path / "r.yaml").write_text(
        "recipe:\n  captions.clean.replacements: {saber (fate): 红, 2girls: 2}\n", encoding="utf-8"
    )
    wanted = {"saber (fate)": "红", "2girls": "2"}

    assert compose_recipe([written]).captions.clean.replacements == wanted
    assert load_recipe(str(tmp_path / "r.yaml")).captions.clean.replacements == wanted


def test_several_texts_are_an_axis_of_the_texts_as_written() -> None:
    words = ["captions.trigger=choice(007,zkw,null)", "dataset.path=choice(.,..)"]
    spec = sweep_of_overrides(words)

    assert spec.search is not None
    triggers = {arm.recipe.captions.trigger for arm in spec.search.corners}
    assert triggers == {"007", "zkw", None}
    assert spec.search.space.describe()["dataset.path"] == 'choice(".","..")'


@pytest.mark.parametrize("where", ["file", "words"])
def test_null_is_a_value_of_a_choice(tmp_path: Path, where: str) -> None:
    axis = "noise.min_snr_gamma"
    if where == "file":
        more = f'  total: 4\n  space: {{{axis}: "choice(null,5)"}}\n'
        spec = load_sweep(sweep_file(tmp_path, "{}", more))
    else:
        spec = sweep_of_overrides([f"{axis}=choice(null,5)"])

    assert spec.search is not None
    assert {arm.recipe.noise.min_snr_gamma for arm in spec.search.corners} == {None, 5.0}


# ------------------------------------------------------------------------------------------------- arms


def test_arms_are_called_what_is_written(tmp_path: Path) -> None:
    names = ["8", "16", "1e-4", "0.5", "on", "off", "null", "true", "2024-05-01"]
    arms = ", ".join(f"{name}: {{adapter.dim: {index + 4}}}" for index, name in enumerate(names))

    spec = load_sweep(sweep_file(tmp_path, f"{{{arms}}}"))

    assert [arm.name for arm in spec.arms] == names


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ("{8: {adapter.dim: 8}, '8': {adapter.dim: 4}}", "the key `8` is given twice"),
        ("{1:30: {}}", "an arm's name must be letters"),
        ("{a: {adapter.dim: 8, adapter: {dim: 16}}}", "is given twice: 8 and 16"),
        ("{a: {seed: 4}}", "sweep.seeds: [0, 1]"),
        ("{a: {adapter.dim: 010}}", "must be a whole number, got '010'"),
        ("{a: {adapter.dim: 1:30}}", "must be a whole number, got '1:30'"),
    ],
)
def test_what_is_wrong_with_an_arm(tmp_path: Path, arms: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_sweep(sweep_file(tmp_path, arms))

    assert message in str(caught.value)


# ----------------------------------------------------------------------------------- dropped in silence


def test_a_sweeps_seed_is_refused_with_what_to_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = sweep_file(tmp_path, "{a: {adapter.dim: 4}}")
    assert "sweep.seeds=[3]" in refused(capsys, "sweep", file, "seed=3")
    assert "sweep.seeds=[3]" in refused(capsys, "-m", "adapter.dim=4,8", "seed=3")
    assert "sweep.seeds=[1,2]" in refused(capsys, "-m", "adapter.dim=4,8", "seed=1,2")
    assert "sweep.seeds=[1,2]" in refused(capsys, "plan", file, "seed=choice(1,2)")
    assert load_sweep(file, ["sweep.seeds=[3]"]).seeds == (3,)
    in_file = sweep_file(tmp_path, "{a: {adapter.dim: 4}}", recipe="{seed: 3}")
    assert "seeds: [3]" in refused(capsys, "plan", in_file)


@pytest.mark.parametrize("key", ["seed=3", "train.rungs=3", "scheduler=cosine", "sample.weights=[1]"])
def test_a_calibration_refuses_what_it_decides_itself(capsys: pytest.CaptureFixture[str], key: str) -> None:
    assert f"{key} is decided by the controls" in refused(capsys, "calibrate", key)


def test_a_key_that_is_taken_out_has_no_value_beside(capsys: pytest.CaptureFixture[str]) -> None:
    assert "is given twice: taken out and 8" in refused(capsys, "plan", "~adapter.dim", "adapter.dim=8")


def test_an_arm_takes_a_key_out_by_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arms = "{all: {}, less: {'~metrics.burn': %s}}"
    with_burn = CHEAP.replace("[norms]", "[norms, burn]")

    said = refused(capsys, "plan", sweep_file(tmp_path, arms % "''", recipe=with_burn))
    assert "takes a key out, so it has no value" in said and "`~metrics.burn: null`" in said
    spec = load_sweep(sweep_file(tmp_path, arms % "null", recipe=with_burn))
    assert ["burn" in arm.recipe.metrics for arm in spec.arms] == [True, False]


@pytest.mark.parametrize("command", [["train"], ["plan"], ["plan", "quickstart"], ["sweep", "quickstart"], ["-m"]])
def test_a_key_with_two_values_is_told(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    said = refused(capsys, *command, "adapter.dim=4", "adapter.dim=8")

    assert "adapter.dim is given twice: 4 and 8" in said


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["train", "quickstart"], "lorasweep sweep quickstart"),
        (["train", "sweep.total=3"], "lorasweep sweep NAME sweep.KEY="),
        (["train", "adapter.dim=4", "FILE"], "right after the command"),
        (["train", "FILE"], "lorasweep sweep"),
        (["sweep", "RECIPE"], "lorasweep train"),
        (["train", "adapter.conv_dim=8"], "it belongs to adapter=locon"),
        (["train", "optimizer=adamw,prodigy"], "lorasweep -m optimizer=adamw,prodigy"),
    ],
)
def test_a_word_at_the_wrong_command_is_told_where_it_belongs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], advice: str
) -> None:
    (tmp_path / "recipe.yaml").write_text("recipe: {adapter.dim: 4}\n", encoding="utf-8")
    files = {"FILE": sweep_file(tmp_path, "{a: {}}"), "RECIPE": str(tmp_path / "recipe.yaml")}

    assert advice in refused(capsys, *(files.get(word, word) for word in words))


@pytest.mark.parametrize("command", ["train", "sweep", "status", "export"])
def test_a_carriage_return_is_told_with_where_it_comes_from(capsys: pytest.CaptureFixture[str], command: str) -> None:
    said = refused(capsys, command, "quickstart\r")

    assert "control characters" in said and "CRLF" in said


# ------------------------------------------------------------------------------------------------ spaces


@pytest.mark.parametrize("values", ["0,0.0", "8,8.0", "1e-4,0.0001", "null,null"])
def test_a_choice_has_no_value_twice(capsys: pytest.CaptureFixture[str], values: str) -> None:
    assert "must not repeat a value" in refused(capsys, "-m", f"noise.offset=choice({values})")


def test_the_share_of_a_space_that_makes_no_recipe_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["adapter=dylora", "adapter.dim=int(interval(8,64))", "sweep.total=6", "train.max_steps=4"]
    spec: SweepSpec = sweep_of_overrides(words)

    assert spec.search is not None
    (warning,) = spec.search.warnings
    assert warning.startswith("space: 42 of 57 points tried make no recipe, e.g. adapter.dim=9:")
    assert "range(8,65,4)" in warning
    fitting = sweep_of_overrides([*words[:1], "adapter.dim=range(8,65,4)"])
    assert fitting.search is not None and fitting.search.warnings == ()


def test_a_space_whose_inside_makes_no_recipe_is_refused() -> None:
    words = ["adapter=dylora", "adapter.dim=4096", "adapter.unit=int(interval(2048,4096))", "sweep.total=6"]

    with pytest.raises(InputError, match="64 of 64 points tried make no recipe"):
        sweep_of_overrides(words)


def test_advice_with_an_apostrophe_survives_a_shell(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "plan", "captions.trigger='tis me")
    (advice,) = shlex.split(said.split("quote the text: ")[1].split(")")[0])

    assert text_of([advice], "captions", "trigger") == "'tis me"
