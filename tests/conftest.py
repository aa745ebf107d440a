"""Fixtures for every test: one thread, and a home of its own."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

# Small models do best with one thread; set before torch is imported by any test.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh LORASWEEP_HOME; nothing outside it is written."""
    monkeypatch.setenv("LORASWEEP_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder with a tiny random Stable Diffusion; made once, not to be written to."""
    spec = importlib.util.spec_from_file_location("tiny_sd", Path(__file__).parent / "tiny_sd.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder: Path = module.make_tiny_sd(tmp_path_factory.mktemp("bases") / "tiny_sd")
    return folder
