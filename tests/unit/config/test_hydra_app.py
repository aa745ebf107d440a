"""lorasweep as a Hydra app: what a Hydra user types, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lorasweep.cli import _is_hydras, main
from lorasweep.config import hydra_app
from lorasweep.config.hydra_app import refuse_launcher
from lorasweep.core.errors import ConfigError


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    import os

    command = [sys.executable, "-m", "lorasweep", *words]
    surroundings = {**os.environ, "LORASWEEP_HOME": str(cwd)}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=cwd, env=surroundings)


@pytest.mark.parametrize(
    ("words", "hydras"),
    [
        ("-m optimizer=adamw,prodigy", True),
        ("optimizer=adamw,prodigy --multirun", True),
        ("train adapter.dim=4,8 -m", True),
        ("--cfg job", True),
        ("train --cfg=job", True),
        ("-sc install=bash", True),
        ("train adapter.dim=4", False),
        ("sweep quickstart", False),
        ("plan -m", False),
        ("--help", False),
        ("", False),
    ],
)
def test_who_answers(words: str, hydras: bool) -> None:
    assert _is_hydras(words.split()) is hydras


@pytest.mark.parametrize(
    ("words", "name"), [("sweep=conditional sweep.total=4", "conditional"), ("sweep.total=4", None)]
)
def test_a_multiruns_words_are_those_of_our_own_command_line(
    words: str, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: list[list[str]] = []
    monkeypatch.setattr(hydra_app, "_hydra", handed.append)

    hydra_app.run_app(["-m", *words.split(), "captions.trigger=红,007"], commands=())

    assert handed == [["hydra/sweeper=lorasweep", "-m"]]  # Hydra's own parser would stop at the trigger
    assert hydra_app.read_words() == (name, ["sweep.total=4", "captions.trigger=红,007"])


@pytest.mark.parametrize("place", [["-m"], ["--cfg", "job"]])
def test_settings_of_hydras_own_are_refused(place: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["hydra.sweep.dir=elsewhere", "+hydra.job.chdir=true", "hydra.searchpath=[file:///tmp]"]

    assert main([*place, "adapter.dim=4,8", *words]) == 2

    said = capsys.readouterr().err
    assert all(word in said for word in words)


def test_another_programs_configuration_beside_the_caller_is_not_ours(tmp_path: Path) -> None:
    for name in ("conf/recipe.yaml", "conf/adapter/lora.yaml", "sweeps/quickstart.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("program: another\n", encoding="utf-8")
    plugins = tmp_path / "hydra_plugins"
    plugins.mkdir()
    (plugins / "__init__.py").touch()
    (plugins / "other.py").write_text("raise RuntimeError('somebody else')\n", encoding="utf-8")

    planned = run("plan", "quickstart", "--json", cwd=tmp_path)
    several = run("-m", "adapter.dim=-1,4", cwd=tmp_path)

    assert planned.returncode == 0, planned.stderr
    assert '"name": "quickstart"' in planned.stdout
    assert several.returncode == 2 and "must be >= 1, got -1" in several.stderr


def test_other_launchers_are_refused() -> None:
    refuse_launcher("basic")
    refuse_launcher("hydra._internal.core_plugins.basic_launcher.BasicLauncher")
    with pytest.raises(ConfigError, match="load the base model anew"):
        refuse_launcher("submitit_slurm")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("-m seed=1,2 hydra/launcher=joblib", "`joblib` cannot start lorasweep's trials"),
        ("-m seed=1,2 hydra/sweeper=optuna", "`optuna` cannot drive lorasweep's workers"),
        ("-m seed=1,2 --experimental-rerun=x.pickle", "does not apply here"),
        ("-m seed=1,2 --config-dir=elsewhere", "does not apply here"),
        ("-m adapter.dim=4,8 --cfg job", "--multirun  cannot be combined with --cfg"),
        ("train --cfg job --info all", "--cfg  cannot be combined with --info"),
        ("train optimizer=prodgy --cfg job", "did you mean `prodigy`?"),
    ],
)
def test_what_does_not_apply_is_refused_before_anything_starts(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    assert message in capsys.readouterr().err


def test_a_multirun_goes_through_the_plugin_to_our_own_checks(tmp_path: Path) -> None:
    done = run("-m", "adapter.dim=-1,4", "train.epochs=1,2", cwd=tmp_path)

    assert done.returncode == 2, done.stderr
    said = " ".join(done.stderr.split())
    assert "adapter.dim must be >= 1, got -1" in said
    assert "train.epochs cannot be searched" in said
    assert list(tmp_path.iterdir()) == []  # neither `multirun/` nor `outputs/`: nothing was started


def test_cfg_job_prints_the_composed_recipe(tmp_path: Path) -> None:
    done = run("train", "adapter=locon", "adapter.dim=4", "--cfg", "job", "-p", "adapter", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "name: locon" in done.stdout and "dim: 4" in done.stdout


COMPLETE = """
import os, sys
from lorasweep.cli import main

for line in sys.argv[1:]:
    os.environ |= {"COMP_LINE": line, "COMP_POINT": str(len(line))}
    print("asked:", line)
    try:
        code = main(["-sc", "query=bash"])
    except SystemExit as stop:
        code = stop.code
    assert not code, line
"""


def test_tab_completes_keys_files_and_commands(home: Path) -> None:
    offered = {
        "lorasweep train optimizer=ada": "optimizer=adamw",
        "lorasweep sweep quickstart adapter.d": "adapter.dim=",
        "lorasweep -m hydra/sweeper=": "hydra/sweeper=lorasweep",
        "lorasweep expo": "export",
        "lorasweep sweep quick": "quickstart",
    }
    command = [sys.executable, "-c", COMPLETE, *offered]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=home)

    assert done.returncode == 0, done.stderr
    _, *answers = done.stdout.split("asked: ")
    for line, answer in zip(offered, answers, strict=True):
        assert answer.startswith(line) and offered[line] in answer.removeprefix(line).split(), line
