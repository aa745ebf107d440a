"""A notebook's way in: the names that `import lorasweep as ls` has, and folders that every command takes."""

from __future__ import annotations

import ast
import functools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sweep_folders import Cooked, write_sweep
from tiny_training import FEW_PICTURES

import lorasweep as ls
from lorasweep import config
from lorasweep.cli import main
from lorasweep.core import registry, run_folder
from lorasweep.core.errors import ConfigError, InputError, LorasweepError
from lorasweep.core.records import Status
from lorasweep.core.run_folder import RunFolder
from lorasweep.results.handles import EndedRun
from lorasweep.results.report.notebook import Shown
from lorasweep.sweep import driver, manifest
from lorasweep.sweep.ranking.announce import MirrorReport
from lorasweep.sweep.ranking.state import read_state
from lorasweep.sweep.single import TrialResult

QUICK = (
    "train.max_steps=2 train.rungs=1 adapter.dim=2 metrics=[norms] tracking=none dataset.dollhouse.images=5 "
    "sample.steps=1 sample.seeds=[0] sample.weights=[0.7]"
).split()
QUICK.append(FEW_PICTURES[0])


def test_the_names_are_there_and_cost_nothing_until_they_are_used() -> None:
    code = (
        "import sys, lorasweep as ls\n"
        "assert {'compose', 'plan', 'run_trial', 'run_sweep', 'open_run', 'open_sweep', 'sync'} <= set(dir(ls))\n"
        "assert not hasattr(ls, 'no_such_name')\n"
        "import lorasweep.config\n"  # which imports the package of the verb's name
        "assert 'lorasweep.api.training' not in sys.modules and callable(ls.plan)\n"
        "ls.plan(ls.compose('train.max_steps=4'))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_run_from_python_is_a_run_to_every_command(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = ls.compose(*QUICK)
    heard: list[str] = []

    def hear(event: dict[str, Any]) -> None:
        heard.append(event["kind"])

    run = ls.run_trial(recipe, home / "outputs" / "mine" / "first", on_event=hear)

    assert (run.name, run.status) == ("mine/first", Status.COMPLETED)
    assert (heard[0], heard[-1]) == ("start", "end") and {"step", "rung"} <= set(heard)
    assert run.metrics["norms/relative"] > 0 and "overcook/score" in run.missing
    assert len(run.samples) > 0 and run.recipe.adapter.options["dim"] == 2
    assert run.export(tmp_path / "x.safetensors").stat().st_size > 1000
    (weak,), (strong,) = (run.draw(["zkw, beach"], weight=weight) for weight in (0.0, 1.0))
    assert weak.size == (64, 64) and weak.tobytes() != strong.tobytes()
    for wrong in ({"weight": float("nan")}, {"weight": "0.7"}, {"seed": 1.5}):
        with pytest.raises(InputError, match="must be a (finite|whole) number, got "):
            run.draw(["zkw"], **wrong)
    with pytest.raises(InputError, match="photoshop"):
        ls.export("mine/first", tmp_path / "no.safetensors", readers=["photoshop"])
    for damaged in ('{"images": [{"file": "ste', "[1, 2]", '{"images": [{"file": "a.png"}]}'):
        (run.folder / "samples" / "index.json").write_text(damaged)
        assert run.samples == []

    assert ls.open_run("mine/first").metrics == run.metrics
    assert ls.checkpoint("mine/first").step == 2
    (exported,) = ls.export("mine/first", tmp_path / "half.safetensors", readers=["comfyui"], precision="fp16")
    assert Path(exported.file).stat().st_size < (tmp_path / "x.safetensors").stat().st_size
    assert ls.status("mine").counts == {"COMPLETED": 1} and [each.folder.name for each in ls.sweeps()] == ["mine"]
    assert all(page.exists() for page in ls.report("mine", tmp_path))
    for words in (["export", "mine/first"], ["status", "mine"], ["report", "mine"]):
        assert main(words) == 0, words
    assert main(["fork", "mine/first", "train.max_steps=3"]) == 0
    assert main(["train", *QUICK]) == 0
    assert "mine/first" in capsys.readouterr().out, "the same recipe is not trained twice"
    named = {value for key, value in vars(run_folder).items() if key.endswith("_FILE")}
    files = {path for path in (home / "outputs").rglob("*.*") if path.is_file() and path.suffix != ".png"}
    assert {path.name for path in files if path.parent.name != run_folder.EXPORTS} <= named, "one owner names them all"


def test_the_same_call_takes_what_is_there(home: Path) -> None:
    recipe = ls.compose(*QUICK)
    first, second = ls.run_trial(recipe, quiet=True), ls.run_trial(recipe, quiet=True)

    assert first.folder == second.folder
    assert first.ended.cooked and not second.ended.cooked


def test_a_rung_that_is_answered_with_false_is_the_last(home: Path) -> None:
    recipe = ls.compose(*[word.replace("rungs=1", "rungs=2") for word in QUICK])
    run = ls.run_trial(recipe, on_event=lambda event: event["kind"] != "rung")
    assert run.status is Status.PRUNED and recipe.train.max_steps == 2
    (run.folder / "adapter.safetensors").unlink(missing_ok=True)
    with pytest.raises(InputError, match="no adapter"):
        run.draw(["zkw"])


def test_the_notebook_runs_and_everything_shows_itself(
    training_workers: None,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    known: dict[str, Any] = {}
    shown = [value for value in map(functools.partial(evaluate, known), cells()) if value is not None]

    plan, run, identity, file, picture, sweep_plan, sweep, table, best = shown
    for each, words in ((plan, "plan of recipe"), (run, "run train/"), (sweep, "How large must the LoRA be?")):
        assert words in each._repr_html_() and words in str(each) == repr(each)
    assert all("<table>" in each._repr_html_() for each in (plan, run, sweep_plan, sweep))
    assert run._repr_html_().count("<img") > 2 and "<img" in best._repr_html_()
    assert plan.warnings and (sweep_plan.trials, list(sweep_plan.table["arm"])) == (2, ["small", "large"])
    assert identity == run.metrics["identity/score"] and file == tmp_path / "my_lora.safetensors" and file.exists()
    assert picture.size == (64, 64)
    assert sorted(table["arm"]) == ["large", "small"] and list(table["rank"]) == [1, 2]
    assert table["value"].is_monotonic_decreasing
    assert best.metrics["overcook/utility"] == table["value"][0]
    assert [each.status for each in ls.open_sweep("dims").trials] == [Status.COMPLETED] * 2
    said = capsys.readouterr()
    assert run.verdict["sentence"] in said.out and "4/4 steps" in said.err and "2/2 trials" in said.err


def test_the_python_in_the_readme_runs(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    steps = '"train.max_steps=200"'
    less = [word for word in QUICK if not word.startswith(("adapter", "metrics"))] + ["metrics=[identity,burn]"]
    assert steps in code
    monkeypatch.chdir(home)
    looked_at: list[Image.Image] = []
    monkeypatch.setattr(Image.Image, "show", lambda picture: looked_at.append(picture))
    write_sweep(home / "outputs" / "quickstart", [Cooked(arm="a", pictures=False)])

    known: dict[str, Any] = {}
    exec(code.replace(steps, ", ".join(map(json.dumps, less))), known)

    run = known["run"]
    assert run.verdict["sentence"] in capsys.readouterr().out and run.name == "mine/first"
    assert (home / "my_lora.safetensors").exists() and [picture.size for picture in looked_at] == [(64, 64)]


def cells() -> list[str]:
    """The code of docs/notebook.ipynb."""
    path = Path(__file__).parents[3] / "docs" / "notebook.ipynb"
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == "code"]


def evaluate(known: dict[str, Any], code: str) -> Any:
    """Run a cell as a notebook does; returns the value of its last expression."""
    *statements, last = ast.parse(code).body
    if not isinstance(last, ast.Expr):
        statements.append(last)
    exec(compile(ast.Module(statements, []), "cell", "exec"), known)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), known) if isinstance(last, ast.Expr) else None


