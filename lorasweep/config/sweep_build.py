"""From `space:`, arms and the command line's axes to a `Search`: the checks that need all of them.

Knows nothing about files.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from lorasweep.config.override import parse
from lorasweep.config.space import Space
from lorasweep.config.space_read import Swept, read_space
from lorasweep.config.sweep_arms import compose_corners, locate, static_problems, try_random_points
from lorasweep.config.sweep_spec import Arm, SamplerOptions, Search
from lorasweep.core.errors import Problem

LARGEST_GRID = 10_000


def build_search(
    declared: Mapping[str, Any] | None,
    *,
    swept: Sequence[Swept],
    common: Sequence[str],
    overrides: Sequence[str],
    arms: list[Arm],
    seeds: Sequence[int],
    total: int | None,
    sampler: SamplerOptions | None,
    problems: list[Problem],
) -> tuple[list[Arm], Search | None]:
    """Read and check the space.

    Args:
        declared: what stands under `space:`.
        swept: the command line's axes.
        common: overrides of every recipe, applied before a point's own.
        overrides: those applied after.
        arms: known recipes; those that are points of the space learn where they lie.
        seeds: repeats of every recipe.
        total: declared number of trials; a grid knows its own.
        sampler: None when none was declared.
        problems: appended to.

    Returns:
        The arms, and the search; None without a space, or when something is wrong.
    """
    before = len(problems)
    pinned = {each.key: each.value for each in parse(overrides)[0]}
    space = read_space(declared, swept=swept, pinned=pinned, problems=problems)
    if space is None:
        if total is not None and len(problems) == before:
            hint = "arms x seeds is the total"
            problems.append(Problem("sweep.total", "belongs to a space, and nothing is searched", hint))
        return arms, None
    countable = all(axis.domain.values is not None for axis in space.axes)
    if sampler is None:
        sampler = SamplerOptions(name="grid" if total is None and countable else "tpe")
    by_hand = {each.key for each in swept}
    fixed = {each.key for each in parse(common)[0]} - by_hand
    problems += static_problems(space, fixed, sampler=sampler.name)
    corners = compose_corners(space, common, overrides, problems)
    if sampler.name == "grid" and not countable:
        return arms, None
    warnings = () if len(problems) > before else try_random_points(space, common, overrides, problems)
    trials = _total(space, sampler, total, arms=len(arms), seeds=len(seeds), problems=problems)
    if len(problems) > before:
        return arms, None
    search = Search(
        space=space,
        total=trials,
        sampler=sampler,
        common=tuple(common),
        overrides=tuple(overrides),
        corners=corners,
        warnings=warnings,
    )
    return [locate(arm, space, common, overrides) for arm in arms], search


def _total(
    space: Space,
    sampler: SamplerOptions,
    total: int | None,
    *,
    arms: int,
    seeds: int,
    problems: list[Problem],
) -> int:
    """How many trials there will be; a problem when that is not said, or cannot be."""
    if sampler.name == "grid":
        points = sum(1 for _ in itertools.islice(space.grid(), LARGEST_GRID + 1))
        wanted = (points + arms) * seeds
        if points > LARGEST_GRID:
            message = f"has more than {LARGEST_GRID} points"
            problems.append(Problem("sweep.space", f"the grid {message}", "sampler: random, with a total"))
        elif total is not None and total != wanted:
            what = f"{points} points, {arms} arms, {seeds} seeds"
            hint = "leave total out, or take sampler: random"
            problems.append(Problem("sweep.total", f"a grid cooks all of it: {wanted} ({what}), got {total}", hint))
        return wanted
    if total is None:
        hint = "e.g. total: 20; on the command line: sweep.total=20"
        problems.append(Problem("sweep.total", f"must be given: sampler {sampler.name} has no end", hint))
        return 0
    if total < max(1, arms * seeds):
        message = f"must be at least {max(1, arms * seeds)} (arms x seeds), got {total}"
        problems.append(Problem("sweep.total", message))
    return total
