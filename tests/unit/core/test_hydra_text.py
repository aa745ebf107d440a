"""Overrides as a person reads them."""

from __future__ import annotations

import pytest

from lorasweep.core.hydra_text import shortened


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("optimizer.lr=0.005374457798659756", "optimizer.lr=0.005374"),
        ("optimizer.lr=4e-3", "optimizer.lr=4e-3"),
        ("train.max_steps=123456", "train.max_steps=123456"),
        ("adapter=locon", "adapter=locon"),
        ("captions.prune=[white hair]", "captions.prune=[white hair]"),
    ],
)
def test_a_sampled_number_is_read_in_four_digits(typed: str, read: str) -> None:
    assert shortened(typed) == read
