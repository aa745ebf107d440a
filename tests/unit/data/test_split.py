"""The held-out split: seeded, by content, never between near-duplicates."""

from __future__ import annotations

from lorasweep.data.split import held_out

DIGESTS = [f"{index:064x}" for index in range(20)]
ALONE = [[index] for index in range(20)]


def test_a_share_is_held_out_and_the_seed_decides_which() -> None:
    first = held_out(DIGESTS, ALONE, share=0.2, seed=0)

    assert len(first) == 4
    assert first == held_out(DIGESTS, ALONE, share=0.2, seed=0)
    assert first != held_out(DIGESTS, ALONE, share=0.2, seed=1)


def test_the_order_of_files_does_not_matter() -> None:
    order = [7, 3, 11, 0, 19, 5, 1, 2, 4, 6, 8, 9, 10, 12, 13, 14, 15, 16, 17, 18]
    shuffled = [DIGESTS[index] for index in order]

    chosen = {DIGESTS[index] for index in held_out(DIGESTS, ALONE, share=0.3, seed=0)}

    assert {shuffled[index] for index in held_out(shuffled, ALONE, share=0.3, seed=0)} == chosen


def test_near_duplicates_stay_on_one_side() -> None:
    groups = [[0, 1, 2], [3, 4], *([index] for index in range(5, 20))]

    for seed in range(30):
        chosen = held_out(DIGESTS, groups, share=0.25, seed=seed)
        assert len(chosen) == 5
        assert all(set(group) <= chosen or not set(group) & chosen for group in groups)


def test_few_images_and_a_share_of_zero_hold_nothing_out() -> None:
    assert held_out(DIGESTS[:4], ALONE[:4], share=0.5, seed=0) == frozenset()
    assert held_out(DIGESTS, ALONE, share=0.0, seed=0) == frozenset()


def test_at_least_one_of_five_is_held_out() -> None:
    assert len(held_out(DIGESTS[:5], ALONE[:5], share=0.01, seed=0)) == 1


def test_something_is_always_left_to_train_on() -> None:
    one_group = [list(range(6))]
    two_groups = [[0, 1], [2, 3, 4, 5]]

    assert held_out(DIGESTS[:6], one_group, share=0.2, seed=0) == frozenset()
    assert held_out(DIGESTS[:6], two_groups, share=0.1, seed=0) == frozenset({0, 1})
    for seed in range(8):
        assert held_out(DIGESTS[:9], [[0, 1, 2, 3], [4, 5, 6], [7, 8]], share=0.1, seed=seed) == {7, 8}, "the smallest"
        assert len(held_out(DIGESTS[:6], [[0, 1, 2], [3, 4, 5]], share=0.1, seed=seed)) == 3, "half may go"


def test_what_rounding_leaves_of_a_share_goes_to_concepts_that_may_lose_one_more() -> None:
    concepts = [str(index // 3) for index in range(18)]
    for seed in range(8):
        chosen = held_out(DIGESTS[:18], ALONE[:18], share=0.4, seed=seed, concepts=concepts)
        lost = [sum(concepts[index] == str(concept) for index in chosen) for concept in range(6)]
        assert sorted(lost) == [1, 1, 1, 1, 1, 2], "7 of 18, and one of three is not 0.4 of them"
