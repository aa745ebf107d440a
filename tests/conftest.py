"""Fixtures for every test: one thread, and a home of its own."""

from __future__ import annotations

import functools
import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Small models do best with one thread; set before torch is imported by any test.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_finish() -> None:
    """Spare the collector what is imported by now, and let it look less often: it took a fifth of the tests' time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh LORASWEEP_HOME; nothing outside it is written."""
    monkeypatch.setenv("LORASWEEP_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a line of shell in the place of the GPU driver's tool."""
    if os.name == "nt":
        pytest.skip("a script in the driver's place")

    def put(line: str) -> None:
        tool = tmp_path / "tools" / "nvidia-smi"
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f"#!/bin/sh\n{line}\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")

    return put


@pytest.fixture(scope="session", autouse=True)
def drawn_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Draw a dollhouse dataset once: every further home has a copy of it."""
    from lorasweep.core.records import DollhouseOptions, digest
    from lorasweep.plan import dollhouse_dataset

    draw, folder = dollhouse_dataset._write_dataset, tmp_path_factory.mktemp("dollhouse")

    def copy(options: DollhouseOptions, draft: Path) -> None:
        if not (drawn := folder / digest([options])).exists():
            draw(options, whole := Path(tempfile.mkdtemp(dir=folder)))
            whole.rename(drawn)
        for file in (
            path for path in drawn.rglob("*") if path.is_file()
        ):  # copytree hides why a file cannot be written
            place = draft / file.relative_to(drawn)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dollhouse_dataset, "_write_dataset", copy)
        yield


@pytest.fixture(scope="module")
def quick_trials() -> Iterator[None]:
    """Trials of this process copy a base that is read once and ask it few questions: where neither is the point."""
    from types import SimpleNamespace

    from fresh_bases import fresh

    from lorasweep.trial.judge import probe_builder, probes

    few = probes.ProbeOptions(pairs=2, noises=1, prior_images=1, prior_steps=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lorasweep.trial.resources._module", lambda recipe: SimpleNamespace(load=fresh))
        patch.setattr(probe_builder, "build", functools.partial(probe_builder.build, options=few))
        yield


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
    from fresh_bases import fresh
    from tiny_training import make_recipe

    return fresh(make_recipe(tiny_sd).base, precision=getattr(request, "param", "fp32"))


@pytest.fixture
def new_slot(base: Any, tiny_sd: Path, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Make slots on `base`; keyword arguments replace fields of the recipe."""
    from tiny_training import make_plan, make_recipe

    from lorasweep.trial.cache import LatentCache, Store, TextCache
    from lorasweep.trial.train.slot import Slot, make_slot

    store = Store(tmp_path / "cache")
    latents, texts = LatentCache(base, store), TextCache(base, store)
    made: list[Slot] = []

    def make(**changes: Any) -> Slot:
        recipe = make_recipe(tiny_sd, **changes)
        plan = make_plan(recipe, tmp_path / "images")
        made.append(make_slot(base, recipe, plan, latents=latents, texts=texts))
        return made[-1]

    yield make
    for slot in made:
        slot.close()


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


@pytest.fixture
def training_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the workers of sweeps that are driven here with torch imported: that takes longer than a small trial."""
    from ready_processes import TrainingProcess, start_ready

    from lorasweep.sweep.workers import pool

    start_ready(monkeypatch, pool, TrainingProcess)
