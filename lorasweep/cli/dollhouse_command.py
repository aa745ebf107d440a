"""`lorasweep dollhouse`: look at the embedded world, or write a dataset from it."""

from __future__ import annotations

import argparse
import re

from lorasweep.core.errors import InputError, Problem
from lorasweep.core.paths import require_picture, require_writable

_MOST_PX = 100_000_000  # of a sheet: 300 MB in memory


def run(options: argparse.Namespace) -> int:
    """Draw a sheet or write a dataset folder; returns the exit code."""
    _check(options)
    if options.action == "draw":
        require_picture(options.out, option="--out")
    else:
        require_writable(options.out, option="--out")
    return {"draw": _draw, "dataset": _dataset}[options.action](options)


def _check(options: argparse.Namespace) -> None:
    from lorasweep.dollhouse.world import SUBJECTS

    problems = []
    if options.subject is not None and options.subject not in SUBJECTS:
        problems.append(Problem("--subject", f"unknown subject {options.subject!r}", f"one of {', '.join(SUBJECTS)}"))
    if options.action == "draw":
        width_px, height_px = _size(options.size)
        if min(width_px, height_px) < 32:
            message = f"must be WxH px, 32 or more, got {options.size!r}"
            problems.append(Problem("--size", message, "--size 64x64"))
        elif (px := options.count * width_px * height_px) > _MOST_PX:
            message = f"must give a sheet of {_MOST_PX:,} px at most, got {px:,}"
            problems.append(Problem("--count x --size", message, "draw fewer or smaller ones"))
    if options.action == "dataset" and options.subject in SUBJECTS:
        outfits = min(len(SUBJECTS[options.subject].wardrobe), options.images)
        if options.outfits > outfits:
            message = f"must be from 1 to {outfits}, what there is and has an image, got {options.outfits}"
            problems.append(Problem("--outfits", message))
    if options.action == "dataset" and not 0 <= options.confound <= 1:
        problems.append(Problem("--confound", f"must be in [0, 1], got {options.confound}"))
    if options.action == "dataset" and options.out.is_dir() and any(options.out.iterdir()):
        problems.append(Problem("--out", f"{options.out} is not empty", "name a new folder"))
    if problems:
        raise InputError(problems, subject=f"dollhouse {options.action}")


def _size(text: str) -> tuple[int, int]:
    """Read WxH; what is none gives 0 x 0."""
    found = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _draw(options: argparse.Namespace) -> int:
    """Draw dolls side by side, as square as the count allows."""
    import math

    import numpy as np
    from PIL import Image, PngImagePlugin

    from lorasweep.dollhouse import world
    from lorasweep.dollhouse.world.dataset import sample_subject_spec

    width_px, height_px = _size(options.size)
    rng = np.random.default_rng(options.seed)
    subject = world.SUBJECTS[options.subject] if options.subject else None
    columns = math.ceil(math.sqrt(options.count))
    rows = math.ceil(options.count / columns)
    sheet = Image.new("RGB", (columns * (width_px + 2), rows * (height_px + 2)), "white")
    for index in range(options.count):
        spec = world.sample_spec(rng) if subject is None else sample_subject_spec(rng, subject)
        place = (index % columns * (width_px + 2) + 1, index // columns * (height_px + 2) + 1)
        sheet.paste(world.render(spec, width_px, height_px), place)
    marked = PngImagePlugin.PngInfo()
    marked.add_text("Software", "lorasweep")
    sheet.save(options.out, format="png", pnginfo=marked)
    print(options.out)
    return 0


def _dataset(options: argparse.Namespace) -> int:
    """Write a dataset folder that `lorasweep train dataset.path=...` reads like any other."""
    from lorasweep.dollhouse import world

    folder = world.write_dataset(
        options.out,
        subject=options.subject,
        images=options.images,
        outfits=options.outfits,
        confound=options.confound,
        repeats=options.repeats,
        seed=options.seed,
    )
    print(f"{folder}\ntrain on it: lorasweep train dataset.path={folder}")
    return 0
