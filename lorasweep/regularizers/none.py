"""No brake: the weights stay as the optimizer left them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorasweep.protocols import Adapter, Regularizer


class NoRegularizer:
    """See `protocols.Regularizer`."""

    def after_step(self, adapter: Adapter) -> dict[str, float]:
        """Do nothing, log nothing."""
        return {}


def build() -> Regularizer:
    """It has no knobs."""
    return NoRegularizer()
