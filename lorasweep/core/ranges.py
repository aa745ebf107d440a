"""Ranges that many knobs have, as types: what may be given is said where a knob is declared, and nowhere else."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(min_length=1, description="leave it out")]
LoraWeight = Annotated[float, Field(gt=0, le=2)]  # at sampling: 1.0 is as trained


def apart(what: str) -> Any:
    """Refuse a tuple that has a value twice."""

    def check(values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) < len(values):
            raise ValueError(f"must not repeat a {what}")
        return values

    return AfterValidator(check)
