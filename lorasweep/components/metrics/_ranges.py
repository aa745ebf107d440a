"""Types and ranges of knobs that several metrics have. No torch: `plan` reads them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lorasweep.core.records import PromptTier

Tiers = Annotated[
    tuple[PromptTier, ...],
    Field(min_length=1, title="name a prompt tier", description="e.g. [in_distribution,recombined]"),
]
OtherWeight = Annotated[float, Field(ge=0.01, le=2, description="e.g. [0.4,1.0]")]  # a LoRA weight besides 0
