"""Sweeps for the pretend trial."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lorasweep.config import Arm, Search, SweepSpec
from lorasweep.config.space import Space
from lorasweep.config.sweep_spec import SamplerOptions
from lorasweep.core.findings import Finding
from lorasweep.core.records import (
    BaseOptions,
    Bucket,
    CaptionOptions,
    Component,
    DatasetOptions,
    LauncherOptions,
    Plan,
    PlannedImage,
    Recipe,
    SampleOptions,
    TrackingOptions,
    TrainOptions,
    digest,
)
from lorasweep.sweep.ranking.state import params

STEPS = 8
TRIAL_MODULE = "pretend_trial"
sys.path.insert(0, str(Path(__file__).parent))  # spawned workers inherit it


def recipe(**ways: Any) -> Recipe:
    part = Component(name="none")
    return Recipe(
        seed=0,
        base=BaseOptions(name="dollhouse", path=None, resolution=64, bucket_step=8),
        dataset=DatasetOptions(),
        captions=CaptionOptions(),
        buckets=part,
        adapter=Component(name="lora", options={"dim": 2, "targets": "attn"}),
        optimizer=part,
        scheduler=part,
        regularization={"pretend": ways},
        train=TrainOptions(max_steps=STEPS, device="cpu"),
        sample=SampleOptions(),
        metrics={},
    )


IMAGE = PlannedImage(
    file="/none.png",
    sha256="",
    concept="",
    caption="",
    split="train",
    repeats=1,
    width_px=64,
    height_px=64,
    bucket=Bucket(width_px=64, height_px=64),
    resize_px=(64, 64),
    crop_px=(0, 0),
)


def plan(recipe: Recipe) -> Plan:
    return Plan(
        fingerprint=digest([recipe.fingerprint(), ""]),
        images=(IMAGE,),
        trigger=None,
        batches_per_epoch=1,
        steps_per_epoch=1,
        steps=STEPS,
        exposures={},
        tag_exposures={},
        exposures_per_image=float(STEPS),
        rungs=(STEPS // 2, STEPS),
        prompts={},
        warnings=(Finding("as a folder of one's own has some", level="should"),),
    )


def spec(
    arms: dict[str, dict[str, Any]],
    *,
    seeds: tuple[int, ...] = (0,),
    workers: int = 2,
    goal: Any = "maximize",
) -> SweepSpec:
    """Arms by name, each with its ways of behaving; `tag` makes recipes differ that behave alike."""
    made = tuple(
        Arm(
            name=name,
            note="",
            overrides=tuple(f"{key}={value}" for key, value in ways.items()),
            recipe=recipe(**ways),
        )
        for name, ways in arms.items()
    )
    return SweepSpec(
        name="pretend",
        question="Does the engine keep its promises?",
        metric="overcook/utility",
        goal=goal,
        worst=0.0,
        seeds=seeds,
        arms=made,
        launcher=LauncherOptions(workers=workers, options={"pack": 1}),  # as ssh and Ray; test_pack.py has more
        tracking=TrackingOptions(name="none"),
    )


def space_spec(
    space: Space,
    *,
    total: int,
    arms: dict[str, dict[str, Any]] | None = None,
    sampler: SamplerOptions | None = None,
    **more: Any,
) -> SweepSpec:
    """A sweep over a space whose keys are ways of behaving."""
    declared = spec(arms or {}, **{key: more.pop(key) for key in ("seeds", "workers", "goal") if key in more})
    search = Search(
        space=space,
        total=total,
        sampler=sampler or SamplerOptions(name="random"),
        common=(),
        overrides=(),
        corners=(Arm(name="corner", note="", overrides=(), recipe=recipe()),),
    )
    return dataclasses.replace(declared, search=search, **more)


def compose(overrides: Sequence[str]) -> tuple[Recipe, Plan]:
    """What `config` and `plan` do for real recipes."""
    made = recipe(**params(overrides))
    return made, plan(made)


def plans(spec: SweepSpec) -> dict[str, Plan]:
    return {arm.name: plan(arm.recipe) for arm in spec.known}


def cook(spec: SweepSpec, folder: Path, **more: Any) -> Any:
    from lorasweep.sweep.driver import run_sweep

    # The folders of other tests lie beside this one, and what was cooked there must not be taken from there.
    more = {"fresh": True, **more}
    return run_sweep(spec, plans(spec), folder=folder, trial_module=TRIAL_MODULE, compose=compose, **more)


def numbered_arms(count: int, **ways: Any) -> dict[str, dict[str, Any]]:
    return {f"arm{index}": {"tag": index, **ways} for index in range(count)}
