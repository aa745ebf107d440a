"""(IA)^3: one trained factor for each key, each value and each number inside the feed-forward layers.

Takes a frozen base, returns a `protocols.Adapter` that is the identity until trained. The factors l are kept
as l - 1 and files are LyCORIS's, so weight w means W * (1 + w * (l - 1)), as A1111 has it, biases left alone.
PEFT's IA3 has no weight and scales biases too, hence layers of our own.
"""

from __future__ import annotations

from lorasweep.components.adapters._knobs import Init, Shape
from lorasweep.components.adapters._targets import FEED_FORWARD, KEYS_AND_VALUES
from lorasweep.core.protocols import Adapter, Base
from lorasweep.core.records import Advice

READ_BY = ("a1111",)
IS_PRODUCT = True
IN_ALL_MODULES = True  # what is trained is told by names alone, not by the base's scopes
ADVICE = (
    Advice(
        key="optimizer.lr",
        low=5e-3,
        high=1e-2,
        optimizers=("adamw", "adamw8bit"),
        reason="its few factors start at 1 and must get far: at a LoRA's lr they hardly move",
    ),
)


def build(base: Base, *, seed: int, text_encoder: bool, init: Init = None) -> Adapter:
    """Put (IA)^3 factors into `base`.

    Source: Liu et al., "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context
    Learning" (2022), section 3.3.
    """
    from lorasweep.components.adapters._lycoris import build_ia3

    return build_ia3(base, text_encoder=text_encoder, init=init)


def layer_shapes(shape: Shape, *, name: str, **_: object) -> list[Shape]:
    """Return the factors of one layer: of its outputs, of its inputs, or none."""
    if name.endswith(KEYS_AND_VALUES):
        return [shape[:1]]
    return [shape[1:]] if name.endswith(FEED_FORWARD) else []
