"""Fixtures for every test: one thread, and a home of its own."""

from __future__ import annotations

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
    from tiny_sd import make_tiny_sd

    return make_tiny_sd(tmp_path_factory.mktemp("bases") / "tiny_sd")


@pytest.fixture(scope="session")
def tiny_sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder with a tiny random Stable Diffusion XL; made once, not to be written to."""
    from tiny_sdxl import make_tiny_sdxl

    return make_tiny_sdxl(tmp_path_factory.mktemp("bases") / "tiny_sdxl")


@pytest.fixture(scope="session")
def tiny_flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder with a tiny random FLUX.1; made once, not to be written to."""
    from tiny_flux import make_tiny_flux

    return make_tiny_flux(tmp_path_factory.mktemp("bases") / "tiny_flux")


@pytest.fixture(scope="session")
def tiny_sdxl_v(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same kind, predicting v with zero terminal SNR."""
    from tiny_sdxl import make_tiny_sdxl

    return make_tiny_sdxl(tmp_path_factory.mktemp("bases") / "tiny_sdxl_v", v_and_zero_snr=True)
