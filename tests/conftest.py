"""Fixtures for every test: one thread, and a home of its own."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
def on_tiny_sd(tiny_sd: Path) -> list[str]:
    """The words that put a recipe on that base, which takes a fifth of the dollhouse's time."""
    return ["base=stable_diffusion", f"base.path={tiny_sd}", "base.resolution=32", "base.bucket_step=8"]


@pytest.fixture
def base(tiny_sd: Path, request: pytest.FixtureRequest) -> Any:
    """The same, freshly loaded; in single precision unless parametrized with another."""
    from tiny_training import make_recipe

    from lorasweep.components.bases import stable_diffusion

    return stable_diffusion.load(make_recipe(tiny_sd).base, device="cpu", precision=getattr(request, "param", "fp32"))


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
def tiny_flow(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """By the name of a base, a diffusers folder with a tiny random one; made once, not to be written to."""
    from tiny_flow import make_tiny

    folder = tmp_path_factory.mktemp("flow")
    return functools.cache(lambda name: make_tiny(name, folder / name))


@pytest.fixture(scope="session")
def tiny_sdxl_v(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same kind, predicting v with zero terminal SNR."""
    from tiny_sdxl import make_tiny_sdxl

    return make_tiny_sdxl(tmp_path_factory.mktemp("bases") / "tiny_sdxl_v", v_and_zero_snr=True)
