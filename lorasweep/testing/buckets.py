"""What every bucket set promises, for each file of conf/buckets/ or those that `CHOICES` names."""

from __future__ import annotations

import dataclasses

from lorasweep.config import compose_recipe
from lorasweep.core.errors import ConfigError
from lorasweep.core.records import BaseOptions, Bucket
from lorasweep.testing import Choice, load, loads_torch
from lorasweep.testing import pytest_generate_tests as pytest_generate_tests

BASES_PX = ((64, 8), (512, 64), (1024, 64))  # resolution and step: the dollhouse, Stable Diffusion, SDXL


def base_of(resolution: int, step: int) -> BaseOptions:
    """Return the default base as if it were trained at another resolution."""
    return dataclasses.replace(compose_recipe().base, resolution=resolution, bucket_step=step)


def build(choice: Choice, base: BaseOptions) -> tuple[Bucket, ...] | None:
    """Make the set for a base; None where it refuses it, which takes a ConfigError that names a knob."""
    try:
        made: tuple[Bucket, ...] = load("buckets", choice).build(base, **choice[1])
    except ConfigError as error:
        assert all(problem.where.startswith("buckets") for problem in error.problems)
        return None
    return made


def test_sides_are_multiples_of_the_bases_step_and_no_size_comes_twice(buckets_choice: Choice) -> None:
    found = {px: made for px in BASES_PX if (made := build(buckets_choice, base_of(*px))) is not None}
    assert found, "it fits none of the bases"
    for (_, step), made in found.items():
        sides = [side for bucket in made for side in (bucket.width_px, bucket.height_px)]
        assert sides and all(side > 0 and side % step == 0 for side in sides)
        assert len(set(made)) == len(made)


def test_the_same_set_comes_in_the_same_order(buckets_choice: Choice) -> None:
    """Ties between buckets go to the first."""
    for px in BASES_PX:
        assert build(buckets_choice, base_of(*px)) == build(buckets_choice, base_of(*px))


def test_it_says_whether_small_images_are_enlarged(buckets_choice: Choice) -> None:
    assert isinstance(buckets_choice[1]["upscale"], bool)


def test_its_knobs_are_checked_without_torch(buckets_choice: Choice) -> None:
    assert not loads_torch(f"registry.load('buckets', {buckets_choice[0]!r})")
