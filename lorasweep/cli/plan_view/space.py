"""Show what a search would do before it does it: axes, trials, the range of steps and time, caches to fill.

Takes a sweep with a space, the recipes at its corners and their plans; returns JSON or a table. No torch.
Knows nothing about running.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from lorasweep.config import Search, SweepSpec
from lorasweep.core.records import Plan, to_dict
from lorasweep.plan.estimate import caches, sweep_seconds, trial_seconds


def space_json(spec: SweepSpec, search: Search, plans: Sequence[Plan]) -> dict[str, Any]:
    """Describe the search of a sweep.

    Args:
        spec: the sweep.
        search: its space.
        plans: of `spec.known`, in that order.
    """
    first, last = _share_of_first_rung(spec, plans), 1.0
    steps = [plan.steps for plan in plans]
    seconds = [trial_seconds(plan, arm.recipe) for plan, arm in zip(plans, spec.known, strict=True)]
    wall_s = [
        sweep_seconds([end * share], spec.launcher, trials=spec.total)
        for end, share in ((min(seconds), first), (max(seconds), last))
    ]
    return {
        "axes": search.space.describe(),
        "sampler": to_dict(search.sampler),
        "pruner": to_dict(spec.pruner),
        "constraints": [str(each) for each in spec.constraints],
        "known_recipes": {
            "arms": len(spec.arms),
            "in_the_space": sum(arm.params is not None for arm in spec.arms),
        },
        "seeds": list(spec.seeds),
        "points": -(-(spec.total - len(spec.arms) * len(spec.seeds)) // len(spec.seeds)),
        "recipes_checked": len(search.corners),
        "steps": {
            "per_trial": [min(steps), max(steps)],
            "total": [round(min(steps) * first) * spec.total, max(steps) * spec.total],
        },
        "estimated_seconds_range": [round(end, 1) for end in wall_s],
        "warnings": list(search.warnings),
        "caches": caches(zip(plans, (arm.recipe for arm in spec.known), strict=True)),
    }


def space_table(described: dict[str, Any]) -> Table:
    """The axes, with what is said of the search around them."""
    sampler, pruner = described["sampler"]["name"], described["pruner"]["name"]
    low, high = described["steps"]["total"]
    fewest, most = (f"{end / 60:.0f} min" for end in described["estimated_seconds_range"])
    shared = described["caches"]
    pruned = "" if pruner == "none" else f", {pruner} stops the worst from their first rung on"
    table = Table(
        title=f"what would be searched, by {sampler}{pruned}",
        caption=f"{described['points']} points x {len(described['seeds'])} seed(s); "
        f"{described['recipes_checked']} recipes at its edges were checked\n"
        f"{_range(low, high)} steps in all; {_range(fewest, most)}; "
        f"caches: {shared['latents']} latents, {shared['captions']} captions",
    )
    table.add_column("axis", no_wrap=True)
    table.add_column("values", overflow="fold")
    for name, domain in described["axes"].items():
        table.add_row(Text(name), Text(domain))
    return table


def _range(low: Any, high: Any) -> str:
    return str(low) if low == high else f"{low} to {high}"


def _share_of_first_rung(spec: SweepSpec, plans: Sequence[Plan]) -> float:
    """What the shortest trial trains of its budget: up to its first rung where a pruner may stop it."""
    if not spec.pruner.active:
        return 1.0
    return min(plan.rungs[0] / plan.steps for plan in plans)
