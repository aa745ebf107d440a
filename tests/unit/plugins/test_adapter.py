"""An adapter of a plugin that has what its protocol asks for and nothing else, from its suite to its exported file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import worked_plugin
from ready_processes import run_module
from tiny_training import FEW_PICTURES

QUICK = (
    *("adapter=gain", "train.max_steps=2", "train.rungs=1", "train.device=cpu", "dataset.dollhouse.images=6"),
    *("metrics=[generalisation,norms]", "sample.steps=1", "sample.seeds=[0]", "tracking=none", *FEW_PICTURES),
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gain")
    (folder / "gains" / "conf" / "adapter").mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("gain.py"), folder / "gains" / "gain.py")
    (folder / "gains" / "conf" / "adapter" / "gain.yaml").write_text("name: gain\nstrength: 1.0\n", encoding="utf-8")
    worked_plugin.write_metadata(folder, "gains", {"lorasweep.adapters": {"gain": "gains.gain"}})
    return folder


def run(site: Path, home: Path, *words: str, name: str = "lorasweep", trains: bool = False) -> tuple[int, str]:
    environment = {"LORASWEEP_HOME": str(home), "COLUMNS": "200"}
    done = run_module(name, *words, environment=environment, path=[site], trains=trains)
    return done.returncode, (done.stdout + done.stderr).decode()


def test_it_passes_the_suite_of_adapters(site: Path, home: Path) -> None:
    test = site / "test_gain.py"
    test.write_text('from lorasweep.testing.adapters import *\n\nCHOICES = ["gain"]\n', encoding="utf-8")
    code, told = run(site, home, "-q", "-p", "no:cacheprovider", str(test), name="pytest", trains=True)
    assert code == 0 and "11 passed, 1 skipped" in told, told


def test_it_is_trained_and_exported_as_its_own_tensors_and_what_it_cannot_is_said(site: Path, home: Path) -> None:
    code, told = run(site, home, "train", *QUICK, trains=True)
    assert code == 0, told
    code, told = run(site, home, "export", "train/0")
    assert code == 0 and "gain, 14 modules" in told and "read as judged by no program that is known\n" in told, told
    for words in (["--form", "lora"], ["--for", "kohya"]):
        code, told = run(site, home, "export", "train/0", *words, trains=True)
        assert code == 2 and "adapter=gain does not tell what it adds to a weight" in told, told
    code, told = run(site, home, "plan", *QUICK, "regularization=scale_norm")
    assert code == 2 and "scale_norm cannot brake gain" in told and "a plugin's adapter says IS_PRODUCT = True" in told
    code, told = run(site, home, "calibrate", *QUICK[: -len(FEW_PICTURES)], "--rungs", "3", trains=True)
    assert code == 2 and "random ones can be as large, gain does not" in told, told
    assert not list(home.glob("outputs/calibrate*")), "before any control is cooked"
