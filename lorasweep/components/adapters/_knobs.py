"""Types and ranges of knobs that several adapters have. No torch: `plan` reads them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Rank = Annotated[int, Field(ge=1, description="4 to 32 is usual")]
Alpha = Annotated[float, Field(gt=0, description="half of dim is usual")]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Targets = Literal["attn", "attn-mlp", "full"]
Init = str | None
