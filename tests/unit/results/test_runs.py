"""Every command finds a sweep or a run by whatever people call it, and leftovers get in nobody's way."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from sweep_folders import Cooked, write_sweep

import lorasweep as ls
from lorasweep.cli import main
from lorasweep.core import files
from lorasweep.core.errors import InputError
from lorasweep.results import runs
from lorasweep.sweep.workers.lock import sweep_lock

DOTTED = "sd1.5_rates"


@pytest.fixture
def dotted(home: Path) -> Path:
    """A sweep of two arms whose name has a dot."""
    folder = write_sweep(
        home / "outputs" / DOTTED, [Cooked(arm="a", pictures=False), Cooked(arm="b.2", pictures=False)]
    )
    for run in folder.glob("000*"):
        files.write_json(run / "plan.json", {"material": "m"})
    return folder


def told(words: list[str], capsys: pytest.CaptureFixture[str], *, code: int = 0) -> Any:
    assert main(words) == code
    out = capsys.readouterr()
    return json.loads(out.out) if code == 0 else out.err


@pytest.mark.parametrize(
    "named", [DOTTED, f"{DOTTED}/", f"{DOTTED}.yaml", f"sweeps/{DOTTED}.yaml", "{path}", "{path}/"]
)
def test_a_sweep_is_found_by_name_file_and_path(named: str, dotted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = named.replace("{path}", str(dotted))
    assert told(["status", named, "--json"], capsys)["name"] == DOTTED
    assert told(["report", named, "--json"], capsys)["html"] == str(dotted / "report.html")


@pytest.mark.parametrize(
    "named",
    ["{name}/1", "{name}/0001", "{name}/1/", "{name}/0001-b.2-s0", "{path}/1", "{path}/0001-b.2-s0/"],
)
def test_a_run_is_found_by_number_name_and_path(named: str, dotted: Path) -> None:
    named = named.replace("{name}", DOTTED).replace("{path}", str(dotted))
    found = runs.find_run(named, subject="test")
    assert found.folder == dotted / "0001-b.2-s0" and found.name == f"{DOTTED}/0001-b.2-s0"
    assert found.material == "m"


def test_paths_are_taken_from_where_one_stands(dotted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(dotted)
    assert runs.find_sweep(".", subject="test") == dotted
    assert runs.find_run("./1", subject="test").name == f"{DOTTED}/0001-b.2-s0"
    monkeypatch.chdir(dotted / "0001-b.2-s0")
    assert runs.find_run(".", subject="test").name == f"{DOTTED}/0001-b.2-s0"


def test_a_link_to_another_disk_keeps_its_name(dotted: Path, home: Path) -> None:
    elsewhere = home / "big disk"
    dotted.rename(elsewhere)
    dotted.symlink_to(elsewhere)
    assert runs.find_sweep(DOTTED, subject="test").name == DOTTED


def test_single_runs_have_the_numbers_that_status_shows(dotted: Path, home: Path) -> None:
    (home / "outputs" / "train").mkdir()
    for name, run in (("ffff-s0", "0000-a-s0"), ("aaaa-s0", "0001-b.2-s0")):  # the older one sorts last
        os.rename(dotted / run, home / "outputs" / "train" / name)
    assert [runs.find_run(f"train/{n}", subject="t").folder.name for n in (0, 1)] == ["ffff-s0", "aaaa-s0"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["status", "sd15_rates"], f"did you mean `{DOTTED}`?"),
        (["report", "nothing"], f"known: {DOTTED}"),
        (["sync", "sd1.5_rate"], f"did you mean `{DOTTED}`?"),
        (["status", f"{DOTTED}/1"], f"is a run, not a sweep  (its sweep: {DOTTED})"),
        (["fork", f"{DOTTED}/7", "seed=1"], f"its runs: {DOTTED}/0000-a-s0, {DOTTED}/0001-b.2-s0"),
        (["fork", f"{DOTTED}/0001-b2-s0", "seed=1"], "did you mean `0001-b.2-s0`?"),
        (["fork", DOTTED, "seed=1"], f"is a sweep, not a run  (name one of its runs: {DOTTED}/0000-a-s0"),
        (["train", "--from", f"{DOTTED}/1/recipe.yaml"], "no such run"),
        (["export", f"{DOTTED}/0001-b.2-s0/recipe.yaml"], "is inside a run folder"),
        (["export", "nothing", "--best"], "no such sweep"),
        (["export", ""], "no such run"),
        (["status", ".."], "no such sweep"),
        (["status", "~nobody-of-this-name"], "has no home folder here"),
    ],
)
def test_what_is_not_found_is_told_with_what_there_is(
    words: list[str], said: str, dotted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in told(words, capsys, code=2)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("train", "is where single runs are kept"),
        ("Train", "is where single runs are kept"),
        ("aux.v2", "cannot name a folder on Windows"),
        ("done.", "cannot name a folder on Windows"),
    ],
)
def test_no_sweep_takes_a_name_that_is_taken_somewhere(
    name: str, said: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / f"{name}.yaml").write_text("sweep:\n  question: which\n  arms: {a: {adapter.dim: 4}}\n")
    assert said in told(["plan", str(home / f"{name}.yaml")], capsys, code=2)
    assert main(["plan", str(home / f"{name}.yaml"), "sweep.name=other", "--json"]) == 0


def litter(folder: Path) -> None:
    """What notebooks, file managers and hasty people leave."""
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / "my notes").mkdir()
    (folder / "my notes" / "recipe.yaml").touch()
    for run in folder.glob("0000-a-s0"):
        shutil.copytree(run, folder / f"{run.name} (copy)")
    for name in (".DS_Store", "Thumbs.db", "0003-copy", "desktop.ini"):
        (folder / name).touch()
    (folder / "gone").symlink_to("/nonexistent")
    (folder / "round").symlink_to("round")


def test_leftovers_break_no_command(dotted: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (home / "outputs", dotted, dotted / "0000-a-s0"):
        litter(folder)
    (home / "outputs" / "quickstart.zip").touch()

    assert [each["name"] for each in told(["status", "--json"], capsys)] == [DOTTED]
    assert len(told(["status", DOTTED, "--json"], capsys)["trials"]) == 2
    told(["report", DOTTED, "--json"], capsys)
    assert runs.find_run(f"{DOTTED}/0", subject="test").name == f"{DOTTED}/0000-a-s0"
    assert "no such run" in told(["export", f"{DOTTED}/3"], capsys, code=2)
    assert "no such sweep" in told(["status", "my notes"], capsys, code=2)


def test_a_damaged_sweep_does_not_hide_the_others(dotted: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "outputs" / "torn").mkdir()
    (home / "outputs" / "torn" / "sweep.yaml").write_text("name: [\n")

    assert main(["status", "--json"]) == 1
    out = capsys.readouterr()
    assert [each["name"] for each in json.loads(out.out)] == [DOTTED] and "torn/sweep.yaml" in out.err


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("base.name", "os"),
        ("adapter.name", "_peft"),
        ("adapter.name", "???"),
        ("captions.trigger", "\x1b[31m"),
    ],
)
def test_a_strangers_run_is_checked_before_its_names_are_imported(
    key: str, value: str, dotted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = dotted / "0000-a-s0" / "recipe.yaml"
    recipe = yaml.safe_load(file.read_text())
    group, name = key.split(".")
    recipe[group][name] = value
    file.write_text(yaml.safe_dump(recipe))
    (dotted / "0000-a-s0" / "adapter.safetensors").touch()
    assert key in told(["export", f"{DOTTED}/0"], capsys, code=2)
    assert "recipe.yaml" in told(["fork", f"{DOTTED}/0", "seed=1"], capsys, code=2)
    assert "recipe.yaml" in told(["train", "--from", f"{DOTTED}/0"], capsys, code=2)


def test_an_adapter_is_exported_though_its_images_are_gone(dotted: Path) -> None:
    file = dotted / "0000-a-s0" / "recipe.yaml"
    recipe = yaml.safe_load(file.read_text())
    recipe["dataset"]["path"] = "/gone"
    file.write_text(yaml.safe_dump(recipe))
    assert runs.find_run(f"{DOTTED}/0", subject="test", to_cook=False).recipe.dataset.path == "/gone"
    with pytest.raises(InputError, match="no such folder"):
        runs.find_run(f"{DOTTED}/0", subject="test")


def test_what_was_killed_is_not_running_for_ever(dotted: Path, home: Path) -> None:
    train = home / "outputs" / "train"
    train.mkdir()
    os.rename(dotted / "0001-b.2-s0", train / "aaaa-s0")
    killed = [dotted / "0000-a-s0", train / "aaaa-s0"]
    for run in killed:
        files.write_json(run / "status.json", {**files.read_json(run / "status.json"), "status": "RUNNING"})
    with sweep_lock(train / "aaaa-s0"):
        shown = [ls.open_run(str(run)) for run in killed]
        assert [run.status.value for run in shown] == ["CANCELLED", "RUNNING"]
        assert "its driver is gone" in str(shown[0]) and "RUNNING" in str(shown[1])
        assert main(["sync"]) == 0
        assert [files.read_json(run / "status.json")["status"] for run in killed] == ["CANCELLED", "RUNNING"]
    assert main(["sync", "train"]) == 0
    assert files.read_json(killed[1] / "status.json")["status"] == "CANCELLED"
