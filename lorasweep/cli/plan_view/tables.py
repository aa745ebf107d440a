"""Show a plan to people: what would run, how long it would take, what to know first. No torch.

Takes what `api.plan` gives, whose `to_json` says it all, and prints tables. Knows nothing about running.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from lorasweep.core.console import text_console, text_table
from lorasweep.core.printable import command
from lorasweep.results.handles import Planned
from lorasweep.results.report.words import duration, expected
from lorasweep.sweep import comparable

_BLOCKS, _ASCII = "▁▂▃▄▅▆▇█", "_.:-=+*#"  # heights of a drawn curve; the second for terminals without UTF-8
_ANY_GPU_GIB = 3.0  # what every GPU for this work has
_SHOWN_IMAGES, _SHOWN_TAGS = 8, 30  # of captions
_SHOWN_EXPOSURES, _SHOWN_CAPTIONS = 8, 4


def print_plan(planned: Planned, console: Console | None = None) -> None:
    """Print a plan as tables."""
    console = console or text_console()
    data = planned.to_json()
    if data["question"]:
        console.print(Text(data["question"], style="bold"))
    if warnings := planned.warnings:
        console.print(Text(f"{_counted(warnings)} at the end of this plan", style="yellow"))
    if "space" in data:
        console.print(_space_table(data["space"]))
    console.print(_arm_table(data["arms"]))
    if any(arm["overrides"] for arm in data["arms"]):
        console.print(_override_table(data["arms"]))
    console.print(_lr_table(data["arms"], heights=_ASCII if console.options.ascii_only else _BLOCKS))
    console.print(_bucket_table(data["arms"]))
    console.print(_bucket_set_table(data["arms"]))
    console.print(_exposure_table(data))
    if (regularization := _regularization_table(data["arms"])) is not None:
        console.print(regularization)
    for steps in dict.fromkeys(tuple(arm["rungs"]) for arm in data["arms"]):
        console.print(f"judged after {', '.join(map(str, steps))} steps", highlight=False)
    for sentence in comparable.told(data.get("left_out", {})):
        console.print(Text(f"trials are {sentence}", style="yellow"))
    _print_warnings(console, warnings)
    for folder in _to_mend(planned):
        typed = command("lorasweep", "audit", folder)
        console.print(Text(f"{typed}  says what mends them; give it the same KEY=VALUEs"), soft_wrap=True)
    console.print(_cost(data), highlight=False)
    if "pack" in data:
        count = data["pack"]["trials"]
        at_a_time = "1 trial" if count == 1 else f"up to {count} trials"
        console.print(f"a worker trains {at_a_time} at a time: {data['pack']['why']}", highlight=False)
    if "where" in data:
        console.print(f"it would run with {data['where']}", highlight=False)


def print_captions(planned: Planned, console: Console | None = None) -> None:
    """Print what every arm's captions become, as tables."""
    console = console or text_console()
    for policy in planned.captions_json()["policies"]:
        console.print(_image_table(policy))
        console.print(_tag_table(policy))


def _cost(data: dict[str, Any]) -> str:
    cost = expected(data["trials"], data["estimated_seconds"], timed_here=data["timed_here"])
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


def _megabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


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
        caption="trained: parameters of the adapter; exposures: how often an image is seen, on average",
    )


def _override_table(arms: Sequence[dict[str, Any]]) -> Table:
    """Return what each arm changes; apart from the numbers, so that a terminal of 80 columns has room for it."""
    rows = [(arm["name"], "  ".join(arm["overrides"])) for arm in arms]
    table = text_table("what each changes", texts=["arm", "overrides"], rows=rows)
    table.columns[0].max_width = 30
    return table


def _short_count(found: dict[str, int] | None) -> str:
    """Return the numbers that train, in the unit that people talk in."""
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


def _to_mend(planned: Planned) -> list[str]:
    """Name the folders that are warned of where a command would mend something."""
    return list(
        dict.fromkeys(
            arm.recipe.dataset.path
            for arm, made in planned.arms
            if arm.recipe.dataset.path and any(getattr(warning, "command", "") for warning in made.warnings)
        )
    )


