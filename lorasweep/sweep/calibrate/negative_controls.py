"""The harmless controls: the base itself, and random adapters as large as a healthy one.

    recipe + a healthy checkpoint  ->  its judgement with nothing learned

A random adapter moves every prediction a little without knowing anything, so what it shows is what weights of
that size do by themselves. Each of its modules adds a change of the very Frobenius norm that the healthy
adapter's module adds, whatever the kind of adapter. Knows nothing about limits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasweep.core import files, registry, seeds
from lorasweep.core.errors import InputError, LorasweepError, Problem
from lorasweep.core.protocols import TellsChanges
from lorasweep.core.records import Plan, Recipe
from lorasweep.core.run_folder import JUDGED_FILE
from lorasweep.plan import sample_requests
from lorasweep.trial import class_images, finish
from lorasweep.trial.resources import build_adapter

if TYPE_CHECKING:
    import torch

    from lorasweep.components.adapters._peft import PeftAdapter
    from lorasweep.plan.calibration import Calibration
    from lorasweep.trial.resources import TrialResources

RANDOM = 2  # random adapters
CLOSE = 0.01  # a random adapter's size may differ from the healthy one's by this share
TRIES = 30  # at the scale of the noise; ten halve a factor of two to a thousandth


def require_changes(recipe: Recipe) -> None:
    """Find out whether random adapters can be made as large as a healthy one; lorasweep's own tell what they add.

    Raises:
        InputError: a plugin's does not; or base or adapter cannot be built.
    """
    if not registry.find_plugins("adapter", recipe.adapter.name):
        return
    base = registry.load("base", recipe.base.name).load(recipe.base, device="cpu", precision="fp32")
    if not isinstance(build_adapter(base, recipe, trained=True), TellsChanges):
        message = (
            f"must tell what it adds to a weight, so that random ones can be as large, {recipe.adapter.name} does not"
        )
        raise InputError(Problem("adapter", message, "protocols.TellsChanges says how"), subject="calibrate")


def judge_nulls(
    recipe: Recipe, plan: Plan, resources: TrialResources, calibration: Calibration, *, healthy: Path, folder: Path
) -> dict[str, list[dict[str, Any]]]:
    """Judge the harmless controls as a rung is judged; `folder` gets the pictures.

    Of a control's recipe and plan; the limits of `calibration` are not looked at; `healthy` is the
    `adapter.safetensors` that gives the random ones their size.

    Returns:
        By control ("base", "random"), one row per adapter with "metrics", "missing", "replicates" and "size",
        the Frobenius norm of all that it changes.

    Raises:
        AdapterError: the healthy file is not of this kind of adapter.
        LorasweepError: it changes nothing, or no random adapter of its size could be made.
    """
    base = resources.base(recipe)
    plan = class_images.draw(base, recipe, plan)
    adapter: Any = build_adapter(base, recipe, trained=True)
    try:
        found: dict[str, list[dict[str, Any]]] = {}
        for name, number in _ready(adapter, recipe, healthy):
            row = _judge(recipe, plan, resources, calibration, adapter, folder=folder / f"{name}_{number}")
            found.setdefault(name, []).append(row)
        return found
    finally:
        adapter.remove()


def size(adapter: PeftAdapter) -> float:
    """Measure all that an adapter at weight 1 adds to the base's weights: its Frobenius norm."""
    return math.hypot(*_norms(adapter).values())


def _norms(adapter: PeftAdapter) -> dict[str, float]:
    """Measure what an adapter at weight 1 adds to each module's weight: Frobenius norms by module."""
    import torch

    with torch.no_grad():
        found = {module: adapter.delta(layer) for module, layer in adapter.layers.items()}
        return {module: float(torch.linalg.vector_norm(delta.float())) for module, delta in found.items()}


def _ready(adapter: PeftAdapter, recipe: Recipe, healthy: Path) -> Iterator[tuple[str, int]]:
    """Put one harmless control after the other into a fresh adapter; yields its name and number."""
    yield "base", 0  # a fresh adapter changes nothing
    fresh = adapter.state_dict()
    adapter.load(healthy)
    learned, wanted = adapter.state_dict(), size(adapter)
    if not (math.isfinite(wanted) and wanted > 0):
        raise LorasweepError(f"{healthy} has size {wanted:g}: no random adapter can be made as large")
    for number in range(RANDOM):
        adapter.load_state_dict(learned)
        randomise(adapter, fresh, seeds.derive(recipe.seed, "random control", number))
        if not math.isclose(size(adapter), wanted, rel_tol=CLOSE):
            kind = recipe.adapter.name
            raise LorasweepError(
                f"no random {kind} as large as {healthy} could be made: {size(adapter):g}, not {wanted:g}"
            )
        yield "random", number


def randomise(adapter: PeftAdapter, fresh: Mapping[str, torch.Tensor], seed: int) -> None:
    """Replace what an adapter has learned since `fresh` by noise, so that every module changes by as much as before.

    Noise as long as what a tensor has learned is added to where the tensor started, times a scale per module
    that is found by trying: how a tensor acts differs between kinds, but with none of it none does anything. Every
    tensor's noise has a generator of its own.
    """
    import torch

    wanted = _norms(adapter)
    learned = {}
    for key, parameter in itertools.chain(*(each.items() for each in adapter.by_module().values())):
        generator = torch.Generator().manual_seed(seeds.derive(seed, key))
        noise = torch.randn(parameter.shape, generator=generator)
        learned[key] = noise * ((parameter.detach().cpu() - fresh[key]).norm() / noise.norm())
    scales = dict.fromkeys(wanted, 1.0)
    for _ in range(TRIES):
        for module, parameters in adapter.by_module().items():
            for key, parameter in parameters.items():
                parameter.data.copy_(fresh[key] + scales[module] * learned[key])
        now = _norms(adapter)
        if all(math.isclose(now[module], norm, rel_tol=CLOSE / 10) for module, norm in wanted.items()):
            return
        # The root halves the error of a change that grows with the scale; one with its square is hit at once.
        scales = {m: scales[m] * math.sqrt(norm / (now[m] or 1.0)) for m, norm in wanted.items()}


def _judge(
    recipe: Recipe, plan: Plan, resources: TrialResources, calibration: Calibration, adapter: Any, *, folder: Path
) -> dict[str, Any]:
    from lorasweep.trial import sample

    options, base = recipe.sample, resources.base(recipe)
    requests = sample_requests.at_rung(recipe, plan)
    images = sample.draw(base, adapter, requests, options)
    samples = sample.write(folder, requests, images, base=base, options=options, adapter_file=None)
    context = resources.judge_context(recipe, plan, adapter=adapter, samples=samples, step=0, history=())
    found, replicates = finish.judge_in_full(context, calibration, histories=[])
    row = {"metrics": found.values, "missing": found.missing, "replicates": replicates, "size": size(adapter)}
    files.write_json(folder / JUDGED_FILE, row)
    return row