def test_a_sweep_that_stopped_early_says_why(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_sweep(home / "outputs" / "quickstart", [Cooked(arm="a", pictures=False)])
    lacking = MirrorReport(False, "incomplete: nobody answers")
    ended = driver.SweepResult(state=read_state(folder), halted="there is no room left", mirrored=lacking)
    monkeypatch.setattr(driver, "run_sweep", lambda *_, **__: ended)
    sweep = ls.run_sweep("quickstart", "tracking=none", quiet=True)
    for told in (str(sweep), sweep._repr_html_()):
        assert "stopped early: there is no room left" in told and "MLflow incomplete: nobody answers" in told
    assert "stopped early" not in str(ls.open_sweep("quickstart"))


def test_what_was_interrupted_says_that_it_goes_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_sweep(home / "outputs" / "quickstart", [Cooked(arm="a", status="CANCELLED")])
    ended = driver.SweepResult(state=read_state(folder), interrupted=True)
    monkeypatch.setattr(driver, "run_sweep", lambda *_, **__: ended)
    sweep = ls.run_sweep("quickstart", "tracking=none", quiet=True)
    record = RunFolder(folder / "0000-a-s0").record
    assert record is not None
    for told in (sweep, EndedRun(folder / "0000-a-s0", TrialResult(record=record, cooked=True))):
        assert "interrupted; the same call continues where it stopped" in str(told)
    assert sweep.ended.interrupted and "interrupted" not in str(ls.open_sweep("quickstart"))


def test_where_a_sweep_stands_is_shown_in_a_line_a_trial(home: Path) -> None:
    write_sweep(home / "outputs" / "asked", [Cooked(arm="a"), Cooked(arm="b", status="DIVERGED")])
    told = ls.status("asked")
    head, first, second = repr(told).splitlines()
    assert head == "asked: 2 of 2 trials are over; 1 completed, 1 diverged"
    assert first.startswith("0  a (seed 0)  completed at ") and second.startswith("1  b (seed 0)  diverged at ")
    assert len(repr(told.trials[0])) < 1000 and "generalisation" not in repr(told.trials[0])


def test_a_run_is_called_by_what_finds_it(home: Path, tmp_path: Path) -> None:
    inside = write_sweep(home / "outputs" / "mine", [Cooked(arm="a", pictures=False)])
    outside = write_sweep(tmp_path / "elsewhere" / "theirs", [Cooked(arm="a", pictures=False)])
    for sweep, name in ((inside, "mine/0000-a-s0"), (outside, str(outside / "0000-a-s0"))):
        (run,) = ls.open_sweep(sweep).trials
        assert run.name == name and ls.open_run(run.name).folder == run.folder


def test_what_a_stranger_wrote_is_text_in_a_notebook(home: Path) -> None:
    shown = Shown(title="<script>x</script>", lines=["\x1b[2J<b>"], head=["<i>"], rows=[["<u>"]])
    assert not any(mark in shown.html() for mark in ("<script>", "<b>", "<i>", "<u>", "\x1b"))
    assert "\x1b" not in shown.text()


def test_what_is_wrong_is_told_before_any_work(home: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        ls.compose("adapter.dim=0", "optimizer.lr=-1")
    assert {problem.where for problem in refused.value.problems} == {"adapter.dim", "optimizer.lr"}
    for open_what in (ls.open_run, ls.open_sweep):
        with pytest.raises(InputError, match="no such"):
            open_what("nothing/of/this/name")
    assert not (home / "outputs").exists()


def test_overrides_change_what_is_planned_or_are_refused() -> None:
    assert ls.plan(ls.compose("adapter.dim=4"), "adapter.dim=8").recipes["recipe"].adapter.options["dim"] == 8
    sweep = config.load_sweep("quickstart", [])
    for call in (ls.plan, ls.run_sweep):
        with pytest.raises(ConfigError, match="seed=1  cannot change a sweep that is read already"):
            call(sweep, "seed=1")


def test_files_may_be_paths(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("recipe: {adapter.dim: 3}", encoding="utf-8")
    assert ls.compose(tmp_path / "mine.yaml", "seed=1") == ls.compose("adapter.dim=3", "seed=1")
    assert ls.plan(config.places.sweeps_dir() / "quickstart.yaml").trials == ls.plan("quickstart").trials == 4


def test_whole_numbers_stay_whole_where_some_are_not_known(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(registry.load("adapter", "loha"), "layer_shapes")
    planned = ls.plan("adapter=loha,lokr", "train.max_steps=4")
    by_arm = planned.table["trained parameters"]
    (known,) = by_arm.dropna().tolist()
    assert isinstance(known, int) and by_arm.isna().sum() == 1
    for shown in (str(planned), planned._repr_html_()):
        assert str(known) in shown and not re.search(r"\b(nan|None|NA)\b|e[+]05", shown)
    write_sweep(home / "outputs" / "asked", [Cooked(arm="a"), Cooked(arm="b", status="DIVERGED")])
    ranks = ls.open_sweep("asked").leaderboard["rank"].tolist()
    assert [str(rank) for rank in ranks] == ["1", "<NA>"]


def test_a_list_of_words_is_taken_as_hydra_takes_one() -> None:
    words = ["adapter.dim=4", "optimizer.lr=1e-3"]
    assert ls.compose(words) == ls.compose(*words) == ls.compose(words[:1], words[1])


def test_overrides_of_a_plan_count_or_are_refused() -> None:
    (changed,) = ls.plan(ls.compose("train.max_steps=4"), "train.max_steps=9").plans.values()
    assert changed.steps == 9
    with pytest.raises(ConfigError, match="read already"):
        ls.run_sweep(config.load_sweep("quickstart"), "adapter.dim=2")


def test_a_searched_sweep_says_what_each_point_is_and_goes_on_by_its_name(home: Path) -> None:
    asked = ["optimizer.lr=1e-3,2e-3", "train.max_steps=4"]
    spec = config.load_sweep(asked[0], asked[1:])
    folder = home / "outputs" / spec.name
    folder.mkdir(parents=True)
    manifest.write_manifest(folder, manifest.declare(spec, ls.plan(spec).plans))
    point = manifest.AddedTrials(number=0, arm="p000", seeds=(0,), overrides=("optimizer.lr=0.002",), params={})
    manifest.append(folder, point)

    opened = ls.open_sweep(spec.name)
    assert list(opened.leaderboard["overrides"]) == ["optimizer.lr=0.002"]
    assert "optimizer.lr=0.002" in str(opened) and "optimizer.lr=0.002" in opened._repr_html_()
    again = config.load_sweep(spec.name, ["train.max_steps=5"])
    assert again.name == spec.name and again.search is not None
    assert {arm.recipe.train.max_steps for arm in again.known} == {5}
    with pytest.raises(ConfigError, match="nothing to compare"):
        ls.run_sweep("adapter.dim=2")


def test_every_name_of_the_front_door_is_there() -> None:
    assert {"audit", "calibrate", "caption", "doctor", "import_config", "plan", "run_trial"} <= set(ls.__all__)
    assert all(callable(getattr(ls, name)) for name in ls.__all__)
    assert issubclass(ls.ConfigError, ls.InputError) and issubclass(ls.SweepHeldError, ls.LorasweepError)
    assert ls.plan(what="train.max_steps=4").plans["recipe"].steps == 4


def test_the_command_and_python_plan_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["quickstart"], ["adapter.dim=4", "seed=3"], ["adapter.dim=4,8"]):
        assert main(["plan", *words, "--json"]) == 0
        told, planned = json.loads(capsys.readouterr().out), ls.plan(*words)
        assert (told["name"], told["trials"]) == (planned.name, planned.trials)
        assert told["estimated_seconds"] == round(planned.seconds, 1)
        assert [arm["fingerprint"] for arm in told["arms"]] == [each.fingerprint for each in planned.plans.values()]
    recipe = ls.compose("adapter.dim=4")
    assert ls.plan(ls.compose(recipe, "seed=3")).plans == ls.plan("adapter.dim=4", "seed=3").plans
    assert ls.plan().recipes["recipe"] == ls.compose() and ls.compose(recipe) is recipe


def test_what_is_wrong_is_named_as_it_was_given(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError) as wrong:
        ls.caption(home, "captions=cleaned", overwrite=True)
    assert "overwrite  only means something with write  (add write)" in str(wrong.value)
    assert main(["caption", str(home), "--apply", "captions=cleaned", "--overwrite"]) == 2
    assert "--overwrite  only means something with --write  (add --write)" in capsys.readouterr().err
    assert "--" not in str(wrong.value)


def test_a_dataset_is_written_audited_captioned_and_mended(home: Path) -> None:
    folder = ls.write_dollhouse(home / "~dolls", images=4)
    images = sorted(folder.rglob("*.png"))
    assert {image.parent.name for image in images} == {"10_zkw"}
    found = ls.audit(folder, "captions.trigger=zkw", html=home / "look.html")
    assert "plan=" not in repr(found)
    assert found.plan is not None and len(found.plan.images) == 4 and (home / "look.html").exists()
    before = images[0].with_suffix(".txt").read_text()
    done = ls.caption(folder, "captions.prune=[1girl]", write=True, overwrite=True)
    assert (len(done.changes), done.captions, done.kept) == (4, 4, 0)
    assert images[0].with_suffix(".txt").read_text() != before
    assert ls.caption(folder, undo=True).restored == 4 and images[0].with_suffix(".txt").read_text() == before
    assert ls.mend(folder, aside=images[:1]) == 1 and not images[0].exists()
    with pytest.raises(ConfigError) as refused:
        ls.caption(folder, overwrite=True, encoding="none such")
    assert [each.where for each in refused.value.problems] == ["caption", "--overwrite", "--encoding"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ls.compose(3), "must be KEY=VALUE as text"),
        (lambda: ls.compose({"adapter.dim": 4}), "must be KEY=VALUE as text"),
        (lambda: ls.run_trial("adapter.dim=4"), "ls.compose"),
        (lambda: ls.audit(".", [None]), "must be KEY=VALUE as text"),
        (lambda: ls.mend(".", aside="no.png"), "no.png"),
        (lambda: ls.caption(".", apply="captions=nothing_such"), "nothing_such"),
        (lambda: ls.draw_dollhouse("x.png", count=0), "count  must be a whole number >= 1, got 0"),
        (lambda: ls.write_dollhouse("x", images=0, repeats=0.5), "repeats  must be a whole number >= 1, got 0.5"),
        (lambda: ls.calibrate("train.max_steps=2", seeds=0), "seeds  must be a whole number >= 1, got 0"),
        (lambda: ls.calibrate(seeds="2", times=[3]), "seeds  must be a whole number >= 1, got '2'"),
        (lambda: ls.rate("asked", port=99_999), "port  must be from 1 to 65535"),
        (lambda: ls.draw_dollhouse("x.png", count="4"), "count  must be a whole number >= 1, got '4'"),
        (lambda: ls.draw_dollhouse("x.png", size=(64, 64), seed=-1), "seed  must be a whole number >= 0, got -1"),
        (lambda: ls.draw_dollhouse("x.png", size=(64, 64)), "must be WxH px, 32 or more, got (64, 64)"),
        (lambda: ls.run_trial(ls.compose(), 3), "3  must be a path as text"),
        (lambda: ls.audit(None), "None  must be a path as text"),
        (lambda: ls.run_sweep("quickstart", repeats="3"), "repeats  must be a whole number >= 1, got '3'"),
        (lambda: ls.checkpoint("asked/0", step="9"), "step  must be a whole number >= 1, got '9'"),
        (lambda: ls.rate("asked", most=0), "most  must be a whole number >= 1, got 0"),
        (lambda: ls.judge(3), "must be a file or KEY=VALUE as text"),
        (lambda: ls.judge([Path("none.safetensors")], "base=dollhouse"), "  none.safetensors  "),
        (lambda: ls.judge("x.safetensors", require="overcook"), "must be a metric and a bound, got 'overcook'"),
    ],
)
def test_arguments_of_the_wrong_sort_are_refused_with_the_next_step(
    home: Path, monkeypatch: pytest.MonkeyPatch, call: Any, said: str
) -> None:
    monkeypatch.chdir(home)
    with pytest.raises(LorasweepError) as caught:
        call()
    assert said in str(caught.value)


def test_lists_are_taken_wherever_words_are(home: Path) -> None:
    Path(home, "asked.yaml").write_text("sweep: {question: '?', arms: {a: {}, b: {adapter.dim: 2}}}")
    assert ls.plan(["adapter.dim=4", "train.max_steps=4"]).recipes["recipe"].adapter.options["dim"] == 4
    assert ls.plan(home / "asked.yaml", ["train.max_steps=4"]).plans["a"].steps == 4
    assert ls.plan(home / "asked.yaml").plans.keys() == {"a", "b"}


def test_what_is_in_hand_is_as_good_as_its_name(home: Path) -> None:
    folder = write_sweep(home / "outputs" / "asked", [Cooked(arm="a"), Cooked(arm="b", identity=0.4)])
    sweep = ls.open_sweep("asked")
    assert ls.open_sweep(sweep).folder == folder and ls.status(sweep).name == "asked"
    assert ls.open_run(sweep.best).name == sweep.best.name
    assert ls.report(sweep)[0] == folder / "report.html"
    assert ls.ratings(sweep.best) == []
    with pytest.raises(ConfigError, match="must be >= 1, got 0"):
        ls.fork(sweep.best, ["adapter.dim=0"])
    with pytest.raises(LorasweepError, match="nowhere"):
        ls.train_again(sweep.best, ["dataset.path=nowhere"])


def test_a_number_that_is_not_there_says_why(home: Path) -> None:
    write_sweep(home / "outputs" / "asked", [Cooked(arm="a"), Cooked(arm="b", status="CANCELLED")])
    over, stopped = ls.open_sweep("asked").trials
    for known, name, why in (
        (over.metrics, "diversity/relative", "no encoder"),
        (over.metrics, "overcook/utilty", "did you mean `overcook/utility`"),
        (stopped.verdict, "sentence", "asked/0001-b-s0 is CANCELLED"),
    ):
        assert name not in known and known.get(name) is None
        with pytest.raises(KeyError, match=re.escape(why)):
            known[name]


def test_next_steps_are_said_in_pythons_words(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(home / "outputs" / "asked", [Cooked(arm="a")])
    with pytest.raises(InputError, match="or add best[)]"):
        ls.export("asked")
    with pytest.raises(InputError, match="asked/0000-a-s0  cannot be read"):
        ls.export("asked", best=True)
    assert main(["export", "asked"]) == 2 and "or add --best)" in capsys.readouterr().err


def test_a_plan_in_hand_is_taken_and_another_recipes_is_refused(home: Path) -> None:
    recipe = ls.compose(*QUICK)
    planned = ls.plan(recipe)
    for wrong in (ls.plan(recipe, "seed=7"), planned.plans["recipe"], "quickstart"):
        with pytest.raises(ConfigError, match="planned  is no plan of this recipe"):
            ls.run_trial(recipe, planned=wrong)
    assert not (home / "outputs").exists()
    assert ls.run_trial(recipe, planned=planned, quiet=True).folder == ls.folder_of(planned)
