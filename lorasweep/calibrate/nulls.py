"""The harmless controls: the base itself, and random adapters as large as a healthy one.

    recipe + a healthy checkpoint  ->  its judgement with nothing learned

A random adapter moves every prediction a little without knowing anything, so what it shows is what weights of
that size do by themselves. Each of its modules adds a change of the very Frobenius norm that the healthy
adapter's module adds. Knows nothing about limits.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasweep import class_images, files, keep, seeds
from lorasweep.plan import drawing
from lorasweep.records import Plan, Recipe

if TYPE_CHECKING:
    from lorasweep.adapters._peft import PeftAdapter
    from lorasweep.kitchen import Kitchen
    from lorasweep.metrics.calibration import Calibration

RANDOM = 2  # random adapters


def judge_nulls(
    recipe: Recipe, plan: Plan, kitchen: Kitchen, calibration: Calibration, *, healthy: Path, folder: Path
) -> dict[str, list[dict[str, Any]]]:
    """Judge the harmless controls as a rung is judged.

    Args:
        recipe: a control's: the same adapter.
        plan: its images and prompts.
        kitchen: gives the base and the probes.
        calibration: only to score with; the limits are not looked at.
        healthy: the `adapter.safetensors` that gives the random ones their size.
        folder: gets the pictures.

    Returns:
        By control ("base", "random"), one row per adapter with "metrics", "missing" and "replicates".
    """
    base = kitchen.base(recipe)
    plan = class_images.draw(base, recipe, plan)
    module = importlib.import_module(f"lorasweep.adapters.{recipe.adapter.name}")
    adapter: Any = module.build(base, seed=recipe.seed, **recipe.adapter.options)
    try:
        found: dict[str, list[dict[str, Any]]] = {}
        for name, seed in _ready(adapter, recipe, healthy):
            row = _judge(recipe, plan, kitchen, calibration, adapter, folder=folder / f"{name}_{seed}")
            found.setdefault(name, []).append(row)
        return found
    finally:
        adapter.remove()


def _ready(adapter: PeftAdapter, recipe: Recipe, healthy: Path) -> Iterator[tuple[str, int]]:
    """Put one harmless control after the other into the adapter; yields its name and number."""
    from safetensors.torch import load_file

    yield "base", 0  # a fresh adapter changes nothing
    fresh, learned = adapter.state_dict(), load_file(healthy)
    for number in range(RANDOM):
        adapter.load_state_dict(learned if learned.keys() == fresh.keys() else fresh)
        randomise(adapter, seeds.derive(recipe.seed, "random control", number))
        yield "random", number


def randomise(adapter: PeftAdapter, seed: int) -> None:
    """Replace what an adapter has learned by noise of the same size, module by module."""
    import torch

    from lorasweep.adapters._norms import changes

    wanted = [change.norm for change in changes(adapter)]
    with torch.no_grad():
        for key, parameter in adapter.named_parameters():
            generator = torch.Generator().manual_seed(seeds.derive(seed, key))
            noise = torch.randn(parameter.shape, generator=generator).to(parameter.device)
            parameter.copy_(noise * (parameter.norm() / noise.norm()))
        for norm, change in zip(wanted, list(changes(adapter)), strict=True):
            ratio = norm / change.norm.clamp(min=torch.finfo(torch.float32).tiny)
            for factor in change.factors:
                factor.mul_(ratio ** (1 / len(change.factors)))


def _judge(
    recipe: Recipe, plan: Plan, kitchen: Kitchen, calibration: Calibration, adapter: Any, *, folder: Path
) -> dict[str, Any]:
    from lorasweep import sample

    options, base = recipe.sample, kitchen.base(recipe)
    requests = drawing.at_rung(recipe, plan)
    images = sample.draw(base, adapter, requests, options)
    samples = sample.write(folder, requests, images, base=base, options=options, adapter_file=None)
    context = kitchen.judge_context(recipe, plan, adapter=adapter, samples=samples, step=0, history=())
    found, replicates = keep.judge_in_full(context, calibration, histories=[])
    row = {"metrics": found.values, "missing": found.missing, "replicates": replicates}
    files.write_json(folder / "judged.json", row)
    return row
