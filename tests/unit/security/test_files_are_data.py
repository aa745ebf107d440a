"""A stranger's sweep, recipe or run folder runs nothing, reads nothing and writes nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from sweep_folders import Cooked, write_sweep

from lorasweep.cli import main

SWEEP = """
sweep:
  question: Which?
  metric: {name: overcook/utility, goal: maximize}
  arms:
    usual: {optimizer: adamw}
"""
BOMB = "a: &a [x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"


@pytest.fixture
def marker(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that exists as soon as anything ran, and a secret that nothing may read."""
    monkeypatch.setenv("A_SECRET", "hunter2")
    return tmp_path_factory.mktemp("marker") / "ran"


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    code = main(words)
    captured = capsys.readouterr()
    assert code == 2, captured
    assert "hunter2" not in captured.out + captured.err and "Traceback" not in captured.err
    assert "\x1b" not in captured.out + captured.err
    return captured.err


SWEEPS = {
    "python tag": ("adamw", "!!python/object/apply:os.system ['touch MARKER']"),
    "own tag": ("adamw", "!run 'touch MARKER'"),
    "target in an arm": ("{optimizer: adamw}", "{optimizer._target_: os.system, optimizer.a: touch}"),
    "target in the recipe": ("  arms:", "  recipe: {train: {_target_: os.system}}\n  arms:"),
    "environment": ("adamw", "'${oc.env:A_SECRET}'"),
    "environment in the question": ("Which?", "'${oc.env:A_SECRET}'"),
    "file resolver": ("adamw", "'${oc.decode:${oc.env:A_SECRET}}'"),
    "module by path": ("optimizer: adamw", "optimizer.name: ../../../MARKER"),
    "module outside": ("optimizer: adamw", "optimizer.name: os"),
    "private module": ("optimizer: adamw", "adapter.name: _peft"),
    "anchors": ("sweep:", BOMB + "sweep:"),
    "arm that climbs": ("usual:", "../../../usual:"),
    "arm with a slash": ("usual:", "a/b:"),
    "hidden arm": ("usual:", ".usual:"),
    "arm with an escape": ("usual:", '"\\e[31mred":'),
    "escape in the question": ("Which?", '"\\e]0;pwned\\a"'),
    "escape in a note": ("{optimizer", '{note: "\\e[2J", optimizer'),
    "escape in a value": ("adamw}", 'adamw, captions.trigger: "z\\x1b[31m"}'),
}


@pytest.mark.parametrize("attack", SWEEPS)
@pytest.mark.parametrize("command", ["plan", "sweep"])
def test_a_sweep_file_is_data(
    attack: str, command: str, home: Path, marker: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = SWEEPS[attack]
    assert before in SWEEP
    file = home / "shared.yaml"
    file.write_text(SWEEP.replace(before, after.replace("MARKER", str(marker)), 1), encoding="utf-8")

    refused([command, str(file)], capsys)

    assert everything(home) == {file} and not marker.exists()


@pytest.mark.parametrize("name", [".hidden", "a b", "-x", "red\x1b[31m", "a;b"])
def test_a_sweep_file_names_no_folder_that_it_may_not(
    name: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = home / f"{name}.yaml"
    file.write_text(SWEEP)

    refused(["sweep", "--json", str(file)], capsys)

    assert everything(home) == {file}


@pytest.mark.parametrize("name", ["../climb", "/etc/passwd", "a/../../b", "..", "red\x1b[31m"])
def test_a_sweeps_name_is_no_path(name: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(["sweep", "--json", name], capsys)

    assert everything(home) == set()


@pytest.mark.parametrize(
    "override",
    [
        "+optimizer._target_=os.system",
        "optimizer.name=../../x",
        "captions.trigger=${oc.env:A_SECRET}",
        "hydra.run.dir=/tmp/elsewhere",
        "hydra/launcher=joblib",
        "captions.trigger=z\x1b[31m",
        "tracking.experiment=\x07",
    ],
)
def test_an_override_is_data(override: str, home: Path, marker: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(["train", override], capsys)

    assert everything(home) == set()


RECIPES = {
    "python tag": "!!python/object/apply:os.system ['touch MARKER']",
    "environment": {"captions": {"trigger": "${oc.env:A_SECRET}"}},
    "module by path": {"optimizer": {"name": "../../x", "options": {}}},
    "escape": {"captions": {"trigger": "z\x1b[31m"}},
    "unknown keys": {"optimizer": {"name": "adamw", "options": {"_target_": "os.system"}}},
    "not a recipe": "just words",
}


@pytest.mark.parametrize("attack", RECIPES)
@pytest.mark.parametrize("command", ["fork", "train"])
def test_a_run_folder_is_data(
    attack: str, command: str, home: Path, marker: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = write_sweep(home / "outputs" / "shared", [Cooked(arm="a", pictures=False)])
    recipe = sweep / "0000-a-s0" / "recipe.yaml"
    poison = RECIPES[attack]
    if isinstance(poison, str):
        recipe.write_text(poison.replace("MARKER", str(marker)))
    else:
        data = yaml.safe_load(recipe.read_text())
        for group, keys in poison.items():
            data[group].update(keys)
        recipe.write_text(yaml.safe_dump(data))
    before = everything(home)
    words = {
        "fork": ["fork", "shared/0000-a-s0", "adapter.dim=4"],
        "train": ["train", "--from", "shared/0000-a-s0"],
    }

    refused(words[command], capsys)

    assert everything(home) == before and not marker.exists()


@pytest.mark.parametrize("where", ["../../etc", "/etc", "..", "nothing", "\x1b[31m"])
@pytest.mark.parametrize("command", ["report", "fork", "export"])
def test_commands_find_only_sweeps_and_runs(
    command: str, where: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused([command, where, *(["adapter.dim=4"] if command == "fork" else [])], capsys)

    assert everything(home) == set()
