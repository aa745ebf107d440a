"""`plan` and `sweep` say of a warning which arms it is about."""

from __future__ import annotations

from lorasweep.results.handles import owned


def test_a_warning_is_said_once_with_its_arms_unless_these_are_all() -> None:
    arms = [
        ("adamw", ["few images", "low rate"]),
        ("lion", ["few images", "low rate"]),
        ("prodigy", ["few images"]),
    ]

    assert owned(arms) == ["few images", "adamw, lion: low rate"]
    assert owned([("recipe", ["low rate"])]) == ["low rate"]
