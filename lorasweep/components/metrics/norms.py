"""N: how far have the weights moved, and did directions appear that the base never had? Covariates only.

For every adapted module with weight W, the change D that the adapter makes at the judged weight:

    relative, relative_max   |D| / |W| in Frobenius norm, mean and maximum over modules
    spectral_max             largest singular value of D over W's, maximum over modules
    stable_rank              |D|_F^2 / |D|_2^2, mean over modules: how many directions really moved
    intruders                of the first 10 left singular vectors of W + D, those whose cosine with every
                             left singular vector of W is below 0.5; mean number per module

D is the adapter's own account of itself, exact for every kind, DoRA and (IA)^3 included. Norms are not
comparable between algorithms, ranks or sets of modules; that is why nothing is concluded from them.

Source: Shuttleworth et al., "LoRA vs full fine-tuning: an illusion of equivalence" (arXiv 2410.21228),
definition 1 (intruder dimensions), with k = 10 and epsilon = 0.5.

Letters: O outputs, I inputs of a module (for a convolution inputs x kernel area).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from lorasweep.core.protocols import JudgeContext, TellsChanges, frozen_weight
from lorasweep.core.records import Measurement, Plan, Recipe

if TYPE_CHECKING:
    import torch


NAME = "norms"
NEEDS_PICTURES = False
PROBES = ()
TOP = 10  # singular vectors that are looked at
ALIKE = 0.5  # cosine from which a direction counts as the base's own


@dataclass(frozen=True, kw_only=True)
class Norms:
    """See the module."""

    decompose: Annotated[int, Field(ge=0)]

    def measure(self, context: JudgeContext) -> Measurement:
        """Measure every module's norm, and decompose some of them."""
        values: dict[str, float] = context.memoized(NAME, lambda: self._of(context))
        if not values:
            return Measurement(
                missing={f"{NAME}/relative": "the adapter tells no change of a linear or convolution that is on"}
            )
        return Measurement(values=dict(values))

    def _of(self, context: JudgeContext) -> dict[str, float]:
        adapter: Any = context.adapter
        layers = list(adapter.layers.values()) if isinstance(adapter, TellsChanges) else []
        layers = [layer for layer in layers if getattr(getattr(layer.get_base_layer(), "weight", None), "ndim", 0) > 1]
        every = max(1, -(-len(layers) // self.decompose)) if self.decompose else len(layers) + 1
        relative, parts = [], []
        for place, layer in enumerate(layers):
            change_OI = context.weight * adapter.delta(layer).detach().flatten(1)
            base_OI = frozen_weight(layer.get_base_layer()).to(change_OI.device).float().flatten(1)
            if not base_OI.any():
                continue  # of a layer that is off there is no share
            relative.append(float(change_OI.norm() / base_OI.norm()))
            if (place + 1) % every == 0:
                parts.append(decomposed(base_OI, change_OI))
        if not relative:
            return {}
        # numpy's max keeps a NaN, Python's only in the first place
        found = {f"{NAME}/relative": _mean(relative), f"{NAME}/relative_max": float(np.max(relative))}
        if parts:
            found[f"{NAME}/spectral_max"] = float(np.max([part.spectral for part in parts]))
            found[f"{NAME}/stable_rank"] = _mean([part.stable_rank for part in parts])
            found[f"{NAME}/intruders"] = _mean([part.intruders for part in parts])
        return found


build = Norms


def names(recipe: Recipe, plan: Plan) -> dict[str, str]:
    """Return the numbers that `measure` gives for a recipe, and why it cannot; empty when it can."""
    decomposed = ("spectral_max", "stable_rank", "intruders")
    why = "" if recipe.metrics[NAME]["decompose"] else f"metrics.{NAME}.decompose is 0"
    return {f"{NAME}/relative": "", f"{NAME}/relative_max": ""} | {f"{NAME}/{name}": why for name in decomposed}


@dataclass(frozen=True, kw_only=True)
class Decomposed:
    """What the singular vectors of a base weight and of a change of it say."""

    spectral: float  # largest singular value of the change over the base's; >= 0
    stable_rank: float  # squared Frobenius over squared spectral norm of the change; 0 without any change
    intruders: float  # of the first `TOP` left singular vectors of the sum, those that resemble none of the base


def decomposed(base_OI: torch.Tensor, change_OI: torch.Tensor) -> Decomposed:
    """Compare a base weight with a change of it; both (O, I). Of one with infinity nothing is known: inf, NaN."""
    import torch

    if not change_OI.isfinite().all():
        return Decomposed(spectral=math.inf, stable_rank=math.nan, intruders=math.nan)
    left_OK, base_values, _ = torch.linalg.svd(base_OI, full_matrices=False)
    changed_OK = torch.linalg.svd(base_OI + change_OI, full_matrices=False).U[:, :TOP]
    resemblance = (changed_OK.T @ left_OK).abs().amax(1)
    largest = float(torch.linalg.matrix_norm(change_OI, ord=2))
    return Decomposed(
        spectral=largest / float(base_values[0]),
        stable_rank=float(change_OI.norm()) ** 2 / largest**2 if largest > 0 else 0.0,
        intruders=int((resemblance < ALIKE).sum()),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
