"""Max-norm: a module whose change has outgrown a limit is scaled back to it, after every step.

What overcooks first are a few modules that run away; the others are not touched. The norms are logged whether
or not anything is scaled, so a limit of 10 only watches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

SCALES_WEIGHTS = True  # after every step, each factor of a product


@dataclass(frozen=True, kw_only=True)
class ScaleNorm:
    """See `protocols.WeightRegularizer`.

    With n = max(||dW||, max_norm / 2) and ratio = min(n, max_norm) / n, each of a change's k factors is
    multiplied by ratio^(1/k).

    Source: kohya-ss/sd-scripts, networks/lora.py, apply_max_norm_regularization (`scale_weight_norms`).
    """

    max_norm: Annotated[float, Field(gt=0, description="1 to begin with, 10 to only watch the norms")]

    def after_step(self, adapter: Any) -> dict[str, float]:
        """Scale what is too large.

        Returns:
            `norm/mean` and `norm/max` over modules, after scaling; `norm/keys_scaled`, how many were.
        """
        import torch

        changes = list(adapter.by_module().values())  # linear in each of their factors
        with torch.no_grad():
            norms = torch.stack([torch.linalg.vector_norm(adapter.delta(layer)) for layer in adapter.layers.values()])
            # The lower clamp keeps a module that has not learnt anything from dividing by zero.
            clamped = norms.clamp(min=self.max_norm / 2)
            ratios = clamped.clamp(max=self.max_norm) / clamped
            for factors, ratio in zip(changes, ratios, strict=True):
                for factor in factors.values():
                    factor.mul_(ratio ** (1 / len(factors)))
        after = norms * ratios
        mean, largest, scaled = torch.stack([after.mean(), after.max(), (ratios != 1).sum()]).tolist()
        return {"norm/mean": mean, "norm/max": largest, "norm/keys_scaled": scaled}


build = ScaleNorm
