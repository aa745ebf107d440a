"""Command line of the benchmark; see the package.

python -m benchmarks.overcooking run --home DIR [--processes 4] [--budget 60m] [--steps 320] [--rungs 8]
python -m benchmarks.overcooking report --home DIR [--page docs/overcooking.md]
python -m benchmarks.overcooking rejudge --home DIR --into OTHER [--as-files] [KEY=VALUE ...]
python -m benchmarks.overcooking compare --home DIR --other OTHER
python -m benchmarks.overcooking beside --home DIR [OTHER ...]
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.overcooking import cooking, grid, pictures, table
from lorasweep.core import files
from lorasweep.core.errors import InputError, Problem
from lorasweep.core.records import to_dict

PAGE = Path("docs/overcooking.md")
CONTROLS_AFTER = 8  # runs of the grid that come before the others: a first answer first


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    home = options.home.expanduser().resolve()
    os.environ["LORASWEEP_HOME"] = str(home)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        return int(options.command(options, home))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2


def run(options: argparse.Namespace, home: Path) -> int:
    """Cook what is not cooked yet, until the grid or the budget is done."""
    from benchmarks.overcooking import controls

    began = time.time()
    asked = {name: getattr(options, name) for name in ("steps", "rungs", "base", "lr_times")}
    setting = grid.Setting(**asked, identities=grid.IDENTITIES[options.identities])
    counts = pictures.Counts(**{name: getattr(options, name) for name in asdict(pictures.Counts())})
    _settle(home, options, setting, counts)
    planned = grid.runs(setting=setting)
    beside = [*controls.runs(home, setting=setting), *controls.copying_runs(home, setting=setting)]
    ordered = [*planned[:CONTROLS_AFTER], *beside, *planned[CONTROLS_AFTER:]]
    ordered = [item for item in ordered if re.search(options.only, item.name)]
    until = began + options.budget
    for line in cooking.cook_all(ordered, home, processes=options.processes, until=until, counts=counts):
        print(f"{(time.time() - began) / 60:5.1f} min  {line}", flush=True)
    left = sum(cooking.status_of(home / "runs" / item.name) not in cooking.FINAL for item in ordered)
    print(f"{left} of {len(ordered)} runs are left{'; the same command goes on' if left else ''}")
    return 0


def _settle(home: Path, options: argparse.Namespace, setting: grid.Setting, counts: pictures.Counts) -> None:
    """Write the settings down, or refuse those, or other pictures, that another call in this home contradicts."""
    fixed = to_dict(setting) | {"counts": asdict(counts)}
    path = home / table.SETTINGS
    before = table.settings(home) if path.exists() else fixed
    if differ := [name for name, value in fixed.items() if before[name] != value]:
        message = f"was begun with other {', '.join(differ)}: {[before[name] for name in differ]}"
        raise InputError(Problem(str(home), message, "use the same, or another --home"), subject="--home")
    per_rung = sum(asdict(counts).values()) - counts.replicas
    how = {"processes": options.processes, "budget": f"{options.budget / 60:g}m", "pictures": per_rung}
    files.write_json(path, fixed | how)


def report(options: argparse.Namespace, home: Path) -> int:
    """Answer every question from what is there: write the figures and the page, print the headline."""
    from benchmarks.overcooking import analysis, controls, figures, page, story

    checkpoints = _judged(home)
    found = analysis.analyse(checkpoints)
    found["controls"] = controls.judged(table.load_controls(home))
    found["copying"] = controls.copied(table.load_copying(home))
    found["facts"] = page.gather_facts(home, checkpoints)
    files.write_json(home / "analysis.json", _without_nan(found))
    folder = options.page.parent / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    figures.bars(found, folder / "overcooking_areas.png")
    figures.regrets(found, folder / "overcooking_regret.png")
    chosen = story.choose(list(table.by_run(checkpoints).values()))
    caption = "" if chosen is None else story.draw(chosen, home, folder / "overcooking_story.png")
    files.write_text(options.page, page.write(found, pictures="pictures", story=caption))
    for name in [name for name in found["auroc"] if name.startswith("O")]:
        print(f"area    {page.span(found['auroc'][name], 3)}  {name}")
    for name, row in found["stopping"]["stoppers"].items():
        print(f"regret  {page.span(row['regret'], 3)}  {name}")
    print(f"wrote {options.page} and its figures in {folder}")
    return 0


def rejudge(options: argparse.Namespace, home: Path) -> int:
    """Judge the checkpoints of a home otherwise."""
    from benchmarks.overcooking import rejudging

    for name in rejudging.rejudge(home, options.into, options.overrides, only=options.only, as_files=options.as_files):
        print(name, flush=True)
    return 0


def compare(options: argparse.Namespace, home: Path) -> int:
    """Print what another way of judging costs in truth."""
    from benchmarks.overcooking import page, rejudging

    found = rejudging.compare(home, options.other)
    for name, value in found.items():
        rows = value if isinstance(value, list) else [value]
        print(f"{name:14s}", *(page.span(row, 3) if isinstance(row, dict) else row for row in rows), sep="  ")
    return 0


def beside(options: argparse.Namespace, home: Path) -> int:
    """Print one table of homes."""
    from benchmarks.overcooking import beside

    homes = [home, *options.others]
    print(beside.write({each.name: beside.column(each, _judged(each)) for each in homes}), end="")
    return 0


def _judged(home: Path) -> list[table.Checkpoint]:
    if checkpoints := table.load(home):
        return checkpoints
    raise InputError(Problem(str(home), "holds no judged checkpoint", "`run` comes first"), subject="--home")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overcooking", description=(__doc__ or "").split("\n")[0]
    )
    commands = parser.add_subparsers(required=True)
    cook = commands.add_parser("run", help="cook the grid, or go on with it")
    cook.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    cook.add_argument("--budget", type=duration, default=duration("8h"), help="wall time: 90s, 60m, 2h")
    cook.add_argument("--steps", type=int, default=grid.Setting.steps)
    cook.add_argument("--rungs", type=int, default=grid.Setting.rungs)
    cook.add_argument("--base", choices=grid.SAMPLING, default=grid.Setting.base)
    cook.add_argument("--lr-times", type=float, default=grid.Setting.lr_times, help="of every learning rate")
    cook.add_argument("--identities", choices=grid.IDENTITIES, default="by_hand")
    for name, count in asdict(pictures.Counts()).items():
        cook.add_argument(f"--{name}", type=int, default=count, help=f"pictures of the witness: {name}")
    cook.set_defaults(command=run)
    tell = commands.add_parser("report", help="write the page and its figures")
    tell.add_argument("--page", type=Path, default=PAGE)
    tell.set_defaults(command=report)
    again = commands.add_parser("rejudge", help="judge the checkpoints of a home otherwise")
    again.add_argument("--into", type=Path, required=True, help="folder of the judgements")
    again.add_argument("--as-files", action="store_true", help="as `judge` does what `export` writes, in fp16")
    again.add_argument("overrides", nargs="*", help="KEY=VALUE, on top of the product's own sampling and metrics")
    again.set_defaults(command=rejudge)
    against = commands.add_parser("compare", help="what another way of judging costs in truth")
    against.add_argument("--other", type=Path, required=True, help="folder of the other judgements")
    against.set_defaults(command=compare)
    side_by_side = commands.add_parser("beside", help="one table of homes: other bases, other identities")
    side_by_side.add_argument("others", nargs="*", type=Path, help="folders of the other runs")
    side_by_side.set_defaults(command=beside)
    for command in (cook, again):
        command.add_argument("--only", default="", help="regular expression that the names of runs must match")
    for command in (cook, tell, again, against, side_by_side):
        command.add_argument("--home", type=Path, required=True, help="folder of the runs")
    return parser


def duration(text: str) -> float:
    """Seconds of `90s`, `60m` or `2h`; minutes when there is no unit. Anything else is an ArgumentTypeError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"must be like 90s, 60m or 2h, got {text!r}")
    return float(match[1]) * {"s": 1, "m": 60, "": 60, "h": 3600}[match[2]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
