"""The order of images: kohya's batches, with a generator of our own."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from lorasweep.core.records import Bucket, PlannedImage
from lorasweep.data.order import batches_per_epoch, epoch_batches, epoch_steps

SQUARE, TALL = Bucket(width_px=64, height_px=64), Bucket(width_px=48, height_px=80)


def image(bucket: Bucket, repeats: int) -> PlannedImage:
    return PlannedImage(
        file="a.png",
        sha256="",
        concept="",
        caption="",
        split="train",
        repeats=repeats,
        width_px=64,
        height_px=64,
        bucket=bucket,
        resize_px=(64, 64),
        crop_px=(0, 0),
    )


IMAGES = st.lists(st.builds(image, st.sampled_from([SQUARE, TALL]), st.integers(1, 5)), min_size=1, max_size=12)


@given(IMAGES, st.integers(1, 7), st.integers(), st.integers(0, 3))
def test_an_epoch_shows_every_image_its_repeats_and_never_mixes_buckets(
    images: list[PlannedImage], batch_size: int, seed: int, epoch: int
) -> None:
    batches = epoch_batches(images, batch_size=batch_size, seed=seed, epoch=epoch)

    seen = Counter(itertools.chain.from_iterable(batches))
    assert seen == {index: image.repeats for index, image in enumerate(images)}
    assert all(len({images[index].bucket for index in batch}) == 1 for batch in batches)
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    assert len(batches) == batches_per_epoch(images, batch_size)


def test_batches_are_counted_per_bucket() -> None:
    # kohya: ceil(7/4) + ceil(5/4) = 4, where one bucket of 12 would make 3
    images = [image(SQUARE, 7), image(TALL, 5)]

    assert batches_per_epoch(images, 4) == 4
    assert batches_per_epoch([image(SQUARE, 7), image(SQUARE, 5)], 4) == 3


def test_seed_and_epoch_decide_the_order() -> None:
    images = [image(SQUARE, 3) for _ in range(6)]

    def order(seed: int, epoch: int) -> list[list[int]]:
        return epoch_batches(images, batch_size=2, seed=seed, epoch=epoch)

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_which_shape_comes_first_in_the_folder_does_not_matter() -> None:
    squares, talls = [image(SQUARE, 2)] * 3, [image(TALL, 1)] * 4
    first = epoch_batches([*squares, *talls], batch_size=2, seed=5, epoch=0)
    other = epoch_batches([*talls, *squares], batch_size=2, seed=5, epoch=0)
    assert [[(index + 4) % 7 for index in batch] for batch in first] == other


def test_short_batches_are_not_always_last() -> None:
    images = [image(SQUARE, 5)]

    places = {
        [len(batch) for batch in epoch_batches(images, batch_size=2, seed=seed, epoch=0)].index(1) for seed in range(20)
    }

    assert places == {0, 1, 2}


def test_a_step_gathers_batches_and_an_epoch_ends_with_what_is_left() -> None:
    images = [image(SQUARE, 9)]

    found = epoch_steps(images, batch_size=2, accumulation=2, seed=0, epoch=0)

    assert [len(batches) for batches in found] == [2, 2, 1]