def _space_table(described: dict[str, Any]) -> Table:
    """Return the axes, with what is said of the search around them."""
    sampler, pruner = described["sampler"]["name"], described["pruner"]["name"]
    low, high = described["steps"]["total"]
    took = [*map(duration, described["estimated_seconds_range"])]
    shared = described["caches"]
    pruned = "" if pruner == "none" else f", {pruner} stops the worst from their first rung on"
    table = Table(
        title=f"what would be searched, by {sampler}{pruned}",
        caption=f"{described['points']} points x {len(described['seeds'])} seed(s); "
        f"{described['recipes_checked']} recipes at its edges were checked\n"
        f"{_range(low, high)} steps in all; {_range(*took) + '; ' if took else ''}"
        f"caches: {shared['latents']} latents, {shared['captions']} captions",
    )
    table.add_column("axis", no_wrap=True)
    table.add_column("values", overflow="fold")
    for name, domain in described["axes"].items():
        table.add_row(Text(name), Text(domain))
    return table


def _range(low: Any, high: Any) -> str:
    return str(low) if low == high else f"{low} to {high}"


def _bucket_table(arms: Sequence[dict[str, Any]]) -> Table:
    """Return the buckets of the arm whose set is richest; those of the others are in the JSON."""
    arm = max(arms, key=lambda candidate: len(candidate["buckets"]))
    columns = ("bucket", "images", "batches", "aspect error", "cropped", "enlarged at most")
    table = Table(*columns, title=f"buckets of {arm['name']}", caption="batches: of an epoch")
    for row in arm["buckets"]:
        table.add_row(
            "x".join(map(str, row["size"])),
            str(row["images"]),
            str(row["batches_per_epoch"]),
            f"{row['aspect_error']:.3f}",
            f"{row['cropped_share']:.0%}",
            f"{row['largest_enlargement']:.2f}",
        )
    return table


def _bucket_set_table(arms: Sequence[dict[str, Any]]) -> Table:
    """Return one line per bucket set; arms with the same one share it."""
    owners: dict[tuple[str, ...], list[str]] = {}
    for arm in arms:
        owners.setdefault(_set_cells(arm["bucket_set"]), []).append(arm["name"])
    table = text_table(
        "bucket sets",
        texts=["arm"],
        numbers=["sizes", "aspect error", "cropped", "scaled", "steps"],
        rows=[(", ".join(names), *cells) for cells, names in owners.items()],
        caption="mean (worst) of the training images; steps of an epoch (if all shapes could share a batch)",
    )
    for column in table.columns[1:]:
        column.no_wrap = True  # 80 columns leave 13 for the arm
    return table


def _set_cells(found: dict[str, Any]) -> tuple[str, ...]:
    offered = "any" if found["offered"] is None else found["offered"]
    errors, cropped, factors, epoch = (found[key] for key in ("aspect_error", "cropped_share", "enlargement", "epoch"))
    return (
        f"{found['used']} of {offered}",
        f"{errors['mean']:.2f} ({errors['max']:.2f})",
        f"{cropped['mean']:.0%} ({cropped['max']:.0%})",
        f"{factors['mean']:.2f} ({factors['most']:.2f})",
        f"{epoch['steps']} ({epoch['steps_if_shared']})",
    )


def _exposure_table(data: dict[str, Any]) -> Table:
    """Return the exposures of the first arm."""
    held_out = sum(image["split"] == "held_out" for image in data["images"])
    caption = f"{len(data['images'])} images, {held_out} of them held out for judging"
    if masks := data["masks"]:
        mean, least, most = (f"{masks[key]:.0%}" for key in ("mean", "least", "most"))
        rest = f"the rest counts {masks['rest']:g} of it" if masks["rest"] else "the rest does not"
        caption += f"\nmasks: {mean} of the pictures count ({least} to {most}), {rest}"
    table = text_table(
        f"exposures of {data['arms'][0]['name']}",
        texts=["seen in training"],
        numbers=["images", "each", "in all", "x concept"],
        caption=caption,
    )
    for concept, row in data["budget"]["concepts"].items():
        name = f"concept {concept}" if concept else "all images"
        table.add_row(name, str(row["images"]), f"{row['per_image']:.0f}", str(row["exposures"]), "")
    largest = max(data["exposures"].values(), default=0)
    several = len(data["exposures"]) > 1 and largest > 0
    for tag, times in list(data["tag_exposures"].items())[:_SHOWN_EXPOSURES]:
        table.add_row(f"tag {tag}", "", "", str(times), f"x {times / largest:.1f}" if several else "")
    return table


