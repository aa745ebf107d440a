"""Pickles are refused; servers that we start are for this machine only."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest

from lorasweep.cli import main
from lorasweep.core.errors import InputError
from lorasweep.results.tracking import ui


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> object:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "model.bin", "model.pkl"])
def test_a_pickled_checkpoint_is_refused_unopened(name: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / name).write_bytes(pickle.dumps(Bomb(home / "ran")))

    assert main(["train", "base=stable_diffusion", f"base.path={home / name}", "tracking=none"]) == 2

    assert "base.path" in capsys.readouterr().err and not (home / "ran").exists()


def test_pickled_weights_in_a_diffusers_folder_are_refused_unopened(
    tiny_sd: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(tiny_sd, home / "base")
    for weights in folder.rglob("*.safetensors"):
        weights.with_suffix(".bin").write_bytes(pickle.dumps(Bomb(home / "ran")))
        weights.unlink()

    assert main(["train", "base=stable_diffusion", f"base.path={folder}", "tracking=none"]) == 2

    assert "base.path" in capsys.readouterr().err and not (home / "ran").exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.0.7", "example.org"])
def test_the_ui_listens_on_loopback_only(host: str, home: Path) -> None:
    with pytest.raises(InputError, match="must be this machine"):
        ui.serve(host=host)


def test_the_uis_server_is_told_so() -> None:
    command = ui._command("127.0.0.1", 5000)

    assert command[command.index("--host") + 1] == "127.0.0.1"
