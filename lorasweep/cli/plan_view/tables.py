"""Show a plan to people and to scripts: what would run, how long it would take, what to know first. No torch.

Takes what `api.plan` gives, and returns JSON or prints tables. Knows nothing about running.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from lorasweep.cli.plan_view.buckets import bucket_set_json, bucket_set_table, bucket_table, buckets_json
from lorasweep.cli.plan_view.exposures import (
    exposure_table,
    exposures_json,
    regularization_json,
    regularization_table,
)
from lorasweep.config import Arm, Search, SweepSpec, places
from lorasweep.core import registry
from lorasweep.core.console import text_console, text_table
from lorasweep.core.records import MemoryOptions, Plan, PlannedImage, Recipe, to_dict
from lorasweep.plan import compute, memory
from lorasweep.plan.cost import caches, sweep_seconds, trial_disk, trial_seconds
from lorasweep.plan.learning_rate import curves
from lorasweep.plan.trainable import trainable
from lorasweep.results.handles import Planned
from lorasweep.results.report.words import duration
from lorasweep.sweep import beforehand, comparable

_BLOCKS, _ASCII = "▁▂▃▄▅▆▇█", "_.:-=+*#"  # heights of a drawn curve; the second for terminals without UTF-8


def plan_json(planned: Planned) -> dict[str, Any]:
    """Describe a plan as JSON-able data.

    Returns:
        At the top level the first arm's plan, and: `name`, `trials`, `estimated_seconds`, `estimated_bytes`
        (of run folders, of MLflow's copy; absent where a base does not tell), of every arm `compute` (switches),
        `estimated_gpu_gib` (the recipe's as "", and by choices of group memory) and `memory` (what a worker has of its
        device's, what the recipe takes, what is turned on for that; {} where it is not known), `caches` (encoded once),
        `pack` (trials that a worker trains at a time, and why),
        `left_out` (symptoms that trials are compared without, with the reason), `duplicates` and `asked_otherwise`
        (sentences),
        `arms` (the same keys for every arm, with its `overrides` and what `differs` from the first one in
        plain words); with a space also `space`, and the recipes at its corners among the arms.
    """
    subject, arms, trials = planned.subject, planned.arms, planned.trials
    plans = [plan for _, plan in arms]
    question = ""
    of_sweep: dict[str, Any] = {}
    if isinstance(subject, SweepSpec):
        question = subject.question
        of_sweep["left_out"] = comparable.left_out(subject, planned.plans)
        of_sweep["duplicates"] = beforehand.duplicates(subject, planned.plans)
        of_sweep["asked_otherwise"] = comparable.asked_otherwise(subject, planned.plans)
        if subject.search is not None:
            of_sweep["space"] = space_json(subject, subject.search, plans)
    launcher, recipes = registry.load("launcher", subject.launcher.name), [arm.recipe for arm, _ in arms]
    room, pack = None, 1
    if hasattr(launcher, "room"):
        room = launcher.room(subject.launcher, recipes, jobs=trials)
    if hasattr(launcher, "packing") and trials > 1:
        learns = isinstance(subject, SweepSpec) and subject.learns
        pack, why = launcher.packing(subject.launcher, recipes, room=room, learns=learns, **subject.launcher.options)
        of_sweep["pack"] = {"trials": pack, "why": why}
    taken = [memory.taken(recipe, room, slots=pack) for recipe in recipes]
    described = [_arm_json(arm, plan, plans[0], each) for (arm, plan), each in zip(arms, taken, strict=True)]
    pairs = [(plan, arm.recipe) for arm, plan in arms]
    if hasattr(launcher, "where"):
        of_sweep["where"] = launcher.where(subject.launcher)
    return {
        "name": planned.name,
        "question": question,
        "trials": trials,
        "estimated_seconds": round(planned.seconds, 1),
        "caches": caches(pairs),
        **_disk_json(pairs, trials=trials),
        **of_sweep,
        **{key: value for key, value in described[0].items() if key not in _OF_AN_ARM},
        "arms": described,
    }


def print_plan(planned: Planned, console: Console | None = None) -> None:
    """Print a plan as tables."""
    console = console or text_console()
    data = plan_json(planned)
    if data["question"]:
        console.print(Text(data["question"], style="bold"))
    warnings = [
        *data.get("space", {}).get("warnings", ()),
        *data.get("duplicates", ()),
        *data.get("asked_otherwise", ()),
        *owned([(arm["name"], arm["warnings"]) for arm in data["arms"]]),
    ]
    if warnings:
        console.print(Text(f"{_counted(warnings)} at the end of this plan", style="yellow"))
    if "space" in data:
        console.print(space_table(data["space"]))
    console.print(_arm_table(data["arms"]))
    if any(arm["overrides"] for arm in data["arms"]):
        console.print(_override_table(data["arms"]))
    console.print(_lr_table(data["arms"], heights=_ASCII if console.options.ascii_only else _BLOCKS))
    console.print(bucket_table(data["arms"]))
    console.print(bucket_set_table(data["arms"]))
    console.print(exposure_table(data))
    if (regularization := regularization_table(data["arms"])) is not None:
        console.print(regularization)
    for steps in dict.fromkeys(tuple(arm["rungs"]) for arm in data["arms"]):
        console.print(f"judged after {', '.join(map(str, steps))} steps", highlight=False)
    for sentence in comparable.told(data.get("left_out", {})):
        console.print(Text(f"trials are {sentence}", style="yellow"))
    _print_warnings(console, warnings)
    console.print(_cost(data), highlight=False)
    if "pack" in data:
        count = data["pack"]["trials"]
        at_a_time = "1 trial" if count == 1 else f"up to {count} trials"
        console.print(f"a worker trains {at_a_time} at a time: {data['pack']['why']}", highlight=False)
    if "where" in data:
        console.print(f"it would run with {data['where']}", highlight=False)


def _cost(data: dict[str, Any]) -> str:
    trials = "1 trial" if data["trials"] == 1 else f"{data['trials']} trials"
    where = "at the speed of" if "where" in data else "on"
    cost = f"{trials}, about {duration(data['estimated_seconds'])} {where} this machine"
    if "estimated_bytes" in data:
        folders, copied = data["estimated_bytes"]["run_folders"], data["estimated_bytes"]["mlflow"]
        cost += f"; {_megabytes(folders)} of disk" + (f", and {_megabytes(copied)} in MLflow" if copied else "")
    peak = max((arm["estimated_gpu_gib"] for arm in data["arms"]), key=lambda each: each.get("", 0.0))
    if peak.get("", 0.0) > _ANY_GPU_GIB:
        others = ", ".join(f"memory={name} {gib}" for name, gib in peak.items() if name)
        cost += f"; a GPU needs about {peak['']} GiB ({others})"
    if traded := [arm["memory"] for arm in data["arms"] if arm["memory"].get("turned_on")]:
        on = dict.fromkeys(lever for each in traded for lever in each["turned_on"])
        cost += f"; to fit {traded[0]['room']}, turned on: {', '.join(on)}"
    if switches := dict.fromkeys(switch for arm in data["arms"] for switch in arm["compute"]):
        cost += f"; computed with {', '.join(switches)}"
    return cost


_ANY_GPU_GIB = 3.0  # what every GPU for this work has
_OF_AN_ARM = ("name", "note", "overrides", "differs", "estimated_seconds", "estimated_gpu_gib", "memory", "compute")


def _disk_json(planned: Sequence[tuple[Plan, Recipe]], *, trials: int) -> dict[str, Any]:
    """What the known recipes take, the others taken to be like them."""
    each = [trial_disk(plan, recipe) for plan, recipe in planned]
    known = [disk for disk in each if disk is not None]
    if len(known) < len(each):
        return {}
    folders, mirror = (fmean(sizes) * trials for sizes in zip(*((d.run_folder, d.mirror) for d in known), strict=True))
    return {"estimated_bytes": {"run_folders": round(folders), "mlflow": round(mirror)}}


def _megabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _arm_json(arm: Arm, plan: Plan, first: Plan, taken: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": arm.name,
        "note": arm.note,
        "overrides": list(arm.overrides),
        "differs": _differences(plan, first),
        "trainable": to_dict(trainable(arm.recipe)),
        "steps_per_trial": plan.steps,
        "steps_per_epoch": plan.steps_per_epoch,
        "exposures": plan.exposures,
        "exposures_per_image": plan.exposures_per_image,
        "tag_exposures": plan.tag_exposures,
        "budget": exposures_json(plan, arm.recipe),
        "buckets": buckets_json(plan, arm.recipe),
        "bucket_set": bucket_set_json(plan, arm.recipe),
        "images": [_image_json(image) for image in plan.images],
        "trigger": plan.trigger,
        "rungs": list(plan.rungs),
        "learning_rate": {
            curve.part: {"peak": curve.highest, "last": curve.last, "shape": list(curve.shape)}
            for curve in curves(arm.recipe, plan.steps)
        },
        "regularization": regularization_json(arm.recipe, plan),
        "prompts": {tier: list(prompts) for tier, prompts in plan.prompts.items()},
        "warnings": [*plan.warnings, *memory.warnings(taken)],
        "fingerprint": plan.fingerprint,
        "estimated_seconds": round(trial_seconds(plan, arm.recipe), 1),
        "estimated_gpu_gib": _gpu_json(arm.recipe),
        "memory": taken,
        "compute": compute.told(arm.recipe),
    }


def _gpu_json(recipe: Recipe) -> dict[str, float]:
    """Peak of a GPU's memory: of the recipe, as "", and by the files of conf/memory/; nothing where it is not known."""
    kinds = {"": recipe.memory} | {
        name: MemoryOptions(**places.read_choice("memory", name)) for name in places.choices("memory") if name != "auto"
    }
    return {name: round(peak, 1) for name, peak in memory.peaks_gib(recipe, kinds).items()}


def _image_json(image: PlannedImage) -> dict[str, Any]:
    left, top = image.crop_px
    return {
        "file": image.file,
        "split": image.split,
        "size": [image.width_px, image.height_px],
        "bucket": [image.bucket.width_px, image.bucket.height_px],
        "resize": list(image.resize_px),
        "crop": [left, top, left + image.bucket.width_px, top + image.bucket.height_px],
        "repeats": image.repeats,
        "caption": image.caption,
        "concept": image.concept,
    }


def _short(plan: Plan) -> str:
    return f"{round(plan.exposures_per_image, 1):g}"


def _differences(plan: Plan, first: Plan) -> list[str]:
    found = []
    if plan.steps != first.steps:
        found.append(f"{plan.steps} steps instead of {first.steps}")
    if plan.exposures != first.exposures:
        found.append(f"{_short(plan)} exposures per image instead of {_short(first)}")
    sizes, first_sizes = ({image.bucket for image in p.images} for p in (plan, first))
    if sizes != first_sizes:
        found.append(f"{len(sizes)} bucket(s) instead of {len(first_sizes)}")
    if {i.sha256 for i in plan.images} != {i.sha256 for i in first.images}:
        found.append("other images")
    return found


def _arm_table(arms: Sequence[dict[str, Any]]) -> Table:
    counts = [
        (_short_count(arm["trainable"]), arm["steps_per_trial"], round(arm["exposures_per_image"]), len(arm["buckets"]))
        for arm in arms
    ]
    return text_table(
        "what would run",
        texts=["arm"],
        numbers=["trained", "steps", "exposures", "buckets"],
        rows=[(arm["name"], *row) for arm, row in zip(arms, counts, strict=True)],
        caption="trained: numbers of the adapter; exposures: times an image is seen, on average",
    )


def _override_table(arms: Sequence[dict[str, Any]]) -> Table:
    """What each arm changes; apart from the numbers, so that a terminal of 80 columns has room for it."""
    rows = [(arm["name"], "  ".join(arm["overrides"])) for arm in arms]
    table = text_table("what each changes", texts=["arm", "overrides"], rows=rows)
    table.columns[0].max_width = 30
    return table


def _short_count(found: dict[str, int] | None) -> str:
    """Numbers that train, in the unit that people talk in."""
    if found is None:
        return "?"
    count = found["parameters"]
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.1f} k"


def _lr_table(arms: Sequence[dict[str, Any]], *, heights: str) -> Table:
    """Draw every part's schedule, each scaled to its own peak; arms with the same one share a line."""
    table = Table(title="learning rate over the steps", caption="each curve is scaled to its own peak")
    for name in ("curve", "part"):
        table.add_column(name, no_wrap=True)
    table.add_column("peak", justify="right", no_wrap=True)
    table.add_column("arm", overflow="fold")
    owners: dict[tuple[Any, ...], list[str]] = {}
    for arm in arms:
        for part, curve in arm["learning_rate"].items():
            line = (_draw(curve["shape"], heights), part, f"{curve['peak']:.3g}")
            owners.setdefault(line, []).append(arm["name"])
    for line, names in owners.items():
        table.add_row(*line, ", ".join(names))
    return table


def _draw(shape: Sequence[float], heights: str) -> str:
    top = max(shape) or 1.0
    return "".join(heights[round(value / top * (len(heights) - 1))] for value in shape)


def _counted(warnings: Sequence[str]) -> str:
    return f"{len(warnings)} warning{'' if len(warnings) == 1 else 's'}"


def _print_warnings(console: Console, warnings: Sequence[str]) -> None:
    """Print them apart from the tables, each with a margin, so that it is seen where one ends."""
    if not warnings:
        return
    console.print(Rule(Text(_counted(warnings), style="bold yellow"), style="yellow", align="left"))
    grid = Table.grid(padding=(0, 1))
    for number, warning in enumerate(warnings, 1):
        grid.add_row(Text(f"{number}.", style="yellow"), Text(warning))
    console.print(grid)
    console.print(Rule(style="yellow", characters="-" if console.options.ascii_only else "─"))


def owned(arms: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """Put arms' names before those of their plans' warnings that are not about all of them."""
    owners: dict[str, list[str]] = {}
    for name, warnings in arms:
        for warning in warnings:
            owners.setdefault(warning, []).append(name)
    return [
        warning if len(names) == len(arms) else f"{', '.join(names)}: {warning}" for warning, names in owners.items()
    ]


def space_json(spec: SweepSpec, search: Search, plans: Sequence[Plan]) -> dict[str, Any]:
    """Describe the search of a sweep; the plans are of `spec.known`, in that order."""
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
    """Return the axes, with what is said of the search around them."""
    sampler, pruner = described["sampler"]["name"], described["pruner"]["name"]
    low, high = described["steps"]["total"]
    fewest, most = map(duration, described["estimated_seconds_range"])
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