def _regularization_table(arms: Sequence[dict[str, Any]]) -> Table | None:
    """Return the regularizers of every arm that has any; None when no arm has."""
    table = Table(title="regularization", caption=_effect(arms))
    for name in ("arm", "regularizer"):
        table.add_column(name, no_wrap=True)
    for name in ("images", "seen", "loss x", "target", "captions, knobs"):
        table.add_column(name, justify="right" if name in ("seen", "loss x") else "left", overflow="fold")
    for arm in arms:
        for entry in arm["regularization"]["regularizers"]:
            table.add_row(arm["name"], entry["name"], *_cells(entry))
    return table if table.row_count else None


def _cells(entry: dict[str, Any]) -> list[str]:
    if "images" not in entry:
        knobs = ", ".join(f"{key}={value}" for key, value in entry["knobs"].items())
        return ["-", "", "", "", knobs]
    images = str(entry["images"])
    if entry["to_draw"]:
        images += f", {entry['to_draw']} to draw"
    captions = list(entry["captions"])
    shown = " | ".join(captions) if len(captions) <= _SHOWN_CAPTIONS else f"{len(captions)} captions"
    return [images, str(entry["exposures"]), f"{entry['loss_weight']:g}", entry["target"], shown]


def _effect(arms: Sequence[dict[str, Any]]) -> str:
    """Return what the images of the first arm that has any do to its training."""
    for arm in arms:
        without = arm["regularization"]["without"]
        if any("images" in entry for entry in arm["regularization"]["regularizers"]):
            steps, per_epoch, seen = (
                f"{arm[key]:.0f} {words} instead of {without[other]:.0f}"
                for key, other, words in (
                    ("steps_per_trial", "steps", "steps"),
                    ("steps_per_epoch", "steps_per_epoch", "steps an epoch"),
                    ("exposures_per_image", "exposures_per_image", "exposures per image"),
                )
            )
            return f"{arm['name']}: {steps}, {per_epoch}, {seen}"
    return ""


def _image_table(policy: dict[str, Any]) -> Table:
    """List captions, those that are not as written first."""
    rows = sorted(policy["images"], key=lambda row: row["before"] == row["after"])
    changed = sum(row["before"] != row["after"] for row in rows)
    shown = min(len(rows), _SHOWN_IMAGES)
    varies = "exposure" in rows[0]
    table = text_table(
        f"captions of {', '.join(policy['arms'])}",
        texts=["image", "before", "after", *(["one exposure"] if varies else [])],
        caption=f"{changed} of {len(rows)} are not as written; {shown} shown, all with --json",
    )
    table.show_lines = True
    for row in rows[:_SHOWN_IMAGES]:
        before = "(no caption file)" if row["before"] is None else row["before"]
        exposure = [row["exposure"] or "(empty)"] if varies else []
        table.add_row(Path(row["file"]).name, before, row["after"], *exposure)
    return table


def _tag_table(policy: dict[str, Any]) -> Table:
    total = sum(image["split"] == "train" for image in policy["images"])
    return text_table(
        f"tags of {total} training images",
        texts=["tag"],
        numbers=["images before", "after", "seen in training"],
        rows=[[row[name] for name in ("tag", "before", "after", "seen")] for row in policy["tags"][:_SHOWN_TAGS]],
        caption="what is in nearly every image is what a trigger can absorb: captions.prune=[...]",
    )
